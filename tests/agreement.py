"""How far two results are apart, in units in the last place."""

from itertools import zip_longest

import numpy as np


def ulps(result, expected, floor=0.0):
    """The largest distance, in spacings of the floats at max(|expected|, floor); equal specials are 0 apart."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.dtype == expected.dtype, f"{result.dtype} instead of {expected.dtype}"
    assert result.shape == expected.shape, f"{result.shape} instead of {expected.shape}"
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(expected), np.asarray(floor, expected.dtype))
        distance = np.abs(result.astype(np.float64) - expected.astype(np.float64)) / np.spacing(size)
    return float(np.max(np.where(same, 0.0, np.nan_to_num(distance, nan=np.inf))))


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def assert_agree(op, result, expected, args):
    """`result` keeps what the op table promises beside the reference's `expected`."""
    floors = as_tuple(op.floor(*args)) if op.floor else ()
    results, expecteds = as_tuple(result), as_tuple(expected)
    assert len(results) == len(expecteds)
    for a, b, floor in zip_longest(results, expecteds, floors, fillvalue=0.0):
        distance = ulps(a, b, floor)
        assert distance <= op.ulp, f"{op.name} is {distance:.2f} ULP off, {op.ulp} are promised"
