"""Where each thing that a call has left behind comes from: an output of an op, what it was given, or what is made of
these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn._kernels.gates import Source
from fastnn.dropin.states import SCALARS, Args, Names, Unlike, differ_in_numbers, overlap, walk
from fastnn.trials.base import Path

FEW = 64  # numbers, which show mostly that arrays are not the same


@dataclass(frozen=True)
class Run:
    """
    What a call of theirs on copies has left.

    Attributes
    ----------
    given : tuple
        The arguments as they were.
    things : list of (path, object)
        All that was in those it ran on, before it ran.
    result
    args : tuple
        Those it ran on, after it.
    warned : set of str
        Of what NumPy would have warned.
    """

    given: Args
    things: list[tuple[Path, Any]]
    result: Any
    args: Args
    warned: set[str]
    _written: dict[Path, bool] = field(default_factory=dict, compare=False)

    def has_written(self, path: Path, now: Any, before: Any) -> bool:
        """Whether the numbers of an array are others than before; told once for all ops that are tried."""
        if path not in self._written:
            self._written[path] = not _equal(now, before)
        return self._written[path]


class Explainer:
    """Where each thing that a call has left behind comes from."""

    def __init__(self, run: Run, outs: Any, names: Names, summed: float) -> None:
        self.run, self.names, self.summed = run, names, summed
        self.by_shape = False
        self.outs = outs if isinstance(outs, tuple) else (outs,)
        self.leaves = dict(walk(run.given, names))
        self.places = {id(thing): path for path, thing in run.things}
        self.taken: dict[int, int] = {}  # outputs, by what is explained by them

    def __call__(self, value: Any, path: Path | None = None) -> Source:
        """The source of something new; `path` is where it was put."""
        if isinstance(value, np.generic | float):
            return self._scalar(value, path)
        if isinstance(value, SCALARS):
            if type(value) is int and path in self.leaves and self.leaves[path] == value - 1:
                return Source("made", (_next, Source("leaf", path)))
            self.by_shape |= not isinstance(value, bool | str | None)  # a number may tell how many there are
            return Source("constant", value)
        if id(value) in self.places:
            return Source("leaf", self.places[id(value)])
        if isinstance(value, np.ndarray):
            return self._array(value)
        if type(value) is tuple and value and all(type(n) is int for n in value):
            self.by_shape = True  # several arrays may have this one
            return Source("constant", value)
        if type(value) in (tuple, list):
            return Source(type(value).__name__, [self(each) for each in value])
        if type(value) is dict:
            return Source("dict", {key: self(each) for key, each in value.items()})
        raise Unlike

    def _scalar(self, value: Any, path: Path | None) -> Source:
        for i, out in enumerate(self.outs):
            if np.ndim(out) == 0 and not isinstance(out, np.ndarray):
                same = out if type(out) is type(value) else type(value)(out)
                if not differ_in_numbers(np.asarray(value), np.asarray(same), True, True):
                    source = Source("out", i)
                    return source if same is out else Source("made", (type(value), source))
        if path in self.leaves and isinstance(self.leaves[path], float | np.generic):
            raise Unlike  # made from what it was
        self.by_shape = True
        return Source("constant", value)

    def _array(self, value: Any) -> Source:
        shared = [(path, thing) for path, thing in self.run.things if overlap(thing, value)]
        for path, thing in shared:
            for view in (_flat, _view, _transposed):
                if thing.ndim and _is_view(view(thing), value):
                    return Source("made", (view, Source("leaf", path)))
        if shared:
            raise Unlike
        for i, out in enumerate(self.outs):
            if self._is(value, i, out):
                return Source("out", i)
        for path, leaf in self.leaves.items():
            if type(leaf) is np.ndarray and leaf.dtype == value.dtype and leaf.shape == value.shape:
                if _equal(leaf.flat[:FEW], value.flat[:FEW]) and _equal(leaf, value):
                    return Source("made", (_copy, Source("leaf", path)))
            if value.dtype.kind == "i" and np.ndim(leaf) == 2 and _equal(_labels(leaf), value):
                return Source("made", (_labels, Source("leaf", path)))
        raise Unlike

    def _is(self, value: Any, i: int, out: Any) -> bool:
        """Whether an output is what this is, and nothing else is."""
        same = (
            type(out) is type(value)
            and out.dtype == value.dtype
            and out.shape == value.shape
            and self.taken.get(i, id(value)) == id(value)
            and not (value.dtype.kind == "f" and _is_far(value.flat[:FEW], out.flat[:FEW]))
            and not differ_in_numbers(value, out, self.summed, not self.summed)
        )
        if same:
            self.taken[i] = id(value)
        return same

    def near(self, ours: str) -> str:
        """What an op's first output would be the result but for; empty if it is another thing."""
        x, y = self.run.result, self.outs[0]
        if type(x) is not np.ndarray or type(y) is not np.ndarray or x.shape != y.shape:
            return ""
        if x.dtype != y.dtype:
            wide = np.result_type(x, y)
            same = wide.kind == "f" and not differ_in_numbers(x.astype(wide), y.astype(wide), True, False)
            return f"gives {x.dtype} where {ours} gives {y.dtype}" if same else ""
        if differ_in_numbers(x, y, self.summed, False):
            return ""
        signs = differ_in_numbers(x, y, self.summed, True)
        return f"gives -0.0 where {ours} gives 0.0" if signs else f"leaves behind something else than {ours}"

    def effects(self) -> Iterator[tuple[Path, Source]]:
        """What is set or written beside the result."""
        before = dict(self.run.things)
        for i, argument in enumerate(self.run.args):
            if i == 0 and self.names is not None:
                # New attributes come in the order of theirs.
                for name in dict.fromkeys(
                    [*(n for n in getattr(argument, "__dict__", ()) if n in self.names), *self.names]
                ):
                    if hasattr(argument, name):
                        yield from self._changes(getattr(argument, name), (0, name), before)
                    elif (0, name) in before:
                        raise Unlike
            else:
                yield from self._changes(argument, (i,), before)

    def _changes(self, value: Any, path: Path, before: dict[Path, Any]) -> Iterator[tuple[Path, Source]]:
        if path not in before:
            yield path, self(value, path)
        elif value is not before[path]:
            was = before[path]
            if not (isinstance(value, SCALARS) and type(value) is type(was) and _equal(value, was)):
                yield path, self(value, path)
        elif isinstance(value, np.ndarray):
            if self.run.has_written(path, value, self.leaves[path]):
                for i, out in enumerate(self.outs):
                    if self._is(value, i, np.asarray(out)):  # of arrays without dimensions ops make scalars
                        yield path, Source("out", i, True)
                        return
                raise Unlike
        elif type(value) is list:
            if sum(1 for p in before if p[:-1] == path) != len(value):
                raise Unlike
            for i, each in enumerate(value):
                yield from self._changes(each, (*path, (i,)), before)
        elif type(value) is dict:
            if any(p[:-1] == path and p[-1][0] not in value for p in before):
                raise Unlike
            for key, each in value.items():
                yield from self._changes(each, (*path, (key,)), before)


# What is made of a leaf.


def _copy(x: Any) -> Any:
    return x.copy()


def _flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def _view(x: Any) -> Any:
    return x[...]


def _transposed(x: Any) -> Any:
    return x.T


def _labels(t: Any) -> Any:
    return t.argmax(axis=1)


def _next(n: int) -> int:
    return n + 1


def _is_view(view: Any, value: Any) -> bool:
    a, b = view.__array_interface__, value.__array_interface__
    return a["data"] == b["data"] and view.shape == value.shape and view.strides == value.strides


def _is_far(a: Any, b: Any) -> bool:
    """Whether arrays are another thing at the first look."""
    with np.errstate(all="ignore"):
        return bool(np.any(np.abs(a - b) > 1e-3 * np.max(np.abs(a), initial=0) + 1e-6))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    return bool(a == b) or bool(a != a and b != b)
