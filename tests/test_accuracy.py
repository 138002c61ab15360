"""exp, log and the ops of single numbers, each against what is true, to the figures of README.md, beside it."""

import importlib.util
import math
import re
from functools import lru_cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
from conftest import COMPILED
from promises import PAGE, PROMISES

import fastnn
from fastnn.backends import load
from fastnn.optable import OPS
from fastnn.optable.base import Truth

ROOT = Path(__file__).parents[1]
DTYPES = [np.float32, np.float64]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

STRIDE = 1009
CHUNK = 1 << 15
SAMPLES = 10_000_000
# The one number of 2**32 whose sigmoid was once more than 2 ULP off, without an FMA.
WORST = np.array([-6.532424], np.float32)

mp = mpmath.mp.clone()
mp.dps = 40

# exp and log are no ops, but what some are made of; only compiled backends have them.
TRUTHS = {
    "exp": Truth(lambda mp, x: mp.exp(x), between=(-746, 710)),
    "log": Truth(lambda mp, x: mp.log(x), between=(0.5, 2)),
} | {name: op.truth for name, op in OPS.items() if op.truth}

LONG = np.finfo(np.longdouble).nmant >= 63

# The functions that the kernels are made of, compiled as the kernels are.
VMATH = """
def {name}{bits}(size_t x, size_t y, Py_ssize_t n):
    cdef Py_ssize_t i
    for i in range(n):
        (<{real}*> y)[i] = vmath.{name}{bits}((<const {real}*> x)[i])
"""


def module_from(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def vmath(tmp_path_factory):
    """VMATH for each compiled backend of this machine."""
    pytest.importorskip("Cython")
    setuptools, errors = pytest.importorskip("setuptools"), pytest.importorskip("setuptools.errors")
    build_script = module_from("build_script", ROOT / "setup.py")
    folder = tmp_path_factory.mktemp("vmath")
    functions = [
        VMATH.format(name=name, bits=bits, real=real)
        for name in ("exp", "exp_of_nonpositive", "log")
        for bits, real in ((32, "float"), (64, "double"))
    ]
    (folder / "vmath.pyx").write_text("\n".join(["from fastnn._kernels cimport vmath", *functions]))
    names = [f"{name.replace('-', '_')}.vmath" for name in COMPILED]
    options = {"build_lib": str(folder), "build_temp": str(folder / "build")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(Path(fastnn.__file__).parents[1])  # where Cython finds fastnn's .pxd
        command = build_script.BuildKernels(
            setuptools.Distribution({"ext_modules": [setuptools.Extension(name, ["vmath.pyx"]) for name in names]})
        )
        vars(command).update(options)
        command.ensure_finalized()
        try:
            command.run()
        except (SystemExit, errors.PlatformError) as error:
            pytest.skip(f"no compiler: {error}")
        paths = [command.get_ext_fullpath(name) for name in names]
        return dict(zip(COMPILED, map(module_from, names, paths), strict=True))


@pytest.fixture
def function(request):
    """(name, backend) to a function of arrays: an op as installed, or one of VMATH."""

    def find(name, backend):
        if name in OPS:
            return getattr(load(backend), name)
        module = request.getfixturevalue("vmath")[backend]

        def call(x):
            x, y = np.ascontiguousarray(x), np.empty_like(x)
            getattr(module, f"{name}{8 * x.itemsize}")(x.ctypes.data, y.ctypes.data, x.size)
            return y

        return call

    return find


@np.errstate(all="ignore")
def truth(name, x):
    """In a wider dtype, or by mpmath where there is none."""
    if x.dtype == np.float64 and not LONG:
        return exact(name, x)
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    return (OPS[name].reference if name in OPS else getattr(np, name))(wide)


def exact(name, x):
    return np.array([TRUTHS[name].exact(mp, mp.mpf(v)) for v in x.tolist()], object)


@np.errstate(all="ignore")
def ulps(y, truth):
    """Distances from the truth in spacings that y's floats have there.

    Infinity counts as the number after the largest, so that an overflow is due beyond that and allowed just below.
    """
    info = np.finfo(y.dtype)
    wide, frexp = (mp.mpf, np.frompyfunc(mp.frexp, 1, 2)) if truth.dtype == object else (truth.dtype.type, np.frexp)
    after = wide(2) ** int(info.maxexp)
    y, truth = np.clip(y.astype(truth.dtype), -after, after), np.clip(truth, -after, after)
    exponent = frexp(truth)[1].astype(np.intc) - 1
    exponent[truth == 0] = info.minexp
    spacing = np.ldexp(1.0, np.clip(exponent, info.minexp, info.maxexp - 1, dtype=np.intc) - int(info.nmant))
    distance = (np.abs(y - truth) / spacing).astype(np.float64)
    distance[np.isnan(distance)] = np.inf
    distance[(y != y) & (truth != truth)] = 0
    return distance


@np.errstate(all="ignore")
def edges(dtype):
    """Powers of two, where results overflow or become subnormal, and what lies beside them; zeros, infinities, NaN."""
    info = np.finfo(dtype)
    powers = np.ldexp(1.0, np.arange(info.minexp - info.nmant, info.maxexp))
    limits = np.log([float(info.max), float(info.smallest_normal), float(info.smallest_subnormal)])
    x = np.concatenate([powers, limits, [info.max]]).astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])
    x = np.append(x, np.array([0, np.inf, np.nan], dtype))
    return np.concatenate([x, -x])


@lru_cache(maxsize=1)
def sampled(name):
    """10 million float64; the bits of this generator are the same everywhere.

    A third has any bits, a third is from 2^-54 to 2^10 in size, a third is spread evenly where most happens.
    """
    bits = np.random.PCG64(0).random_raw(SAMPLES)
    exponents = ((bits >> np.uint64(52)) & np.uint64(63)) + np.uint64(1023 - 54)
    low, high = TRUTHS[name].between
    x = bits.view(np.float64)
    x[1::3] = ((bits & ~np.uint64(0x7FF << 52)) | exponents << np.uint64(52))[1::3].view(np.float64)
    x[2::3] = low + (high - low) * ((bits[2::3] >> np.uint64(11)) * 2.0**-53)
    return np.abs(x) if name == "log" else x


def patterns(first, last, step=1):
    return np.arange(first, last, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


def largest(call, name, parts):
    return max(float(ulps(call(x), truth(name, x)).max()) for x in parts)


def chunks(x):
    return (x[first : first + CHUNK] for first in range(0, len(x), CHUNK))


def table():
    """The page's figures: {(function, dtype, backend): ULP}."""
    page = PAGE.read_text(encoding="utf-8")
    lines = re.search(r"<!-- accuracy -->\n(.*?)\n<!-- /accuracy -->", page, re.DOTALL)[1].splitlines()
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells = {(row[0], row[1].split(",")[0], backend): row[i] for row in body for i, backend in enumerate(head) if i > 1}
    return {key: float(cell) for key, cell in cells.items() if re.fullmatch(r"[\d.]+", cell)}


TABLE = table()


def rounded_up(ulp):
    return math.ceil(100 * ulp) / 100


every_function = pytest.mark.parametrize(
    "name, backend",
    [(name, backend) for name in TRUTHS for backend in (*COMPILED, "reference") if name in OPS or backend in COMPILED],
)


def test_the_table_keeps_the_promise():
    assert len(TABLE) >= 18 and max(TABLE.values()) <= PROMISES["truth"]["ulp"]


def hold(worst, name, dtype, backend, figure, numbers):
    figure(f"{name}, {dtype}, {backend}: {worst:.4f} ULP at most over {numbers}")
    promised = TRUTHS[name].reference_ulp if backend == "reference" else TRUTHS[name].ulp
    assert worst <= TABLE.get((name, dtype, backend), promised)


@every_function
def test_float32_by_a_stride(function, figure, name, backend):
    first = (*COMPILED, "reference").index(backend)  # other numbers for each
    x = np.concatenate([patterns(first, 2**32, STRIDE), edges(np.float32), WORST])
    worst = largest(function(name, backend), name, chunks(x))
    hold(worst, name, "float32", backend, figure, f"every {STRIDE}th number")


@pytest.mark.slow
@every_function
def test_every_float32(function, figure, name, backend):
    parts = (patterns(first, first + CHUNK) for first in range(0, 2**32, CHUNK))
    worst = largest(function(name, backend), name, parts)
    hold(worst, name, "float32", backend, figure, "every number")
    assert rounded_up(worst) == TABLE.get((name, "float32", backend), rounded_up(worst))


@every_function
def test_float64_by_samples(function, figure, name, backend):
    x = sampled(name)[:: 31 if LONG else 10_007]
    x = np.concatenate([x, edges(np.float64)])
    if not LONG:
        x = x[np.isfinite(x) & ((name != "log") | (x > 0))]
    worst = largest(function(name, backend), name, chunks(x))
    hold(worst, name, "float64", backend, figure, f"{len(x):,} numbers")


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="needs a long double that is longer than double")
@every_function
def test_float64_by_10_million_samples(function, figure, name, backend):
    worst = largest(function(name, backend), name, chunks(np.concatenate([sampled(name), edges(np.float64)])))
    hold(worst, name, "float64", backend, figure, "10 million numbers")
    assert rounded_up(worst) == TABLE.get((name, "float64", backend), rounded_up(worst))


@pytest.mark.skipif(not LONG, reason="needs a long double that is longer than double")
@pytest.mark.parametrize("name", TRUTHS)
def test_the_truth_is_mpmaths(figure, name):
    x = np.concatenate([sampled(name)[:: SAMPLES // 2000], edges(np.float64)[::17]])
    x = x[np.isfinite(x) & ((name != "log") | (x > 0))]
    long = truth(name, x)
    info = np.finfo(np.float64)
    x, long = (a[(np.abs(long) > info.smallest_normal / info.eps**2) & (np.abs(long) < info.max)] for a in (x, long))
    # They meet in float64, a long double as two of them.
    high = long.astype(np.float64)
    low = (long - high).astype(np.float64)
    distance = np.abs(high.astype(object) + mp.mpf(0) + low - exact(name, x))
    worst = float(np.max(distance / np.spacing(np.abs(high))))
    figure(f"{name}, long double: {worst:.1e} ULP of float64 from mpmath")
    assert worst < TRUTHS[name].ulp / 1000


@pytest.mark.parametrize("name", ["exp", "log"])
@every_dtype
def test_exp_and_log_of_the_installed_kernels(kernels, figure, name, dtype):
    """Where an op gives them away: beside a logit of 0 the softmax of x < -40 is e^x, divided by what rounds to 1."""
    x = patterns(0, 2**32, STRIDE) if dtype is np.float32 else sampled(name)[::10]
    if name == "exp":
        x = x[(x < -40) & (x > (-104 if dtype is np.float32 else -746))]
        y = kernels.softmax(np.stack([np.zeros_like(x), x], axis=1))[:, 1]
    else:
        x = np.append(x[np.isfinite(x) & (x > 0)][:: 500 if dtype is np.float32 else 250], dtype(1))
        y = np.array([-kernels.cross_entropy_error(x[i : i + 1], 0, eps=0) for i in range(len(x))])
    if not LONG:
        x, y = x[:3000], y[:3000]
    worst = float(ulps(y, truth(name, x)).max())
    hold(worst, name, dtype.__name__, kernels.compiled_for, figure, f"{len(x):,} numbers, through an op")


SPECIAL = {
    "exp": ([0, -0.0, -np.inf, np.inf, np.nan], [1, 1, 0, np.inf, np.nan]),
    "log": ([1, 0, -0.0, np.inf, -1, -np.inf, np.nan], [0, -np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan]),
}


def special(name):
    if name in SPECIAL:
        return SPECIAL[name]
    x = np.array([0, -0.0, -np.inf, np.inf, np.nan])
    # mpmath has no -0.0: the reference says which zeros of an op are.
    return x, np.copysign(exact(name, x).astype(float), OPS[name].reference(x))


@every_dtype
@every_function
def test_special_values(function, name, backend, dtype):
    x, y = (np.tile(np.array(values, dtype), 20) for values in special(name))
    result = function(name, backend)(x)
    np.testing.assert_array_equal(result, y, strict=True)
    np.testing.assert_array_equal(np.signbit(result[result == 0]), np.signbit(y[y == 0]))


@every_dtype
@pytest.mark.parametrize("backend", COMPILED)
def test_exp_without_its_positive_half_is_exp(function, backend, dtype):
    x = np.concatenate([patterns(0, 2**32, STRIDE) if dtype is np.float32 else sampled("exp")[::31], edges(dtype)])
    x = x[~(x > 0)]
    np.testing.assert_array_equal(function("exp", backend)(x), function("exp_of_nonpositive", backend)(x))
