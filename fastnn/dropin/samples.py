"""Other numbers for the arguments of a call: small and large ones, zeros, and those that are none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from fastnn.dropin.states import Args, Names, copied, walk
from fastnn.trials.base import Path

MANY = 64
PERIOD = 4093  # a prime, so that rows differ


class Samples:
    """
    Arguments of the kind of others.

    Parameters
    ----------
    args : tuple
    names : tuple of str or None
        As in `walk`.
    """

    def __init__(self, args: Args, names: Names) -> None:
        self.args, self.names = args, names
        self.leaves = dict(walk(args, names))
        arrays = [path for path, leaf in self.leaves.items() if is_float_array(leaf)]
        of_self = names is not None
        self.one_hot = {path for path, leaf in self.leaves.items() if is_one_hot(leaf)}
        self.first = next((path for path in arrays if path[0] == of_self), None)
        largest = max([self.leaves[path].size for path in arrays], default=MANY)
        # Whole numbers may be indices of these.
        self.classes = min([self.leaves[path].shape[-1] for path in arrays if self.leaves[path].ndim > 1], default=0)
        # Few numbers at a time show little.
        self.seeds = range(1, 3 + min(16, MANY // max(1, largest)))

    def filled(
        self,
        seed: int,
        size: float,
        domain: str,
        *,
        soft: bool = False,
        wide: bool = False,
        zeros: bool = False,
        special: bool = False,
        alike: float | None = None,
        operands: tuple[Path, ...] = (),
        free: bool = False,
        positive: Collection[Path] | None = None,
    ) -> Args:
        """
        Them with other numbers.

        Parameters
        ----------
        seed : int
            With 0 no two of a few numbers are alike, so that it shows where each comes from.
        size : float
            The largest.
        domain : str
            As in `fastnn.trials.base.Rule`.
        soft : bool, optional
            Whether one-hot rows become any numbers.
        wide : bool, optional
            Whether numbers that lie from 0 to 1 become any numbers.
        zeros, special : bool, optional
            Whether -0.0, or infinities and NaN are among them.
        alike : float, optional
            All of this sign, half of the arrays equal throughout; 0 for zeros.
        operands : tuple of path, optional
            Change the scalars there, too.
        free : bool, optional
            Change all floats, too.
        positive : collection of path, optional
            Where no number is negative; if it is not given, in attributes.
        """
        rng = np.random.default_rng(seed)

        def change(path: Path, value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return other_scalar(operands, free, path, value)
            if value.dtype.kind == "b":
                return rng.random(value.shape) < 0.5
            if value.dtype.kind in "iu":
                if is_one_hot(value) and not soft:
                    return _rows(rng, value)
                return self._whole(rng, value)
            if value.dtype.kind != "f":
                return value
            if path in self.one_hot and not soft:
                return _rows(rng, value)
            above = domain == "positive" or (self.names is not None and path[0] == 0)
            if positive is not None:
                above = path in positive
            unit = (domain == "unit" and not wide) or (domain == "kept" and path != self.first)
            x = _numbers(rng, value, size, unit, above, zeros, special, seed > 0 or value.size > 2)
            if alike is None:
                return x
            x = (np.abs(x) + value.dtype.type(0.001)) * value.dtype.type(1 if unit or above else alike) + 0  # no -0.0
            return np.full_like(x, x.flat[0]) if x.size and rng.random() < 0.5 else x

        return copied(self.args, self.names, change)

    def _whole(self, rng: np.random.Generator, like: Any) -> Any:
        """Other whole numbers: as indices where they may be some, or those that are there."""
        if not like.size or like.min() < 0:
            return rng.permutation(like.reshape(-1)).reshape(like.shape)
        most = int(like.max())
        if like.ndim == 1 and most < self.classes:
            most = self.classes - 1
        elif most == like.min():
            most += 1  # all are one, which shows nothing
        return rng.integers(0, most, like.shape, endpoint=True).astype(like.dtype)


def _numbers(
    rng: np.random.Generator, like: Any, size: float, unit: bool, positive: bool, zeros: bool, special: bool, all: bool
) -> Any:
    """Numbers up to a size, small and large ones; 0 and the smallest there are among them, too, if it is to be all."""
    if like.size > PERIOD:
        some = _numbers(rng, np.empty(PERIOD, like.dtype), size, unit, positive, zeros, special, all)
        return np.resize(some, like.shape)
    shape, info = like.shape, np.finfo(like.dtype)
    size = min(size, float(info.max) / 4)
    if unit:
        x = rng.random(shape) ** rng.choice([1, 8], shape)
        _put(rng, x, [0.0, 1.0] if all else [])
    else:
        small = min(size, 1.0) * 10.0 ** rng.uniform(-6, 0, shape)
        x = np.where(rng.random(shape) < 0.5, small, rng.uniform(0, size, shape))
        if not positive:
            x *= rng.choice([-1.0, 1.0], shape)
        places = [0.0, float(info.smallest_subnormal), float(info.tiny), size, *([] if positive else [-size])]
        _put(rng, x, places if all else [])
    if zeros:
        _put(rng, x, [-0.0])
    if special:
        _put(rng, x, [np.nan, np.inf, *([] if unit or positive else [-np.inf])])
    return x.astype(like.dtype)


def _put(rng: np.random.Generator, x: Any, values: list[float]) -> None:
    """Values at random places, in at most a third of all, or in half of the arrays of less than three."""
    if x.size > 2 or (x.size and rng.random() < 0.5):
        places = rng.choice(x.size, min(len(values), max(1, x.size // 3)), replace=False)
        x.reshape(-1)[places] = rng.permutation(values)[: len(places)]


def other_scalar(operands: tuple[Path, ...], free: bool, path: Path, value: Any) -> Any:
    """A scalar that is an operand, or a float where floats are free, as another."""
    if type(value) is int:
        return value + 1 if path in operands else value
    if isinstance(value, float | np.floating) and (free or path in operands):
        # From 0 to 1 stays from 0 to 1: rates and shares are there.
        return type(value)(value * 0.875 if 0 < value < 1 else value * 1.375 + 0.25)
    return value


def _rows(rng: np.random.Generator, x: Any) -> Any:
    return x[rng.permutation(len(x))] if x.ndim else x


def is_float_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def is_one_hot(t: Any) -> bool:
    if not isinstance(t, np.ndarray) or t.ndim != 2 or t.dtype.kind not in "iuf" or not t.size:
        return False
    return bool(np.all((t == 0) | (t == 1)) and np.all((t == 1).sum(axis=1) == 1))
