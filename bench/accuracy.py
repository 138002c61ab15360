"""How far every backend is from the reference, in ULP; how far from the truth, tests/README.md tells."""

import numpy as np

import fastnn
from fastnn.backends import load
from fastnn.optable import OPS

DTYPES = ["float32", "float64"]
BITS = {"float32": np.uint32, "float64": np.uint64}
BACKENDS = [name for name in fastnn.backends() if name != "reference"]


def bit_patterns(rng, dtype, count):
    """Finite numbers with every exponent alike, and the edges."""
    patterns = rng.integers(0, np.iinfo(BITS[dtype]).max, count, dtype=BITS[dtype], endpoint=True).view(dtype)
    info = np.finfo(dtype)
    edges = [0, info.smallest_subnormal, info.tiny, info.eps, 1, 88.7, 103.9, 709.7, 745.1, info.max]
    edges = np.array([*edges, *(-e for e in edges)], dtype)
    return np.concatenate([patterns[np.isfinite(patterns)], edges])


def examples(op, rng, dtype):
    for shape in (*op.shapes, *op.large):
        yield op.example(rng, shape, dtype)
    if op.takes_any_numbers:
        yield (bit_patterns(rng, dtype, 100_000),)


def rows(advance):
    """One row for each op and dtype: the largest distance on each backend."""
    rng = np.random.default_rng(0)
    found = []
    for dtype in DTYPES:
        for op in OPS.values():
            worst = dict.fromkeys(BACKENDS, 0.0)
            for args in examples(op, rng, dtype):
                expected, floors = op.reference(*args), op.floors(*args)
                for backend in BACKENDS:
                    result = getattr(load(backend), op.name)(*args)
                    worst[backend] = max(worst[backend], *op.apart(result, expected, floors))
            found.append({"what": op.name, "dtype": dtype, "promised": np.max(op.ulp).item(), "ulp": worst})
            advance()
    return found


COUNT = len(DTYPES) * len(OPS)
