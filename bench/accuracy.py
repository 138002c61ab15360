"""How far every backend is from the reference, and exp, log and sigmoid from their true values, in ULP.

The true values are mpmath's in float64; in float32 they are NumPy's in float64, which are as good as true.
"""

import mpmath
import numpy as np

import fastnn
from fastnn.backends import load
from fastnn.optable import OPS

DTYPES = ["float32", "float64"]
SHAPES = [(1, 10), (300, 10), (100, 50), (40, 1000), (7, 4099)]
BITS = {"float32": np.uint32, "float64": np.uint64}
SAMPLED = {"float32": 2_000_000, "float64": 3_000}
# Whose arguments may be any numbers: tried on sampled bit patterns too.
ANY_NUMBERS = ["relu", "relu_with_mask", "sigmoid", "softmax"]
BACKENDS = [name for name in fastnn.backends() if name != "reference"]


def bit_patterns(rng, dtype, count):
    """Finite numbers with every exponent alike, and the edges."""
    patterns = rng.integers(0, np.iinfo(BITS[dtype]).max, count, dtype=BITS[dtype], endpoint=True).view(dtype)
    info = np.finfo(dtype)
    edges = [0, info.smallest_subnormal, info.tiny, info.eps, 1, 88.7, 103.9, 709.7, 745.1, info.max]
    edges = np.array([*edges, *(-e for e in edges)], dtype)
    return np.concatenate([patterns[np.isfinite(patterns)], edges])


def examples(op, rng, dtype):
    for shape in SHAPES:
        yield op.example(rng, shape, dtype)
    if op.name in ANY_NUMBERS:
        yield (bit_patterns(rng, dtype, 100_000),)


def exp_of(kernels, x):
    # Beside a logit of 0 the softmax of x < -40 is e^x, divided by a sum that rounds to 1.
    return kernels.softmax(np.stack([np.zeros_like(x), x], axis=1))[:, 1]


def log_of(kernels, x):
    return np.array([-kernels.cross_entropy_error(x[i : i + 1], 0, eps=0) for i in range(len(x))])


def logistic(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def truths(rng, dtype):
    """What to call, arguments, and the true values, for exp, log and sigmoid."""
    lowest = -103 if dtype == "float32" else -745
    count = SAMPLED[dtype]
    numbers = bit_patterns(rng, dtype, count)
    near = rng.uniform(-20, 20, count).astype(dtype)
    with mpmath.workdps(40):
        cases = {
            "exp": (exp_of, rng.uniform(lowest, -40, count).astype(dtype), np.exp, mpmath.exp),
            "log": (log_of, np.abs(numbers[numbers != 0])[-3000:], np.log, mpmath.log),
            "sigmoid": (
                lambda kernels, x: kernels.sigmoid(x),
                np.concatenate([numbers[np.abs(numbers) < -lowest], near]),
                logistic,
                lambda x: 1 / (1 + mpmath.exp(-x)),
            ),
        }
        for name, (function, x, wide, exact) in cases.items():
            if dtype == "float32":
                yield name, function, x, wide(x.astype(np.float64))
            else:
                yield name, function, x, np.array([exact(mpmath.mpf(float(v))) for v in x], object)


def distance(y, truth):
    """In spacings of y's dtype at the truth, which has more digits."""
    rounded = truth.astype(y.dtype)
    spacing = np.spacing(np.abs(rounded)).astype(np.float64)
    return float(np.max(np.abs(truth - y.astype(truth.dtype)) / spacing))


def rows(advance):
    """One row for each op and dtype: the largest distance on each backend."""
    rng = np.random.default_rng(0)
    found = []
    for dtype in DTYPES:
        for name, function, x, truth in truths(rng, dtype):
            worst = {backend: distance(function(load(backend), x), truth) for backend in BACKENDS}
            found.append({"what": f"{name}, true value", "dtype": dtype, "promised": 2, "ulp": worst})
            advance()
        for op in OPS.values():
            worst = dict.fromkeys(BACKENDS, 0.0)
            for args in examples(op, rng, dtype):
                expected = getattr(fastnn.reference, op.name)(*args)
                for backend in BACKENDS:
                    result = getattr(load(backend), op.name)(*args)
                    worst[backend] = max(worst[backend], op.distance(result, expected, args))
            found.append({"what": f"{op.name}, reference", "dtype": dtype, "promised": op.ulp, "ulp": worst})
            advance()
    return found


COUNT = len(DTYPES) * (3 + len(OPS))
