"""What ``fastnn info`` reports: the machine, what runs on it and why, and settings that were measured to be faster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import count, takewhile
from statistics import median
from typing import Any, NamedTuple

from fastnn._kernels import memory
from fastnn.backends import VARIABLE, config
from fastnn.progress import bar

WORTH = 1.1  # times as fast a setting has to be before it is advised
ROUNDS = 5
TIMEOUT = 5.0  # seconds
AVX512_CORES = ("SkylakeX", "Cooperlake", "SapphireRapids")
NEEDS = {"x86-64-v4": "AVX-512", "x86-64-v3": "AVX2 and FMA", "x86-64-v2": "SSE4.2"}
ENVIRONMENT = (
    VARIABLE,
    "FASTNN_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# A process of its own, since OpenBLAS reads its variables once: the median seconds of each product in its argument.
CHILD = """
import json, sys
from statistics import median
from time import perf_counter
from timeit import Timer
import numpy as np

seconds = []
for rows, inner, columns, dtype in json.loads(sys.argv[1]):
    rng = np.random.default_rng(0)
    a, b = rng.random((rows, inner)).astype(dtype), rng.random((inner, columns)).astype(dtype)
    out = a @ b
    timer, calls, batches = Timer(lambda: np.dot(a, b, out=out)), max(1, 10**7 // (rows * inner * columns)), []
    end = perf_counter() + 0.08
    while len(batches) < 3 or perf_counter() < end:
        batches.append(timer.timeit(calls) / calls)
    seconds.append(median(batches))
print(json.dumps(seconds))
"""


class Product(NamedTuple):
    """A matrix product to be timed."""

    rows: int
    inner: int
    columns: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.rows}x{self.inner} @ {self.inner}x{self.columns} {self.dtype}"


class Trial(NamedTuple):
    """
    A setting of the environment to be tried.

    Attributes
    ----------
    variable, value : str
        The setting.
    subject : str
        What it may make faster, in words.
    products : tuple of Product
        What is timed with it and without.
    beside : mapping of str to str
        What else is set, with it and without.
    remark : str
        What to say with the advice.
    """

    variable: str
    value: str
    subject: str
    products: tuple[Product, ...]
    beside: Mapping[str, str] = {}
    remark: str = ""

    @property
    def setting(self) -> str:
        """The line for the environment."""
        return f"{self.variable}={self.value}"


AVX512_CORE = Trial(
    "OPENBLAS_CORETYPE",
    "SkylakeX",
    "matrix products",
    (Product(512, 512, 512, "float32"),),
    beside={"OPENBLAS_NUM_THREADS": "1"},  # other programs would disturb several threads more than the kernels differ
)
ONE_THREAD = Trial(
    "OPENBLAS_NUM_THREADS",
    "1",
    "small matrix products",
    (Product(100, 784, 50, "float64"), Product(10, 64, 32, "float64")),  # the books' networks
    remark="; large ones lose their threads; it depends on what else runs",
)


def report() -> dict[str, Any]:
    """
    Gather what is known of this machine, and try the settings that may be faster on it.

    Returns
    -------
    dict
        Plain values, which ``fastnn info --json`` prints.
    """
    machine = config()
    tried = trials(machine)
    steps = count(1)
    with bar("timing matrix products", 2 * ROUNDS * len(tried)) as advanced:
        measurements = [measured(trial, lambda: advanced(next(steps), "")) for trial in tried]
    return {
        "version": 1,
        "config": machine,
        "why this backend": why(machine),
        "cache": memory.memory_stats(),
        "numpy simd": numpy_simd(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "measurements": measurements,
        "advice": [line for m, trial in zip(measurements, tried, strict=True) for line in advice(trial, m)],
    }


def why(machine: Mapping[str, Any]) -> str:
    """Why the active backend is the active one, and what would be better, from `fastnn.backends.config`."""
    name, best = machine["backend"], machine["backends"][0]
    if name == os.environ.get(VARIABLE):
        reason = f"chosen by {VARIABLE}"
    else:
        reason = "the best that runs here" if name == best else "chosen by the program"
    reasons = [reason] if name == best else [reason, f"{best} is the best that runs here"]
    if "generic" not in machine["instruction sets"]:
        for better in takewhile(lambda level: level != best, NEEDS):
            built = "was not built" if better in machine["instruction sets"] else f"needs {NEEDS[better]}"
            reasons.append(f"{better} {built}")
    return "; ".join(reasons)


def numpy_simd() -> dict[str, dict[str, str]]:
    """Which instruction set NumPy's own exp and log use, for each dtype."""
    try:
        from numpy.lib.introspect import opt_func_info

        targets = opt_func_info(func_name="^(exp|log)$")
    except (ImportError, AttributeError):  # it rests on a private table of NumPy's
        targets = {}
    signatures = {"float32": "ff", "float64": "dd"}
    return {
        op: {name: targets.get(op, {}).get(s, {}).get("current", "unknown") for name, s in signatures.items()}
        for op in ("exp", "log")
    }


def trials(machine: Mapping[str, Any]) -> list[Trial]:
    """The settings worth a trial on a machine, from `fastnn.backends.config`."""
    if not _knows_openblas(machine):
        return []
    found = []
    if machine["blas core"] not in AVX512_CORES and "x86-64-v4" in machine["instruction sets"]:
        found.append(AVX512_CORE)
    if machine["blas threads"] > 1:
        found.append(ONE_THREAD)
    return found


def _knows_openblas(machine: Mapping[str, Any]) -> bool:
    return "unknown" not in (machine["blas core"], machine["blas threads"])


def measured(trial: Trial, advanced: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """
    Time the products of a trial as things are and with its setting, in turns.

    Parameters
    ----------
    trial : Trial
    advanced : callable, optional
        Called after each process.

    Returns
    -------
    dict
        ``"setting"``, and ``"products"``, which holds for each product the seconds of every round, the median gain, and
        whether every round gained.  If a process failed, there are no products, and ``"failure"`` says how.
    """
    settings: list[dict[str, str]] = [{}, {trial.variable: trial.value}]
    rounds = []
    try:
        for _ in range(ROUNDS):
            times = []
            for setting in settings:
                times.append(seconds(trial.products, {**trial.beside, **setting}))
                advanced()
            rounds.append(times)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"setting": trial.setting, "products": [], "failure": _how(error)}
    products = []
    for i, product in enumerate(trial.products):
        as_is, with_it = ([times[side][i] for times in rounds] for side in (0, 1))
        gains = [a / b for a, b in zip(as_is, with_it, strict=True)]
        figures = {"as is": as_is, "with it": with_it, "gain": median(gains), "every round gained": min(gains) > 1}
        products.append({"product": str(product), **figures})
    return {"setting": trial.setting, "products": products}


def seconds(products: tuple[Product, ...], setting: Mapping[str, str]) -> list[float]:
    """The median time of each product, in a process with a setting in its environment."""
    command = [sys.executable, "-P", "-c", CHILD, json.dumps(products)]
    environment = {**os.environ, **setting}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return json.loads(run.stdout)


def _how(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    if isinstance(error, subprocess.CalledProcessError):
        return error.stderr.strip().rpartition("\n")[2] or f"exit code {error.returncode}"
    return str(error)


def advice(trial: Trial, measurement: Mapping[str, Any]) -> list[str]:
    """
    Advise a setting if a product gains `WORTH` by it, in every round, and no other loses as much.

    Parameters
    ----------
    trial : Trial
    measurement : mapping
        From `measured`.

    Returns
    -------
    list of str
        The line to put into the environment, or nothing.
    """
    products = measurement["products"]
    best = max((p["gain"] for p in products if p["every round gained"]), default=0.0)
    if best < WORTH or any(p["gain"] < 1 / WORTH for p in products):
        return []
    return [f"{trial.setting}  # {trial.subject} {best:.1f} times as fast here (measured){trial.remark}"]


def text(report: Mapping[str, Any]) -> str:
    """
    Write a report for people.

    Parameters
    ----------
    report : mapping
        From `fastnn.info.report`.

    Returns
    -------
    str
        Several lines.
    """
    machine, cache = report["config"], report["cache"]
    rows = {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in machine.items()}
    rows["backend"] += f": {report['why this backend']}"
    rows["cache"] = f"{cache['cached_bytes'] / 2**20:.0f} MiB kept, at most {cache['limit_bytes'] / 2**20:.0f} MiB"
    for op, paths in report["numpy simd"].items():
        rows[f"numpy {op}"] = ", ".join(f"{path} ({dtype})" for dtype, path in paths.items())
    environment = [f"{name}={value}" for name, value in report["environment"].items()]
    rows["environment"] = "\n".join(environment) or "nothing set"
    rows["measured"] = "\n".join(line for m in report["measurements"] for line in _lines(m)) or "nothing"
    rows["advice"] = "\n".join(report["advice"]) or _why_none(report)
    return "\n".join(f"{key:17}" + value.replace("\n", "\n" + " " * 17) for key, value in rows.items())


def _lines(measurement: Mapping[str, Any]) -> list[str]:
    setting = measurement["setting"]
    if "failure" in measurement:
        return [f"{setting} could not be tried: {measurement['failure']}"]
    lines = []
    for p in measurement["products"]:
        before, after = (f"{1e6 * median(p[side]):.1f} us" for side in ("as is", "with it"))
        unsteady = ", but not in every round" if p["gain"] >= WORTH and not p["every round gained"] else ""
        lines.append(f"{p['product']}: {before}, with {setting} {after}, {p['gain']:.2f} times as fast{unsteady}")
    return lines


def _why_none(report: Mapping[str, Any]) -> str:
    machine = report["config"]
    if not _knows_openblas(machine):
        return f"none: what could be tried is for the OpenBLAS of NumPy's wheels, and this NumPy has {machine['blas']}"
    if not report["measurements"]:
        return f"none: nothing to try with OpenBLAS's {machine['blas core']} kernels on one thread"
    return f"none: nothing that could be tried is reliably {WORTH} times as fast"
