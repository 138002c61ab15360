"""The compiled modules."""

try:
    from fastnn._kernels import cpu as cpu
except ImportError as error:
    raise ImportError(
        "fastnn's compiled modules are missing. If this is a source folder, leave it or install from it: "
        f"python -m pip install . ({error})"
    ) from error
