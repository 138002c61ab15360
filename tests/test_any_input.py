"""Any input at all: every backend and the reference give the same value or the same exception, and change nothing.

A case is a call of an op or of a layer that would go well, with the arguments that the op table makes, and up to three
changes to it: another dtype, layout, shape, value, kind of labels or number, something that is no array, an `out`.  It
is only a description, from which each backend gets arguments of its own that lie in memory in the same way.

    pytest tests/test_any_input.py --hypothesis-profile=nightly
"""

import inspect
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import LAYERS, name_of, op_of, whole, with_dout

import fastnn
from fastnn import Affine, Sequential, fallback, networks, ops
from fastnn.optable import OPS, as_tuple, ulps
from fastnn.optable.perceptron import CLASSES
from fastnn.optable.sizes import or_infinite, sizes
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES

# ---------------------------------------------------------------- what is called


def network(x, t, W1, b1, W2, b2, *, activation="relu", loss="softmax"):
    between, end = networks.ACTIVATIONS[activation](), networks.LOSSES[loss]()
    net = Sequential([Affine(W1, b1), between, Affine(W2, b2)], end)
    value, grads = net.loss_and_gradient(x, t)
    return net.loss(x, t), value, *grads


def of_a_layer(layer_class):
    """A row for a layer, made of that of its op."""
    row, gradients = op_of(layer_class), 1 + len(layer_class.parameters)
    ulp = np.max(row.ulp), *[gradient_ulp(layer_class)] * gradients
    name, example = layer_class.__name__, with_dout(layer_class)
    return replace(row, name=name, example=example, ulp=ulp, floor=None, out={}, refused=())


def backward_of(layer_class):
    """The row of its op's gradient, if there is one, and what that takes of forward's results that may be apart."""
    op, row = op_of(layer_class), OPS.get(f"{layer_class.op}_backward")
    taken = {*row.names} - {*op.names, "dout"} if row else {"what it keeps"}
    return row, taken if np.max(op.ulp) else set()


def gradient_ulp(layer_class):
    """What backward itself may be apart, and twice what the results may be that it takes of forward."""
    row, taken = backward_of(layer_class)
    return (np.max(row.ulp) if row else 0) + (2 * np.max(op_of(layer_class).ulp) if taken else 0)


NETWORK = replace(OPS["mlp_gradient"], name="network", ulp=64, floor=None, out={}, refused=())
CALLS = (
    {op.name: (getattr(ops, op.name), op) for op in OPS.values()}
    | {name_of(layer): (whole(layer), of_a_layer(layer)) for layer in LAYERS}
    | {NETWORK.name: (network, NETWORK)}
)

# ---------------------------------------------------------------- changes of an argument

DTYPES = ["f2", "f4", "f8", "g", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", ">f4", ">f8", ">f2", ">i4"]
NO_NUMBERS = ["c8", "c16", "O", "U3", "S3", "m8[s]", "M8[s]", "V4", "f4,i2"]


def as_dtype(dtype, a, rng):
    return np.zeros(a.shape, dtype) if np.dtype(dtype).kind in "VmM" else a.astype(dtype)


class Subclass(np.ndarray):
    pass


class ArrayLike:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


class Failing:
    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("no array")


def strided(a, rng):
    spread = np.repeat(a, 2, axis=-1) if a.ndim else np.repeat(a, 2)
    return spread[..., ::2] if a.ndim else spread[:1].reshape(())


def unaligned(a, rng):
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    moved = memory.view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def read_only(a, rng):
    a = a.copy()
    a.flags.writeable = False
    return a


def inside(a, rng):
    """Contiguous, in the midst of other memory."""
    memory = np.zeros(a.size + 10, a.dtype)
    memory[3 : 3 + a.size] = a.reshape(-1)
    return memory[3 : 3 + a.size].reshape(a.shape)


def ragged(a, rng):
    return [a.tolist(), [a.tolist()]]


LAYOUTS = {
    "fortran": lambda a, rng: np.asfortranarray(a) if a.ndim else a,
    "reversed": lambda a, rng: np.flip(np.flip(a).copy()),
    "strided": strided,
    "rows apart": lambda a, rng: np.repeat(a, 2, axis=0)[::2] if a.ndim else a,
    "axes swapped": lambda a, rng: np.swapaxes(np.swapaxes(a, 0, -1).copy(), 0, -1) if a.ndim else a,
    "broadcast": lambda a, rng: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    "broadcast from one": lambda a, rng: np.broadcast_to(a.reshape(-1)[0], a.shape) if a.size else a,
    "unaligned": unaligned,
    "read-only": read_only,
    "inside": inside,
    "byte-swapped": lambda a, rng: a.astype(a.dtype.newbyteorder()),
}
KINDS = {
    "subclass": lambda a, rng: a.view(Subclass),
    "matrix": lambda a, rng: np.asmatrix(a) if a.ndim == 2 else a,
    "masked": lambda a, rng: np.ma.masked_array(a, np.zeros(a.shape, bool)),
    "list": lambda a, rng: a.tolist(),
    "tuple": lambda a, rng: tuple(a.tolist()) if a.ndim else a,
    "memoryview": lambda a, rng: (
        memoryview(np.ascontiguousarray(a, a.dtype.newbyteorder("="))) if a.dtype.kind in "iuf" else a
    ),
    "array-like": lambda a, rng: ArrayLike(a),
    "failing": lambda a, rng: Failing(),
    "ragged": ragged,
    "one number": lambda a, rng: a.reshape(-1)[0] if a.size else a,
    "None": lambda a, rng: None,
    "text": lambda a, rng: "text",
    "dict": lambda a, rng: {},
    "type": lambda a, rng: float,
}
SHAPES = {
    "no dimensions": lambda a, rng: np.array(a.reshape(-1)[0] if a.size else 0, a.dtype),
    "one axis more at the end": lambda a, rng: a[..., np.newaxis],
    "one axis more in front": lambda a, rng: a[np.newaxis],
    "one axis less at the end": lambda a, rng: a[..., 0] if a.ndim and a.shape[-1] else a,
    "one axis less in front": lambda a, rng: a[0] if a.ndim and len(a) else a,
    "flat": lambda a, rng: a.reshape(-1),
    "transposed": lambda a, rng: a.T,
    "a row less": lambda a, rng: a[1:] if a.ndim else a,
    "a column less": lambda a, rng: a[..., 1:].copy() if a.ndim else a,
    "a row more": lambda a, rng: np.concatenate([a, a[:1]]) if a.ndim else a,
    "twice": lambda a, rng: np.stack([a, a]),
    "no rows": lambda a, rng: a[:0] if a.ndim else a,
    "no columns": lambda a, rng: a[..., :0] if a.ndim else a,
    "one row": lambda a, rng: a[:1] if a.ndim else a,
    "one column": lambda a, rng: a[..., :1] if a.ndim else a,
    "five dimensions": lambda a, rng: a.reshape((1,) * (5 - a.ndim) + a.shape),
}


def sprinkled(values, a, rng):
    """The values in random places; all of them, if a is to have none of its own."""
    if a.dtype.kind != "f":
        return a
    a = a.copy()
    info = np.finfo(a.dtype)
    known = {name: getattr(info, name) for name in ("max", "tiny", "smallest_subnormal", "eps")}
    known["root"] = info.max**0.5
    chosen = np.array([known.get(v, v) for v in values], a.dtype)
    where = rng.random(a.shape) < rng.choice([0.1, 0.5, 1.1])
    return np.where(where, rng.choice(chosen, a.shape) * rng.choice(np.array([1, -1], a.dtype), a.shape), a)


VALUES = {
    "zeros": partial(sprinkled, [0.0]),
    "NaN": partial(sprinkled, [np.nan]),
    "infinite": partial(sprinkled, [np.inf]),
    "subnormal": partial(sprinkled, ["smallest_subnormal", "tiny"]),
    "small": partial(sprinkled, ["tiny", "eps", 1e-7]),
    "largest": partial(sprinkled, ["max"]),
    "large": partial(sprinkled, ["root", 1e4, 100, 700]),
    "every kind": partial(
        sprinkled, [0, 1, 20, 88, 104, 710, 745, np.nan, np.inf, "max", "tiny", "smallest_subnormal", "eps"]
    ),
}
LABELS = {
    "too large": lambda t, rng, classes: t + (rng.random(t.shape) < rng.choice([0.3, 1.1])) * classes,
    "negative": lambda t, rng, classes: t - (rng.random(t.shape) < rng.choice([0.3, 1.1])) * (classes + 1),
    "far away": lambda t, rng, classes: t + (rng.random(t.shape) < rng.choice([0.3, 1.1])) * 2**40,
    "float labels": lambda t, rng, classes: t.astype(rng.choice(["f2", "f4", "f8"])),
    "narrow labels": lambda t, rng, classes: t.astype(rng.choice(["i1", "u1", "i2", "u2", "u4", "i4", "u8", ">i8"])),
    "a column": lambda t, rng, classes: t[..., np.newaxis],
    "a narrow column": lambda t, rng, classes: t[..., np.newaxis].astype(rng.choice(["i1", "u1", "i4"])),
    "a column of floats": lambda t, rng, classes: t[..., np.newaxis].astype("f8"),
    "one-hot": lambda t, rng, classes: np.eye(classes, dtype=rng.choice(["i8", "u1", "f4", "f8"]))[t % classes],
    "soft": lambda t, rng, classes: rng.random((*t.shape, classes)),
    "soft float32": lambda t, rng, classes: rng.random((*t.shape, classes), np.float32),
    "soft float16": lambda t, rng, classes: rng.random((*t.shape, classes)).astype("f2"),
    "no probabilities": lambda t, rng, classes: rng.standard_normal((*t.shape, classes)) * 2,
    "binary": lambda t, rng, classes: (t % 2).astype(rng.choice(["?", "u1", "f4", "f8"])),
    "between": lambda t, rng, classes: rng.random(t.shape).astype(rng.choice(["f2", "f4", "f8"])),
}  # fmt: skip

ON_ARRAYS = {
    **{f"dtype {dtype}": partial(as_dtype, dtype) for dtype in [*DTYPES, *NO_NUMBERS]},
    **LAYOUTS,
    **KINDS,
    **SHAPES,
    **VALUES,
}
NUMBERS = {
    repr(value): value
    for value in (
        0, 1, -1, 3, True, 2**63, 10**400, -(10**400), 0.0, -0.0, 0.5, -0.5, 1.0, 2.5, 1e-320, 1e-40, 1e-7, 1e39, 1e300,
        1.7e308, np.nan, np.inf, -np.inf, np.float16(0.5), np.float32(0.25), np.float32(np.inf), np.float64(0.1),
        np.float64(np.nan), np.longdouble(0.5), np.longdouble("1e4000"), np.int8(1), np.uint8(2), np.uint64(2**63),
        np.bool_(True), np.array(0.5), np.array(1), np.array(0.5, "f4"), np.array([0.5]), np.array([[2.0]]), [0.5],
        "1", b"1", None, 1j, np.complex64(1), (1.0,), {}, float,
    )
}  # fmt: skip
OPTIONS = {
    "eps": [1e-7, 0.0, 0.01],
    "dout": [1.0, 0.3, -2.0],
    "form": [1, 1, 2],
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "from_logits": [True, True, False],
    "into_buffers": [False, False, True],
}
NAMES = {repr(name): name for name in (*ACTIVATIONS, *LOSSES, "no such name", "", None, b"relu", 1)}

# ---------------------------------------------------------------- changes of `out`

OUTS = {
    "right": lambda y, rng: y,
    "inside": inside,
    "strided": strided,
    "fortran": LAYOUTS["fortran"],
    "reversed": LAYOUTS["reversed"],
    "broadcast": LAYOUTS["broadcast"],
    "read-only": read_only,
    "unaligned": unaligned,
    "byte-swapped": LAYOUTS["byte-swapped"],
    "float32": lambda y, rng: y.astype("f4"),
    "float64": lambda y, rng: y.astype("f8"),
    "float16": lambda y, rng: y.astype("f2"),
    "integers": lambda y, rng: y.astype("i8"),
    "objects": lambda y, rng: y.astype("O"),
    "subclass": lambda y, rng: y.view(Subclass),
    "masked": KINDS["masked"],
    "matrix": KINDS["matrix"],
    "list": lambda y, rng: y.tolist(),
    "text": lambda y, rng: "out",
    "a number": lambda y, rng: 1.0,
    **{name: SHAPES[name] for name in ("one axis more at the end", "flat", "transposed", "a row less", "a row more")},
    "no dimensions": SHAPES["no dimensions"],
}


def beside(y, a, rng):
    """y and a in one piece of memory: apart, next to each other, or one upon the other."""
    memory = np.zeros(2 * (a.nbytes + y.nbytes) + 64, np.uint8)
    step = max(a.itemsize, y.itemsize)
    first, second = (16 * step * rng.integers(0, 2, 2)) // 16
    place = rng.choice([first, first + step, first + a.nbytes // step * step, first + (a.nbytes // step + 1) * step])
    return (
        memory[place : place + y.nbytes].view(y.dtype).reshape(y.shape),
        memory[second : second + a.nbytes].view(a.dtype).reshape(a.shape),
    )


def between(y, a, rng):
    """a is every second element of the memory in which y lies too."""
    count = 2 * max(a.size, -(-y.nbytes // a.itemsize)) + 4
    memory = np.zeros(count, a.dtype)
    first = int(rng.integers(0, 3))
    out = memory.view(np.uint8)[first * a.itemsize :][: y.nbytes]
    return out.view(y.dtype).reshape(y.shape), memory[: 2 * a.size : 2].reshape(a.shape)


def backwards(y, a, rng):
    """a reads y's memory from the end."""
    out, moved = between(y, a, rng)
    if y.size != a.size or y.dtype != a.dtype:
        return out, moved
    return y, y.reshape(-1)[::-1].reshape(a.shape)


def the_same(y, a, rng):
    return (y, y) if y.shape == a.shape and y.dtype == a.dtype else beside(y, a, rng)


def a_view(y, a, rng):
    out, _ = the_same(y, a, rng)
    return out, out[...] if out.shape == a.shape else a


def overlapping(outs):
    first, *others = outs
    return first, *(first.reshape(-1)[: y.size].reshape(y.shape) if y.size <= first.size else y for y in others)


ALIASES = {"the same": the_same, "a view": a_view, "beside": beside, "between": between, "backwards": backwards}
TUPLES = {
    "bare": lambda outs: outs[0],
    "in a tuple": lambda outs: (outs[0],),
    "too many": lambda outs: (*outs, None),
    "too few": lambda outs: outs[:-1],
    "in a list": lambda outs: list(outs),
    "one twice": lambda outs: (outs[0],) * len(outs),
    "only one": lambda outs: (*(None,) * (len(outs) - 1), outs[-1]),
    "overlapping": overlapping,
}  # fmt: skip

# ---------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, ...]
    dtype: str
    changes: tuple[tuple[str, str], ...]  # of which argument, which
    out: tuple[str, ...]  # (kind,) or, for one that lies upon an argument, (kind, argument)
    seed: int


def required(name):
    """The names of the positional arguments that the op table makes."""
    parameters = inspect.signature(CALLS[name][0]).parameters.values()
    names = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return names + [f"params[{i}]" for i in range(4) if any(p.kind is p.VAR_POSITIONAL for p in parameters)]


def usual(name):
    """Arguments by name, the optional ones too."""
    function, op = CALLS[name]
    values = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.default is not p.empty}
    return dict(zip(required(name), op.example(np.random.default_rng(0), op.shapes[0], "f8"), strict=True)) | values


def changes_of(name):
    """What may be changed: pairs of an argument and the name of a change."""
    values = usual(name)
    values.pop("out", None)
    for argument, value in values.items():
        if isinstance(value, np.ndarray):
            # More of those that do not make it another call than the one whose loops are to be tried.
            yield from ((argument, change) for change in [*ON_ARRAYS, *2 * [*LAYOUTS, *VALUES]])
            if argument == "t":
                yield from ((argument, change) for change in 4 * [*LABELS])
            elif argument != next(iter(values)):
                yield argument, "the first argument"
        elif isinstance(value, str):
            yield from ((argument, change) for change in NAMES)
        else:
            yield from ((argument, change) for change in NUMBERS)


def outs_of(name):
    values = usual(name)
    if "out" not in values:
        return [()]
    arrays = [argument for argument, value in values.items() if isinstance(value, np.ndarray)]
    given = [(kind,) for kind in (*OUTS, *TUPLES)] + 3 * [(kind, argument) for kind in ALIASES for argument in arrays]
    return [(), *[("right",)] * (len(given) // 4), *given]


def shapes_of(op):
    """Those of the op table that do not take long, and a large one of few columns, since labels become one-hot."""
    rng = np.random.default_rng(0)
    sizes = {shape: sum(map(np.size, op.example(rng, shape, "f8"))) for shape in (*op.shapes, *op.bad_shapes)}
    return [*(shape for shape, size in sizes.items() if size < 2000), min(op.large, key=lambda shape: shape[-1])]


def cases(name):
    return st.builds(
        Case,
        name=st.just(name),
        shape=st.sampled_from(shapes_of(CALLS[name][1])),
        dtype=st.sampled_from(["f8", "f4"] * 5 + ["f2", "g"]),
        changes=st.lists(st.sampled_from([*changes_of(name)]), max_size=3, unique=True).map(tuple),
        out=st.just(()) | st.sampled_from(outs_of(name)),
        seed=st.integers(0, 2**32 - 1),
    )


def arguments_of(case, rng):
    names = required(case.name)
    values = dict(zip(names, CALLS[case.name][1].example(rng, case.shape, case.dtype), strict=True))
    parameters = inspect.signature(CALLS[case.name][0]).parameters
    options = [option for option in OPTIONS if option in parameters and option not in names]
    values |= {option: OPTIONS[option][rng.integers(len(OPTIONS[option]))] for option in options}
    classes = CLASSES if "loss" in options else (1, *np.shape(values[names[0]]))[-1]
    if values.get("loss") in ("sigmoid", "identity"):
        values["t"] = rng.random((*np.shape(values["t"]), classes)).astype(case.dtype)
    for argument, change in case.changes:
        if change in NUMBERS:
            values[argument] = NUMBERS[change]
        elif change in NAMES:
            values[argument] = NAMES[change]
        elif change == "the first argument":
            values[argument] = values[names[0]]
        elif isinstance(a := values[argument], (np.ndarray, np.generic)) and a.dtype.kind in "biuf":
            a = np.asarray(a)
            if change in ON_ARRAYS:
                values[argument] = ON_ARRAYS[change](a, rng)
            elif a.size * classes <= 100_000:  # targets made of targets made of targets fill the memory
                labels = a if a.dtype.kind in "iu" else np.zeros(a.shape, int)
                values[argument] = LABELS[change](labels, rng, max(classes, 1))
    return values


def outs_for(case, likes, values, rng):
    """`out` for results like these; an argument that shares its memory is put there."""
    outs = [np.full_like(y, 7) for y in likes]
    kind, *argument = case.out
    if kind in TUPLES:
        return TUPLES[kind](tuple(outs))
    for i in rng.permutation(len(outs))[: rng.integers(1, len(outs) + 1)]:
        if not argument:
            outs[i] = OUTS[kind](outs[i], rng)
        elif isinstance(a := values[argument[0]], np.ndarray) and a.dtype.kind in "biuf" and a.size:
            outs[i], values[argument[0]] = ALIASES[kind](outs[i], a, rng)
            if values[argument[0]] is not a:
                values[argument[0]][...] = a
            break
    if len(outs) > 1 and rng.random() < 0.3:
        outs[rng.integers(len(outs))] = None
    return CALLS[case.name][1].as_out(outs)


# ---------------------------------------------------------------- a call and what came of it


def root(a):
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def arrays_in(values):
    for value in values:
        if isinstance(value, (ArrayLike, memoryview)):
            yield np.asarray(value.array if isinstance(value, ArrayLike) else value)
        elif isinstance(value, np.ndarray):
            yield value


def contents(values):
    return [root(a).tobytes() for a in arrays_in(values)], [repr(v) for v in values if isinstance(v, (list, tuple))]


class Outcome:
    """A call of a case on a backend."""

    def __init__(self, case, backend, likes=None):
        function, self.op = CALLS[case.name]
        rng = np.random.default_rng(case.seed)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            self.values = arguments_of(case, rng)
            if likes:
                self.values["out"] = outs_for(case, likes, self.values, rng)
        positional = required(case.name)
        args = [self.values[name] for name in positional]
        kwargs = {name: value for name, value in self.values.items() if name not in positional}
        outs = [out for out in as_tuple(self.values.get("out")) if isinstance(out, np.ndarray)]
        everything = [*args, *kwargs.values(), *outs]
        before, outs_before = contents(everything), [out.copy() for out in outs]

        self.results, self.error, self.fell_back = None, None, False
        token = fallback.fell_back.set(lambda name: setattr(self, "fell_back", True))
        with warnings.catch_warnings(record=True) as seen, fastnn.use_backend(backend):
            warnings.simplefilter("always")
            try:
                self.results = as_tuple(function(*args, **kwargs))
            except Exception as error:
                self.error = error
        fallback.fell_back.reset(token)
        self.warnings = sorted({w.category.__name__ for w in seen})

        if self.results is not None:
            self.check_results(case, args, outs)
            self.results = tuple(r.copy() if isinstance(r, np.ndarray) else r for r in self.results)
            for out, value in zip(outs, outs_before, strict=True):
                out[...] = value
        assert contents(everything) == before, f"an argument was changed on {backend}"

    def check_results(self, case, args, outs):
        given = self.values.get("out")
        if given is not None:
            for result, out in zip(self.op.received(self.results), as_tuple(given), strict=True):
                assert out is None or result is out, "the result is not out"
        for result in self.results:
            if isinstance(result, np.ndarray) and not any(result is out for out in outs):
                assert result.flags.writeable and (result.flags.c_contiguous or case.name not in OPS)
                for a in arrays_in([*args, *outs]):
                    assert not np.may_share_memory(result, root(a)), "a result shares memory with an argument"


# ---------------------------------------------------------------- how far values may be apart

# The rows of the op table have it for the ops, but for a perceptron, whose products BLAS sums in another order where a
# matrix lies otherwise in memory, and each layer of which takes that on.


def perceptron_floors(x, t, W1, b1, W2, b2, *, activation="relu", loss="softmax", eps=1e-7, out=None):
    given, (hidden,) = W2, OPS["affine"].floor(x, W1, b1)
    x, t, W2, b2 = sizes(x, t, W2, b2)
    h = np.max(hidden, initial=1)
    y = 1 + np.max(h * np.sum(W2, axis=0) + b2, initial=0) + np.max(t, initial=0) * np.shape(W2)[1]
    dh = np.max(np.sum(W2, axis=1), initial=0)
    loss = or_infinite(y * y, y * y * (1 + x.size) * (1 + W2.shape[1]), given)
    return loss, np.max(x, initial=0) * dh * y, dh * y, h * y, y


def descent_floors(order, batch_size, lr, step="sgd", constants=(), **perceptron):
    loss, *gradients = perceptron_floors(**perceptron)
    changes = [np.size(order) * np.abs(np.asarray(lr, np.longdouble)) * gradient for gradient in gradients]
    if np.size(order) > batch_size and np.max([np.max(change, initial=0) for change in changes]) > 1e3:
        return (np.inf,) * 5  # so large a first step decides all after it
    params = sizes(*(perceptron[name] for name in ("W1", "b1", "W2", "b2")))
    return loss, *(np.max(p, initial=0) + change for p, change in zip(params, changes, strict=True))


def layer_floors(layer_class, *, dout=1.0, from_logits=True, into_buffers=False, **values):
    op, (backward, taken) = op_of(layer_class), backward_of(layer_class)
    given = {name: values.pop(name) for name in op.names}
    if not from_logits:  # SoftmaxWithLoss gives the cross-entropy of what it is given, and takes that for the gradient
        op, taken = OPS["cross_entropy_error"], set()
    options = {name: value for name, value in values.items() if name in op.parameters}
    forward = op.floor(*given.values(), **options)[0] if op.floor else 0
    return forward, *gradient_floors(layer_class, backward, taken, given, dout)


def gradient_floors(layer_class, backward, taken, given, dout):
    params = len(layer_class.parameters)
    if backward and backward.floor:  # what is taken of forward counts as 1, since an error of it may be that of 1 - y
        like = next(iter(given.values())) if layer_class.is_loss else dout
        known = {**dict.fromkeys(taken | {"y"}, np.ones(np.shape(like))), **given, "dout": dout}
        return backward.floor(*(known[name] for name in (*backward.names, *(["dout"] if layer_class.is_loss else []))))
    if not taken:
        return 0, *[0] * params
    if backward and layer_class.is_loss:  # as far from 0 as a gradient can be
        ones = np.ones(np.shape(next(iter(given.values()))), np.longdouble)
        return (np.abs(backward.reference(ones, 0 * ones, np.longdouble(dout))),)
    [size] = sizes(dout)
    return size if layer_class.elementwise else np.sum(size), *[np.sum(size)] * params


FLOORS = (
    {op.name: op.floor for op in OPS.values() if op.floor}
    | {name_of(layer): partial(layer_floors, layer) for layer in LAYERS}
    | {
        "mlp_gradient": perceptron_floors,
        "mlp_descent": descent_floors,
        "network": lambda *args, **kwargs: (perceptron_floors(*args, **kwargs)[0], *perceptron_floors(*args, **kwargs)),
    }
)


def distances(outcome, expected, case):
    """Of each result, in units of the last place."""
    pairs = list(zip(outcome.results, expected.results, strict=True))
    if all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        return [0.0]
    floors = (0.0,) * len(pairs)
    if case.name in FLOORS:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            floors = FLOORS[case.name](**named(case, expected.values))
    # In a layer the narrower dtype decides, in which results may have been handed on: beside wider targets that is the
    # dtype of the logits.  Integers, the gradients of integer weights, have lost their fractions besides: one apart
    # counts as 32 ULP at most.
    logits = [expected.values["x"]] if {"x", "t"} <= {*expected.values} else []
    dtypes = [a.dtype for a in (*(b for _, b in pairs), *arrays_in(logits)) if a.dtype.kind == "f"]
    narrow = min(dtypes, key=lambda dtype: dtype.itemsize) if case.name not in OPS else None
    found = []
    for (a, b), floor in zip(pairs, floors, strict=True):
        dtype = (narrow if narrow and b.dtype.kind in "fiu" else b.dtype).newbyteorder("=")
        if narrow and b.dtype.kind in "iu":
            floor = np.maximum(floor, 1 / (32 * np.finfo(dtype).eps))
        floor = np.reshape(floor, b.shape) if np.size(floor) == np.size(b) else np.broadcast_to(floor, b.shape)
        counted = floor < (np.finfo(dtype).max if dtype.kind == "f" else np.inf)
        with np.errstate(all="ignore"):
            a, b = a.astype(dtype), b.astype(dtype)
        found.append(ulps(np.where(counted, a, b), b, np.where(counted, floor, 0)))
    return found


def named(case, values):
    """The arguments as the functions above want them."""
    names = dict(zip([f"params[{i}]" for i in range(4)], ["W1", "b1", "W2", "b2"], strict=True))
    arrays = required(case.name)
    return {names.get(name, name): np.asarray(v) if name in arrays else v for name, v in values.items()}


# ---------------------------------------------------------------- the tests

counts = Counter()


def message(outcome):
    return re.sub("0x[0-9a-f]+", "", str(outcome.error))


def agrees(case):
    likes = None
    counts["examples"] += 1
    expected = Outcome(case, "reference")
    if case.out:
        received = expected.op.received(expected.results) if expected.results else (np.ones(3),) * len(expected.op.out)
        likes = [np.asarray(r) for r in received]
        expected = Outcome(case, "reference", likes)
    counts["values" if expected.error is None else "exceptions"] += 1
    computed = False
    for backend in fastnn.backends()[:-1]:
        outcome = Outcome(case, backend, likes)
        if type(outcome.error) is not type(expected.error):
            raise AssertionError(f"{backend}: {outcome.error!r} instead of {expected.error!r}") from outcome.error
        assert outcome.warnings == expected.warnings
        assert message(outcome) == message(expected)
        if expected.error is not None:
            continue
        assert [type(r) for r in outcome.results] == [type(r) for r in expected.results], backend
        assert [(r.dtype, r.shape) for r in outcome.results] == [(r.dtype, r.shape) for r in expected.results], backend
        allowed = np.maximum(expected.op.ulp, 1 if expected.op.products else 0)
        found = distances(outcome, expected, case)
        assert np.less_equal(found, allowed).all(), (
            f"{backend}: {found} ULP apart\n{outcome.results}\n{expected.results}"
        )
        computed |= not outcome.fell_back
    counts["computed by the kernels"] += computed


@pytest.mark.parametrize("name", CALLS)
def test_any_input(name):
    @given(cases(name))
    def test(case):
        agrees(case)

    test()


def test_the_examples_are_of_every_kind(figure):
    """After the others: how many there were."""
    if not counts:
        pytest.skip("no example was run")
    figure(f"any input: {', '.join(f'{number} {what}' for what, number in counts.items())}")
    assert counts["computed by the kernels"] > counts["examples"] / 4
    assert counts["exceptions"] > counts["examples"] / 10
