"""What a call is given and what it leaves behind: walked through, copied, filled with other numbers, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.arguments import Array
from fastnn.trials.base import Path

Args = tuple[Any, ...]
Names = tuple[str, ...] | None  # of the attributes of the first argument that count
SCALARS = bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic


class Unlike(Exception):
    """Two states differ, or one cannot be copied; says how."""


def walk(args: Args, names: Names) -> Iterator[tuple[Path, Any]]:
    """Every leaf of the arguments with its path: arrays, scalars and whatever is no plain container."""
    for i, value in enumerate(args):
        if i == 0 and names is not None:
            for name in names:
                if hasattr(value, name):
                    yield from _leaves(getattr(value, name), (0, name))
        else:
            yield from _leaves(value, (i,))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if type(value) in (tuple, list):
        for i, each in enumerate(value):
            yield from _leaves(each, (*path, (i,)))
    elif type(value) is dict:
        for key, each in value.items():
            yield from _leaves(each, (*path, (key,)))
    else:
        yield path, value


def things(args: Args, names: Names) -> Iterator[tuple[Path, Any]]:
    """All that is in the arguments, containers too, with the path of each."""

    def within_it(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        yield path, value
        if type(value) in (tuple, list):
            for i, each in enumerate(value):
                yield from within_it(each, (*path, (i,)))
        elif type(value) is dict:
            for key, each in value.items():
                yield from within_it(each, (*path, (key,)))

    for i, value in enumerate(args):
        if i == 0 and names is not None:
            for name in names:
                if hasattr(value, name):
                    yield from within_it(getattr(value, name), (0, name))
        else:
            yield from within_it(value, (i,))


def at(args: Args, path: Path) -> Any:
    value = args[path[0]]
    for step in path[1:]:
        value = getattr(value, step) if isinstance(step, str) else value[step[0]]
    return value


def is_plain(leaf: Any) -> bool:
    """Whether a leaf can be copied and told of completely."""
    return type(leaf) in (np.ndarray, bool, int, float, str, type(None)) or isinstance(leaf, np.generic)


class Copier:
    """Copies of arguments that share what the originals share."""

    def __init__(self, change: Callable[[Path, Any], Any] | None = None) -> None:
        self.change = change
        self.memo: dict[int, Any] = {}
        self.blocks: list[tuple[Array, Array]] = []

    def arguments(self, args: Args, names: Names) -> tuple[Any, ...]:
        return tuple(
            [
                self.instance(value, names) if i == 0 and names is not None else self.value(value, (i,))
                for i, value in enumerate(args)
            ]
        )

    def instance(self, it: Any, names: tuple[str, ...]) -> Any:
        new = object.__new__(type(it))
        if hasattr(it, "__dict__"):
            new.__dict__.update(it.__dict__)
        for name in names:
            if hasattr(it, name):
                value = self.value(getattr(it, name), (0, name))
                if name in getattr(it, "__dict__", ()) or not _is_of_class(it, name, value):
                    object.__setattr__(new, name, value)
        return new

    def value(self, value: Any, path: Path) -> Any:
        if id(value) in self.memo:
            return self.memo[id(value)]
        if type(value) is np.ndarray:
            new: Any = self.array(value, path)
        elif type(value) is list:
            new = [self.value(each, (*path, (i,))) for i, each in enumerate(value)]
        elif type(value) is tuple:
            new = tuple([self.value(each, (*path, (i,))) for i, each in enumerate(value)])
        elif type(value) is dict:
            new = {key: self.value(each, (*path, (key,))) for key, each in value.items()}
        elif isinstance(value, SCALARS):
            return self.change(path, value) if self.change else value
        else:
            new = value
        self.memo[id(value)] = new
        return new

    def array(self, a: Array, path: Path) -> Array:
        if a.dtype.hasobject:
            raise Unlike("holds objects")
        for block, twin in self.blocks:
            if np.may_share_memory(block, a):
                same = block.__array_interface__["data"][0] == a.__array_interface__["data"][0]
                if same and block.nbytes == a.nbytes and block.flags.c_contiguous and a.flags.c_contiguous:
                    view = twin.reshape(-1).view(a.dtype).reshape(a.shape)
                elif same and block.T.shape == a.shape and block.T.strides == a.strides and block.dtype == a.dtype:
                    view = twin.T
                else:
                    raise Unlike("is given arrays that share memory")
                view.flags.writeable = a.flags.writeable
                return view
        new = np.empty_like(a)
        new[...] = self.change(path, a) if self.change else a
        if new.strides != a.strides and a.size:  # neither C nor Fortran order
            whole = np.empty([2 * n for n in a.shape], a.dtype)
            view = whole[tuple([slice(None, None, 2)] * a.ndim)]
            view[...] = new
            new = view
        if not a.flags.writeable:
            new.flags.writeable = False
        self.blocks.append((a, new))
        return new


def _is_of_class(it: Any, name: str, value: Any) -> bool:
    return any(name in vars(c) and not hasattr(vars(c)[name], "__get__") for c in type(it).__mro__)


def copied(args: Args, names: Names, change: Callable[[Path, Any], Any] | None = None) -> tuple[Any, ...]:
    return Copier(change).arguments(args, names)


# ---------------------------------------------------------------- comparison

# How far two ways of computing the same may be apart, relative to the number, or to the largest of the array where
# numbers are summed.
CLOSE = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-3}


def differ(
    theirs: tuple[Any, tuple[Any, ...]],
    ours: tuple[Any, tuple[Any, ...]],
    names: Names,
    *,
    summed: float,
    signs: bool = True,
) -> str:
    """
    How what two calls have left differs: (result, arguments) each.

    Parameters
    ----------
    summed : float
        What share of the numbers is compared relative to the largest of their array alone.
    signs : bool, optional
        Whether -0.0 is told from 0.0.
    """
    result: Path = ()
    a = [(result, theirs[0]), *_all(theirs[1], names)]
    b = [(result, ours[0]), *_all(ours[1], names)]
    if [path for path, _ in a] != [path for path, _ in b]:
        return "other attributes are set"
    if _shared([value for _, value in a]) != _shared([value for _, value in b]):
        return "other arrays share memory"
    for (path, x), (_, y) in zip(a, b, strict=True):
        what = "the result" if path == () else _name(path)
        reason = _differ(x, y, summed, signs)
        if reason:
            return f"{what} {reason}"
    return ""


def _name(path: Path) -> str:
    return next((str(step) for step in path[1:] if isinstance(step, str)), "an argument")


def _all(args: Args, names: Names) -> list[tuple[Path, Any]]:
    """The leaves, and the containers as they are."""
    found: list[tuple[Path, Any]] = []
    for i, value in enumerate(args):
        if i == 0 and names is not None:
            found += [((0, name), getattr(value, name)) for name in names if hasattr(value, name)]
        else:
            found.append(((i,), value))
    return found


def _shared(values: list[Any]) -> list[tuple[int, int]]:
    """Which containers and arrays among all that is in there are one, and which arrays overlap."""
    things: list[Any] = []

    def collect(value: Any) -> None:
        if type(value) in (tuple, list):
            things.append(value)
            for each in value:
                collect(each)
        elif type(value) is dict:
            things.append(value)
            for each in value.values():
                collect(each)
        elif isinstance(value, np.ndarray):
            things.append(value)

    for value in values:
        collect(value)
    pairs = []
    first: dict[int, int] = {}
    for i, thing in enumerate(things):
        if id(thing) in first:
            if not (type(thing) is tuple and not thing):
                pairs.append((i, first[id(thing)]))
            continue
        first[id(thing)] = i
        if isinstance(thing, np.ndarray) and len(things) < 100:
            pairs += [
                (i, -1 - k)
                for k, other in enumerate(things[:i])
                if isinstance(other, np.ndarray) and np.may_share_memory(thing, other)
            ]
    return pairs


def _differ(x: Any, y: Any, summed: float, signs: bool) -> str:
    if type(x) is not type(y):
        return f"is of {type(x).__name__}, fastnn's of {type(y).__name__}"
    if isinstance(x, np.ndarray | np.generic):
        if x.dtype != y.dtype:
            return f"is of {x.dtype}, fastnn's of {y.dtype}"
        if x.shape != y.shape:
            return f"has shape {x.shape}, fastnn's {y.shape}"
        if isinstance(x, np.ndarray):
            for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE"):
                if x.flags[flag] != y.flags[flag]:
                    return "is laid out otherwise"
        return differ_in_numbers(np.asarray(x), np.asarray(y), summed, signs)
    if isinstance(x, float):
        return differ_in_numbers(np.asarray(x), np.asarray(y), summed, signs)
    if isinstance(x, tuple | list):
        if len(x) != len(y):
            return f"holds {len(x)}, fastnn's {len(y)}"
        return next(filter(None, (_differ(a, b, summed, signs) for a, b in zip(x, y, strict=True))), "")
    if isinstance(x, dict):
        if list(x) != list(y):
            return "has other keys"
        return next(filter(None, (_differ(x[key], y[key], summed, signs) for key in x)), "")
    if isinstance(x, SCALARS):
        return "" if x == y or (x != x and y != y) else f"is {x!r}, fastnn's {y!r}"
    return "" if x is y else "is another object"


def differ_in_numbers(x: Array, y: Array, summed: float, signs: bool) -> str:
    if x.dtype.kind not in "fc" or str(x.dtype) not in CLOSE:
        return "" if np.array_equal(x, y) else "has other numbers"
    if np.array_equal(x.view(f"i{x.itemsize}"), y.view(f"i{y.itemsize}")):  # as most are
        return ""
    with np.errstate(all="ignore"):
        both = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        if signs:
            both &= ~((x == 0) & (y == 0) & (np.signbit(x) != np.signbit(y)))
            finite &= (x != 0) | (y != 0)
        good = both | (finite & _near(x, y, np.abs(x)))
        if summed and np.count_nonzero(good) >= np.floor((1 - summed) * good.size):
            least = 1 if summed < 1 else 0  # a few numbers whose terms cancel may be all there are
            good |= finite & _near(x, y, np.max(np.abs(x), initial=least, where=np.isfinite(x)))
        if np.all(good):
            return ""
        at = np.unravel_index(np.argmin(good), good.shape)
        return f"has {x[at]:.7g} where fastnn's has {y[at]:.7g}"


def _near(x: Array, y: Array, scale: Any) -> Any:
    return np.abs(x - y) <= CLOSE[str(x.dtype)] * scale + np.finfo(x.dtype).tiny


def overlap(a: Any, b: Any) -> bool:
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and bool(np.may_share_memory(a, b))
