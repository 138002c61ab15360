"""What is accepted: the rules for arguments and their errors, once, for the reference and the kernels alike.

An op makes arrays of all its arguments with `numeric` before it looks at any of them, since that may run code of the
caller's, and has these arrays checked.  The kernels decide for themselves whether an array is the plain case (the right
dtype, contiguous, aligned).  Every other one is handed to these functions, which make a plain array of it or raise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from fastnn._kernels.lists import are_apart as are_apart
from fastnn._kernels.lists import can_step_in_place as can_step_in_place
from fastnn._kernels.lists import same_objects as same_objects

Array = np.ndarray[tuple[Any, ...], np.dtype[Any]]

# What cross-entropy adds to a probability before it takes the logarithm: the books'.
EPS = 1e-7


def numeric(name: str, value: np.typing.ArrayLike, least_ndim: int = 0) -> Array:
    """`value` as an array of booleans, integers or real floats."""
    refuse_mask(name, value)
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested lists
        raise ValueError(f"{name} is not an array: {error}") from None
    if array.dtype.kind not in "biuf":
        what = f"of dtype {array.dtype}" if array.ndim or array.dtype.kind != "O" else type(value).__name__
        hint = f": take {name}.toarray()" if hasattr(value, "toarray") else ""  # sparse, which NumPy does not read
        raise TypeError(f"{name} must be an array of real numbers, not {what}{hint}")
    if array.ndim < least_ndim:
        raise ValueError(f"{name} must have at least {least_ndim} dimension(s), but its shape is {array.shape}")
    return array


def refuse_mask(name: str, value: Any) -> None:
    """For what is made an array of, or read as one: the mask would be lost without a word."""
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if type(each) is not np.ndarray and isinstance(each, np.ndarray) and isinstance(each, np.ma.MaskedArray):
            what = f"{name} {'is' if each is value else 'holds'} a masked array"
            raise TypeError(f"{what}, whose mask would be lost: leave out what is masked, or fill it (numpy.ma.filled)")


def same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    if array.shape != other.shape:
        raise ValueError(
            f"{name} has shape {array.shape}, but {other_name} has shape {other.shape}: they must be the same"
        )


def boolean_mask(mask: Array, dout: Array) -> Array:
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must be an array of bool, not of dtype {mask.dtype}")
    same_shape("mask", mask, "dout", dout)
    return mask


def bias(b: Array, name: str, x: Array) -> Array:
    """`b` in one dimension, with one number per column of `x`."""
    if b.size != x.shape[-1] or b.ndim == 0 or b.shape[-1] != b.size:
        raise ValueError(f"b has shape {b.shape}, but {name} of shape {x.shape} needs ({x.shape[-1]},)")
    return b.reshape(-1)


def weights(W: Array) -> None:
    if W.ndim != 2:
        raise ValueError(f"W must have two dimensions, but its shape is {W.shape}")


def samples(x: Array, W: Array) -> tuple[Array, tuple[int, ...]]:
    """`x` as rows of the D numbers that `W` needs, and those of its axes that count the rows.

    They are all but the first if the others hold D numbers together (volume 1), else all but the last (volume 2).
    """
    D = W.shape[0]
    if x.shape == (D,):
        batch: tuple[int, ...] = ()
    elif math.prod(x.shape[1:]) == D:
        batch = x.shape[:1]
    elif x.shape[-1:] == (D,):
        batch = x.shape[:-1]
    else:
        raise ValueError(f"x has shape {x.shape}, but W of shape {W.shape} needs {D} numbers in each sample")
    return x.reshape(math.prod(batch), D), batch


def samples_gradient(dout: Array, batch: tuple[int, ...], W: Array) -> Array:
    """`dout` as the rows that go with `samples`."""
    if dout.shape != (*batch, W.shape[1]):
        raise ValueError(
            f"dout has shape {dout.shape}, but forward gave {(*batch, W.shape[1])}, from x and W of shape {W.shape}"
        )
    return dout.reshape(math.prod(batch), W.shape[1])


def whole_number(name: str, value: int, least: int, most: int) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if not least <= number <= most:
        unlimited = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(
            f"{name} must be {unlimited if most >= sys.maxsize else f'from {least} to {most}'}, not {number}"
        )
    return number


def number(name: str, value: float, least: float = -np.inf, below: float = np.inf) -> float:
    """A finite number as a float, from `least` to below `below`."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if isinstance(value, np.longdouble):  # which may lie between the largest float and infinity
        value = float(value)
    if not least <= value < below or value == -np.inf:
        bounds = f" of at least {least:g}" if least > -np.inf else ""
        bounds += f" and below {below:g}" if below < np.inf else ""
        raise ValueError(f"{name} must be a finite number{bounds}, not {value!r}")
    return _float(name, value)


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return known[known.index(value)]


def pairs(params: Sequence[Array]) -> list[tuple[Array, Array]]:
    """``W_1, b_1, W_2, b_2, ...`` two by two."""
    if not params or len(params) % 2:
        raise ValueError(f"params must be a weight and a bias for each layer, not {len(params)} array(s)")
    return list(zip(params[::2], params[1::2], strict=True))


def epsilon(eps: float) -> float:
    return number("eps", eps, least=0)


def sample_order(order: Array, N: int) -> Array:
    """Indices of N samples, as passes of shape (P, n), in a copy that nobody else can change."""
    if order.ndim not in (1, 2) or not order.size:
        what = "has no dimension" if not order.ndim else "is empty" if not order.size else "has too many dimensions"
        raise ValueError(f"order {what}, its shape is {order.shape}: it must be a pass over samples or several")
    if order.dtype.kind not in "iu":
        raise TypeError(f"order must be of integers, not of dtype {order.dtype}")
    order = np.array(order, ndmin=2, order="C")
    bad = (order < 0) | (order >= N)
    if bad.any():
        row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise IndexError(f"order has {order[row, column]} at {column} of pass {row}, but x has {N} samples")
    return order.astype(np.intp, copy=False)


def _float(name: str, number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"{name} is too large for a float: {number:#x}"[:80]) from None


def upstream(dout: Any) -> Any:
    """The gradient of a loss: one number.  A Python number stays one, so that it does not widen the result."""
    if type(dout) in (int, float):
        return _float("dout", dout)
    array = numeric("dout", dout)
    if array.ndim:
        raise ValueError(f"dout must be a single number for a loss, but its shape is {array.shape}")
    return array[()] if array.dtype.kind == "f" else float(array)


def targets(name: str, y: Array, t: Array) -> tuple[Array, bool]:
    """`t` beside `y` of shape (..., C): class indices of shape (...), or (True) targets of y's own shape.

    Class indices are checked; a column (..., 1) of integers beside C > 1 is class indices.
    """
    classes = y.shape[-1]
    if y.size == 0:
        raise ValueError(f"{name} is empty, its shape is {y.shape}: a loss needs at least one row and one class")
    if t.shape == y.shape:
        return t, True
    labels = t
    if t.shape == (*y.shape[:-1], 1):
        labels = t[..., 0]
    if labels.shape != y.shape[:-1]:
        raise ValueError(
            f"t has shape {t.shape}, but {name} of shape {y.shape} needs class indices of shape {y.shape[:-1]} "
            f"or targets of shape {y.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"t has one class index per row of {name} and must be of integers, not of dtype {t.dtype}: t.astype(int)"
        )
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        row = np.unravel_index(int(np.argmax(bad)), labels.shape)
        where = ", ".join(map(str, row))
        raise IndexError(f"t[{where}] is {labels[row]}, which is not a class index: {name} has {classes} classes")
    return labels, False


def values(name: str, y: Array, t: Array) -> Array:
    """`t` in the shape of `y`: an axis of length 1 at the end of one may be missing in the other."""
    if y.size == 0:
        raise ValueError(f"{name} is empty, its shape is {y.shape}: a mean needs at least one element")
    if t.shape != y.shape and (*t.shape, 1) != y.shape and t.shape != (*y.shape, 1):
        raise ValueError(f"t has shape {t.shape}, but {name} has shape {y.shape}: they must be the same")
    return t.reshape(y.shape)


def binary_targets(name: str, y: Array, t: Array) -> Array:
    """`t` beside `y` as the probability of class 1: checked classes, in y's floating dtype, or checked floats."""
    array = values(name, y, t)
    classes = array.dtype.kind != "f"
    bad = (array != 0) & (array != 1) if classes else ~((array >= 0) & (array <= 1))
    if bad.any():
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        where = f"t[{', '.join(map(str, first))}] is {array[first]}"
        if classes:
            raise IndexError(f"{where}, which is neither class 0 nor class 1")
        raise ValueError(f"{where}, which is not a probability from 0 to 1")
    return array.astype(np.result_type(y, np.float16)) if classes else array


def step(state: dict[str, np.typing.ArrayLike], dp: np.typing.ArrayLike) -> tuple[tuple[Array, ...], Array]:
    """A parameter and what an optimizer keeps for it, arrays of floats of one shape and dtype; its gradient."""
    arrays = {name: numeric(name, value) for name, value in state.items()}
    gradient = numeric("dp", dp)
    p = arrays["p"]
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.dtype.newbyteorder("=") != p.dtype.newbyteorder("="):
            wanted = "an array of floats" if name == "p" else f"of p's dtype {p.dtype}"
            raise TypeError(f"{name} must be {wanted}, not of dtype {array.dtype}")
        same_shape(name, array, "p", p)
    same_shape("dp", gradient, "p", p)
    # The square of a small integer would wrap around.
    return tuple(arrays.values()), gradient.astype(np.result_type(p, gradient), copy=False)


def step_outputs(out: Any, state: tuple[Array, ...], dp: Array) -> tuple[Any, ...]:
    """Where the new `state` is to be written: each to its old place, to memory of its own, or to None."""
    given = _tuple_of(out, len(state))
    for i, array in enumerate(given):
        if array is not None:
            name = f"out[{i}]" if len(state) > 1 else "out"
            output(array, state[i].shape, state[i].dtype.newbyteorder("="), state[i], name=name)
            for other in (dp, *state[:i], *state[i + 1 :], *given[:i]):
                if other is not None:
                    clear_of(array, f"another array of shape {state[i].shape}", other, name=name)
    return given


def adam_rate(lr: float, beta1: float, beta2: float, iter: int) -> tuple[float, float, float]:
    """Adam's learning rate at step `iter`, and its checked constants."""
    lr = number("lr", lr)
    beta1, beta2 = number("beta1", beta1, 0, 1), number("beta2", beta2, 0, 1)
    iter = whole_number("iter", iter, 1, 2**63 - 1)
    return lr * math.sqrt(1 - beta2**iter) / (1 - beta1**iter), beta1, beta2


def output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Array, name: str = "out") -> Array:
    """`out`, called `name`, if a result of this shape and dtype can be written into it while `inputs` are read.

    It may be one of the inputs itself.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, not {type(out).__name__}")
    refuse_mask(name, out)
    given, out = out, np.ndarray.view(out, np.ndarray)  # a subclass may say anything of itself
    if out.dtype != dtype:
        raise TypeError(f"{name} has dtype {out.dtype}, but the result has dtype {dtype}")
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}, but the result has shape {shape}")
    if not out.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous, but its shape is {out.shape} and its strides are {out.strides}")
    if not out.flags.aligned:
        raise ValueError(f"{name} must be aligned, but its memory begins at {out.ctypes.data:#x}")
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, but it is read-only")
    for x in inputs:
        if np.may_share_memory(x, out):
            itself = x.ctypes.data == out.ctypes.data and x.dtype == dtype and x.shape == shape and x.flags.c_contiguous
            if not itself and _overlap(x, out):
                raise ValueError(
                    f"{name} overlaps an input of shape {x.shape} in part: it must be that input or memory of its own"
                )
    return given


def clear_of(out: Array, other_name: str, other: Array, *, name: str = "out") -> None:
    """For an op that still reads `other` when it writes `out`."""
    if _overlap(other, out):
        raise ValueError(f"{name} overlaps {other_name}, which is still needed when {name} is written")


def separate_output(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], others: dict[str, Array], *, name: str = "out"
) -> None:
    """`output`, for an op that writes while it reads: `out` overlaps none of `others`."""
    output(out, shape, dtype, name=name)
    for other_name, other in others.items():
        clear_of(out, other_name, other, name=name)


def separate_outputs(
    out: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[np.dtype[Any], ...], inputs: dict[str, Array]
) -> tuple[Any, ...]:
    """`out` of an op with several results, checked: a tuple with an array or None for each."""
    given, others = _tuple_of(out, len(shapes)), dict(inputs)
    for i, array in enumerate(given):
        if array is not None:
            separate_output(array, shapes[i], dtypes[i], others, name=f"out[{i}]")
            others[f"out[{i}]"] = array
    return given


def descent_outputs(
    out: Any, losses: tuple[int, np.dtype[Any]], state: dict[str, Array], inputs: dict[str, Array]
) -> tuple[Any, ...]:
    """Where losses, so many of a dtype, and the new `state` are to be written: each array of that to its old place, to
    memory of its own, or to None."""
    given, others = _tuple_of(out, 1 + len(state)), inputs | state
    for i, (array, name) in enumerate(zip(given, ("", *state), strict=True)):
        if array is not None:
            if name:
                old = state[name]
                output(array, old.shape, old.dtype.newbyteorder("="), old, name=f"out[{i}]")
            else:
                output(array, losses[:1], losses[1], name=f"out[{i}]")
            for other_name, other in others.items():
                if other_name != name:
                    clear_of(array, other_name, other, name=f"out[{i}]")
            others[f"out[{i}]"] = array
    return given


def _tuple_of(out: Any, count: int) -> tuple[Any, ...]:
    if out is None:
        return (None,) * count
    # A subclass may say anything of its length, and give something else.
    if not isinstance(out, tuple) or tuple.__len__(out) != count:
        raise TypeError(f"out must be a tuple of {count} arrays or None, not {type(out).__name__}")
    return tuple.__getitem__(out, slice(None))


def _overlap(x: Array, out: Array) -> bool:
    x, out = np.ndarray.view(x, np.ndarray), np.ndarray.view(out, np.ndarray)
    try:
        return np.shares_memory(x, out, max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
