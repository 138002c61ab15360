"""How large the terms of a sum are: the unit of its rounding, for `Op.floor`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.arguments import Array


def sizes(*arrays: np.typing.ArrayLike) -> tuple[Array, ...]:
    """Their absolute values, in the widest dtype, whose range no sum of them leaves."""
    return tuple(np.abs(np.asarray(array).astype(np.longdouble)) for array in arrays)


def or_infinite(floor: np.typing.ArrayLike, total: np.typing.ArrayLike, *arrays: np.typing.ArrayLike) -> Array:
    """Infinite where terms add up to more than the dtype of these arrays has."""
    most = np.finfo(np.result_type(*map(np.asarray, arrays), np.float16)).max
    return np.where(np.asarray(total) < most, floor, np.inf)


def column_sizes(dout: Array) -> Any:
    return np.sum(sizes(dout)[0], axis=tuple(range(np.ndim(dout) - 1)))
