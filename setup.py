"""Builds the kernels' families once per instruction set; everything else is declared in pyproject.toml.

``FASTNN_DEBUG=1``     kernels under AddressSanitizer and UndefinedBehaviorSanitizer, which check every access
``FASTNN_ANNOTATE=1``  Cython's annotated HTML beside the generated C, under ``build/cython``
``FASTNN_ONLY=NAME``   one instruction set alone, as ``x86_64_v3``: sooner done while a loop is being worked on
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

DEBUG = os.environ.get("FASTNN_DEBUG") == "1"
ANNOTATE = os.environ.get("FASTNN_ANNOTATE") == "1"
ONLY = os.environ.get("FASTNN_ONLY")

# Each level is spelt out rather than named (-march=x86-64-v3), which compilers older than GCC 11 do not know.
SSE42 = ["-msse3", "-mssse3", "-msse4.1", "-msse4.2", "-mpopcnt", "-mcx16"]
AVX2 = [*SSE42, "-mavx", "-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
GCC_FLAGS = {
    "generic": [],
    "x86_64_v2": SSE42,
    "x86_64_v3": AVX2,
    "x86_64_v4": [*AVX512, "-mprefer-vector-width=512"],
}
MSVC_FLAGS = {"generic": [], "x86_64_v2": [], "x86_64_v3": ["/arch:AVX2"], "x86_64_v4": ["/arch:AVX512"]}

GCC_COMMON = [
    "-O3",
    "-g0",
    "-std=c11",
    "-fno-math-errno",
    "-fno-trapping-math",
    # A fused multiply-add is written where it is wanted: contraction elsewhere would let backends disagree.
    "-ffp-contract=off",
]
# GCC would otherwise split a select into paths, each with its own copy of what follows: divisions twice and thrice.
# Clang knows neither flag and refuses them.
GCC_ALONE = ["-fno-tree-pre", "-fno-thread-jumps"]
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
GCC_DEBUG = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-DFASTNN_DEBUG",
    # Python is built with integers that wrap around as a rule, which hides their overflow.
    "-fstrict-overflow",
    SANITIZERS,
    "-fno-sanitize-recover=all",
]
MSVC_COMMON = ["/O2", "/fp:precise"]

NO_COMPILER = (
    "fastnn-kernels is being built from source and needs a C compiler, but {compiler!r} was not found. Install one "
    "(Debian/Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install; Windows: "
    "the Visual Studio Build Tools) and try again."
)
NO_HEADERS = (
    "fastnn-kernels is being built from source and needs Python's C headers, but {header} does not exist. "
    "Install them (Debian/Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel) and try again."
)


def instruction_sets() -> list[str]:
    # A macOS universal2 build compiles one source for two machines at once, so it can name no instruction set.
    x86 = sysconfig.get_platform().replace("_", "-").endswith(("x86-64", "amd64"))
    every = ["x86_64_v2", "x86_64_v3", "x86_64_v4"] if x86 else ["generic"]
    if ONLY and ONLY not in every:
        sys.exit(f"FASTNN_ONLY is {ONLY!r}; for this machine it may be {', '.join(every)}")
    return [ONLY] if ONLY else every


def modules() -> list[Extension]:
    """What has loops, the families, once for each instruction set; the rest once, for the oldest machine.

    The same families are on the floor of the loops.
    """
    kernels = Path("fastnn", "_kernels")
    sources = sorted(kernels.glob("*.pyx"))
    families = [source for source in sources if (kernels / "loops" / f"{source.stem}.pxd").exists()]
    names = [(f"fastnn._kernels.{source.stem}", source) for source in sources if source not in families]
    names += [(f"fastnn._kernels.{target}.{f.stem}", f) for target in instruction_sets() for f in families]
    return [Extension(name, [source.as_posix()]) for name, source in names]


def instruction_set(ext: Extension) -> str:
    """Of the folder that a module is in; none for what is compiled once."""
    folder = ext.name.split(".")[-2]
    return folder if folder in GCC_FLAGS else ""


class BuildKernels(build_ext):
    translating = threading.Lock()

    def build_extensions(self):
        import numpy

        self.need_compiler()
        self.parallel = self.parallel or (os.cpu_count() or 1) + 1
        msvc = self.compiler.compiler_type == "msvc"
        common = MSVC_COMMON if msvc else GCC_COMMON if self.is_clang() else GCC_COMMON + GCC_ALONE
        for ext in self.extensions:
            target = instruction_set(ext)
            if msvc:
                ext.extra_compile_args = common + MSVC_FLAGS.get(target, [])
            else:
                ext.extra_compile_args = common + GCC_FLAGS.get(target, []) + (GCC_DEBUG if DEBUG else [])
                ext.extra_link_args = [SANITIZERS] if DEBUG else []
            ext.include_dirs = [numpy.get_include()]
            ext.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
        super().build_extensions()

    def build_extension(self, ext):
        # Threads run this. Cython is translated by one of them at a time, while the compiler runs for the others.
        with self.translating:
            self.translate(ext)
        super().build_extension(ext)

    def translate(self, ext):
        """Cython's part, if something has changed."""
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError as NotTranslated

        try:
            [made] = cythonize(
                [ext],
                build_dir=str(Path("build", "cython", instruction_set(ext))),
                annotate=ANNOTATE,
                quiet=True,
                compiler_directives={"language_level": "3", "freethreading_compatible": True, "cdivision": True},
            )
        except NotTranslated as error:  # which has been shown
            raise CompileError(str(error)) from None
        ext.sources, ext.depends = made.sources, [*made.depends, __file__]

    def copy_extensions_to_source(self):
        made = {Path(self.get_ext_fullpath(ext.name)).resolve() for ext in self.extensions}
        for path in made:
            path.parent.mkdir(exist_ok=True)
        # A module that is no longer built would still be imported.
        for path in Path("fastnn", "_kernels").resolve().rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            if path not in made:
                path.unlink()
        super().copy_extensions_to_source()

    def is_clang(self) -> bool:
        # Its name does not say it: macOS's is called gcc, too.
        macros = subprocess.run(
            [*self.compiler.compiler_so, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=True
        )
        return "__clang__" in macros.stdout

    def need_compiler(self):
        if self.compiler.compiler_type == "unix":
            compiler = self.compiler.compiler_so[0]
            if shutil.which(compiler) is None:
                sys.exit(NO_COMPILER.format(compiler=compiler))
            header = Path(sysconfig.get_path("include"), "Python.h")
            if not header.exists():
                sys.exit(NO_HEADERS.format(header=header))


if __name__ == "__main__":  # tests compile functions of the kernels with these flags
    setup(ext_modules=modules(), cmdclass={"build_ext": BuildKernels})
