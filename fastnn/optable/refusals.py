"""Calls that are wrong in the same way for many ops; what is wrong for one op alone stands beside its row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.arguments import Array
from fastnn.optable.base import Op, Refused

Args = tuple[Any, ...]

NO_REAL_NUMBERS: Args = (None, "text", ["a", "b"], 1j, [1j, 2j], [None, 1], np.array(["2020"], "M8"))
NO_NUMBERS: Args = ("0.1", None, 1j, np.array([0.1]), [0.1])
NOT_FINITE: Args = (np.nan, np.inf, -np.inf, 10**400, -(10**400), np.longdouble("1e4000"))
NO_NAMES: Args = ("no such name", "", "ReLU", None, 1, b"relu", ("relu",), np.array(["relu"]), np.array("softmax"))


def replaced(args: Args, position: int, value: Any) -> Args:
    return (*args[:position], value, *args[position + 1 :])


def arrays(op: Op, args: Args) -> Iterator[tuple[int, str, Array]]:
    """Those among the arguments, with their positions and names."""
    for position, (name, value) in enumerate(zip(op.names, args, strict=True)):
        if isinstance(value, np.ndarray):
            yield position, name, value


def no_real_numbers(op: Op, args: Args) -> Iterator[Refused]:
    for position, name, _ in arrays(op, args):
        for bad in NO_REAL_NUMBERS:
            match = f"^{re.escape(name)} must be an array of real numbers"
            yield Refused(replaced(args, position, bad), {}, TypeError, match)
        ragged = replaced(args, position, [[1.0, 2.0], [3.0]])
        yield Refused(ragged, {}, ValueError, f"^{re.escape(name)} is not an array")


def masked(op: Op, args: Args) -> Iterator[Refused]:
    for position, name, array in arrays(op, args):
        bad = np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
        for given, word in ((bad, "is"), ([bad], "holds")):
            yield Refused(replaced(args, position, given), {}, TypeError, f"^{re.escape(name)} {word} a masked array")


def other_shapes(op: Op, args: Args) -> Iterator[Refused]:
    """For ops whose arrays, if there are several, must have the same shape."""
    given = [*arrays(op, args)]
    for position, _, array in given if len(given) > 1 else ():
        scalars = [array.dtype.type(1)] if position else []  # the first may have to have a dimension
        for bad in (array[1:], array[..., 1:], array[..., np.newaxis], array.T, array[0], *scalars):
            yield Refused(replaced(args, position, bad), {}, ValueError, "has shape .* they must be the same")


def bad_shapes(op: Op, args: Args) -> Iterator[Refused]:
    for shape in op.bad_shapes:
        wrong = op.example(np.random.default_rng(0), shape, args[0].dtype)
        yield Refused(wrong, {}, ValueError, "is empty|must have at least 1 dimension")


def bad_numbers(op: Op, args: Args) -> Iterator[Refused]:
    """For numbers among the arguments, such as a learning rate."""
    for position, (name, value) in enumerate(zip(op.names, args, strict=True)):
        if isinstance(value, float):
            for bad in NO_NUMBERS:
                yield Refused(replaced(args, position, bad), {}, TypeError, f"^{name} must be a number, not")
            for bad in NOT_FINITE:
                match = f"^{name} (must be a finite number|is too large)"
                yield Refused(replaced(args, position, bad), {}, ValueError, match)
        elif isinstance(value, int):
            for bad in (*NO_NUMBERS, np.nan, 1.0, np.longdouble(1)):
                yield Refused(replaced(args, position, bad), {}, TypeError, f"^{name} must be a whole number, not")


def bad_options(op: Op, args: Args) -> Iterator[Refused]:
    """For the optional arguments, but `out`."""
    for name, parameter in op.parameters.items():
        if name == "eps":
            for bad in (-1e-7, *NOT_FINITE):
                yield Refused(args, {name: bad}, ValueError, "^eps (must be a finite number|is too large)")
            for bad in NO_NUMBERS:
                yield Refused(args, {name: bad}, TypeError, "^eps must be a number, not")
        elif name == "dout" and parameter.default == 1.0:
            yield Refused(args, {name: np.ones(4)}, ValueError, r"^dout must be a single number .*\(4,\)")
            yield Refused(args, {name: 10**400}, ValueError, "^dout is too large")
            for bad in ("1", None, 1j):
                yield Refused(args, {name: bad}, TypeError, "^dout must be an array of real numbers")
        elif isinstance(parameter.default, int):
            for bad in (*NO_NUMBERS, np.nan, 1.0):
                yield Refused(args, {name: bad}, TypeError, f"^{name} must be a whole number, not")
        elif isinstance(parameter.default, str):
            for bad in NO_NAMES:
                yield Refused(args, {name: bad}, ValueError, f"^{name} must be one of {parameter.default}, ")


def bad_outputs(op: Op, args: Args) -> Iterator[Refused]:
    likes = op.received(op.reference(*args)) if op.out else ()
    others = tuple(np.full_like(like, 7) for like in likes)
    for place, like in enumerate(likes):
        name = rf"^out\[{place}\]" if len(likes) > 1 else "^out"
        for bad, error, word in unfit_outputs(like):
            yield Refused(args, {"out": op.as_out(replaced(others, place, bad))}, error, f"{name} .*{word}")
        for given, outs in overlapping(op, args, others, place):
            yield Refused(given, {"out": op.as_out(outs)}, ValueError, f"{name} overlaps")
    if len(likes) > 1:
        match = f"^out must be a tuple of {len(likes)} arrays or None"
        for wrong in ([*others], others[0], others[:-1], (*others, None), others[0].tolist(), "out", 1.0):
            yield Refused(args, {"out": wrong}, TypeError, match)


def overlapping(op: Op, args: Args, outs: Args, place: int) -> Iterator[tuple[Args, Args]]:
    """Arguments and outputs of which the one at this place overlaps what it may not."""
    like, allowed = outs[place], [*op.out.values()][place]
    for position, argument, array in arrays(op, args):
        for moved, out, itself in in_one_memory(array, like) if array.dtype == like.dtype else ():
            if not (itself and argument in allowed):
                yield replaced(args, position, moved), replaced(outs, place, out)
    for earlier in range(place):
        for one, other, _ in in_one_memory(outs[earlier], like):
            if one.flags.c_contiguous:
                yield args, replaced(replaced(outs, earlier, one), place, other)


def unfit_outputs(like: Array) -> Iterator[tuple[Any, type[Exception], str]]:
    """Arrays that cannot receive a result like this one: the error, and a word of its message."""
    bad = {dtype: np.full(like.shape, 7, dtype) for dtype in (np.float16, np.float32, np.float64, np.longdouble, int)}
    yield from ((array, TypeError, "has dtype") for array in bad.values() if array.dtype != like.dtype)
    yield np.full(like.shape, 7, like.dtype.newbyteorder()), TypeError, "has dtype"
    yield np.full((*like.shape, 1), 7, like.dtype), ValueError, "has shape"
    yield np.full_like(like[1:], 7), ValueError, "has shape"
    yield np.full((*like.shape, 2), 7, like.dtype)[..., 0], ValueError, "must be C-contiguous"
    yield read_only(np.full_like(like, 7)), ValueError, "is read-only"
    yield unaligned(np.full_like(like, 7)), ValueError, "must be aligned"
    yield np.ma.masked_array(np.full(like.shape, 7, like.dtype)), TypeError, "is a masked array"
    for bad_type in (like.tolist(), "out", 1.0):
        yield bad_type, TypeError, "must be a NumPy array, not"


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def unaligned(array: Array) -> Array:
    """The same values where no number of theirs begins."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    moved = memory.view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def in_one_memory(array: Array, like: Array) -> Iterator[tuple[Array, Array, bool]]:
    """`array` moved into memory that an array like the other takes, too; whether the two are the same array.

    They begin at the same place, one after the other, or one runs backwards.
    """
    size = max(array.size, like.size) + 1
    for first, second, direction in ((0, 0, 1), (0, 1, 1), (1, 0, 1), (0, 0, -1)):
        memory = np.zeros(size, array.dtype)
        moved = memory[first : first + array.size][::direction].reshape(array.shape)
        moved[...] = array
        out = memory[second : second + like.size].reshape(like.shape)
        yield moved, out, first == second and direction == 1 and array.shape == like.shape


ANY = no_real_numbers, masked, bad_shapes, bad_numbers, bad_options, bad_outputs
