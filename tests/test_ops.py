"""Every op on every compiled backend against the reference."""

import math

import numpy as np
import pytest
from conftest import KERNELS, MODULES

from fastnn import fallback, reference
from fastnn.optable import OPS, as_tuple, ulps
from fastnn.optable.refusals import read_only, replaced, unaligned
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES

DTYPES = [np.float32, np.float64]
WITH_OUT = [op for op in OPS.values() if op.out]
OF_CLASSES = [OPS[name] for name in OPS if OPS[name].family == "losses" and name.startswith(("softmax", "cross"))]
STEPS = [op for op in OPS.values() if op.family == "steps"]

every_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
every_op_with_out = pytest.mark.parametrize("op", WITH_OUT, ids=lambda op: op.name)
every_step = pytest.mark.parametrize("op", STEPS, ids=lambda op: op.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def run(module, op, args, **kwargs):
    return getattr(module, op.name)(*args, **kwargs)


def shifted_by_one(array):
    """The same values, one element further in memory."""
    if not isinstance(array, np.ndarray):
        return array
    memory = np.empty(array.size + 1, array.dtype)
    memory[1:] = array.reshape(-1)
    return memory[1:].reshape(array.shape)


def where_they_differ(result, expected, args):
    """Where most, with the numbers of arguments of that shape."""
    a, b = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.nan_to_num(np.abs(a - b), nan=np.inf))
    place = np.unravel_index(np.argmax(distance), a.shape)
    given = [repr(x[place]) for x in args if np.shape(x) == a.shape]
    return f"{result[place]!r} instead of {expected[place]!r} at {[*map(int, place)]}, of {', '.join(given)}"


def assert_agree(op, result, expected, floors, what="", args=()):
    """`result` keeps what the op table promises beside the reference's `expected`."""
    apart = op.apart(result, expected, floors)
    message = f"{op.name}, {what}: {', '.join(f'{d:.2f}' for d in apart)} ULP off, {op.ulp} are promised"
    if not np.less_equal(apart, op.ulp).all():
        pairs = zip(as_tuple(result), as_tuple(expected), strict=True)
        pytest.fail("\n".join([message, *(where_they_differ(a, b, args) for a, b in pairs if np.size(a))]))
    assert [type(r) for r in as_tuple(result)] == [type(r) for r in as_tuple(expected)], message


def check(op, args, what="", **kwargs):
    """Every compiled backend agrees with the reference."""
    expected, floors = run(reference, op, args, **kwargs), op.floors(*args, **kwargs)
    for name, kernels in KERNELS.items():
        assert_agree(op, run(kernels, op, args, **kwargs), expected, floors, f"{name} {what}", args)


@every_op
@every_dtype
def test_agrees_with_the_reference(rng, op, dtype):
    for shape in op.shapes:
        args = op.example(rng, shape, dtype)
        expected, floors, moved = run(reference, op, args), op.floors(*args), [shifted_by_one(a) for a in args]
        for name, kernels in KERNELS.items():
            assert_agree(op, run(kernels, op, args), expected, floors, f"{name}, {shape}", args)
            assert_agree(op, run(kernels, op, moved), expected, floors, f"{name}, {shape}, unaligned to vectors", args)


@every_op
@every_dtype
def test_agrees_without_the_gil_and_in_threads(rng, op, dtype):
    for shape in op.large:
        check(op, op.example(rng, shape, dtype), shape)


@every_dtype
@pytest.mark.parametrize("top", [12, 15])
def test_softmax_of_rows_with_a_peak(rng, dtype, top):
    """A sum that rounds beside its one large term moves all numbers of the row."""
    x = 3 * rng.standard_normal((1000, 1000)).astype(dtype)
    x[:, 0] = top
    check(OPS["softmax"], (x,))


@every_dtype
def test_no_dimension_gives_a_scalar(dtype):
    for op in OPS.values():
        if op.takes_any_numbers and () in op.shapes:
            x = np.array(1.5, dtype)
            check(op, (x,))
            for module in MODULES.values():
                assert isinstance(as_tuple(run(module, op, (x,)))[0], dtype)


def specials(dtype):
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.eps, 0.5, 1, 20, 87.5, 88.8]
    positive += [103, 104, 708, 709.9, 740, 745.5, 1e30, info.max, np.inf]
    return np.array([*positive, *(-p for p in positive), np.nan], dtype)


@every_dtype
@pytest.mark.parametrize("op", [op for op in OPS.values() if op.takes_any_numbers], ids=lambda op: op.name)
def test_special_values(op, dtype):
    # Each alone and each beside every other, in a row long enough for the vector loop.
    values = specials(dtype)
    rows = np.array([[a, b, *[a] * 40] for a in values for b in values], dtype)
    check(op, (rows,))
    check(op, (values,))


def two_arrays(op):
    """Whether it takes two arrays element by element, the second perhaps a mask."""
    args = op.example(np.random.default_rng(0), (3,), np.float64) if (3,) in op.shapes else ()
    return len(args) == 2 and all(np.shape(a) == (3,) and a.dtype.kind in "fb" for a in args) and op.floor is None


@every_dtype
@pytest.mark.parametrize("op", [*filter(two_arrays, OPS.values())], ids=lambda op: op.name)
def test_special_values_in_pairs(op, dtype):
    values = specials(dtype)
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    _, like = op.example(np.random.default_rng(0), (3,), dtype)
    with np.errstate(all="ignore"):
        check(op, (a, b if like.dtype == dtype else b <= 0))


@every_dtype
def test_special_values_in_pairs_of_softmax_backward(dtype):
    # Each pair alone in its row, so that the sum has one order; huge terms may overflow in one order only.
    values = specials(dtype)
    dout, y = (a[:, np.newaxis] for a in (np.repeat(values, len(values)), np.tile(values, len(values))))
    with np.errstate(all="ignore"):
        check(OPS["softmax_backward"], (dout, y))


@every_dtype
def test_negative_zero_becomes_zero(kernels, dtype):
    assert not np.signbit(kernels.relu(np.array([-0.0] * 40, dtype))).any()


@every_dtype
def test_no_subnormal_is_flushed(kernels, dtype):
    x = -np.array([88.0, 95.0, 103.0] if dtype is np.float32 else [709.0, 730.0, 745.0], dtype)
    y = kernels.sigmoid(np.repeat(x, 20))
    assert (y > 0).all()
    np.testing.assert_allclose(y, np.exp(np.repeat(x, 20).astype(np.longdouble)), rtol=0, atol=1e-45)


def layouts(array):
    yield "negative strides", np.flip(np.flip(array).copy())
    yield "fortran", np.asfortranarray(array)
    yield "read-only", read_only(array.copy())
    yield "byte-swapped", array.astype(array.dtype.newbyteorder())
    yield "unaligned", unaligned(array)
    spread = np.repeat(array, 2, axis=-1)
    yield "strided", spread[..., ::2]


@every_op
@every_dtype
def test_any_layout(rng, op, dtype):
    args = op.example(rng, op.shapes[0], dtype)
    plain = {name: as_tuple(run(kernels, op, args)) for name, kernels in KERNELS.items()}
    for position, array in enumerate(args):
        for layout, changed in layouts(array) if isinstance(array, np.ndarray) else ():
            for name, kernels in KERNELS.items():
                what = f"{name}: argument {position}, {layout}"
                results = as_tuple(run(kernels, op, replaced(args, position, changed)))
                for a, b in zip(results, plain[name], strict=True):
                    close = np.allclose(a, b, rtol=0, atol=1e3 * np.finfo(dtype).eps)
                    assert close if op.products else ulps(a, b) == 0, what
                    assert np.asarray(a).flags.c_contiguous and a.dtype.isnative, what
                np.testing.assert_array_equal(changed, array, err_msg=what)


@every_op
def test_other_dtypes_do_what_the_reference_does(rng, op):
    for dtype in map(np.dtype, ["f2", "g", "i1", "u1", "i4", "i8", "u8", "?"]):
        args = [
            np.abs(a).astype(dtype) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a
            for a in op.example(rng, op.shapes[0], np.float64)
        ]
        if op.state and dtype.kind != "f":
            for module in MODULES.values():
                with pytest.raises(TypeError, match=r"^p(arams\[0\])? must be an array of floats"):
                    run(module, op, args)
            continue
        expected = as_tuple(run(reference, op, args))
        for name, kernels in KERNELS.items():
            for a, b in zip(as_tuple(run(kernels, op, args)), expected, strict=True):
                np.testing.assert_array_equal(a, b, strict=True, err_msg=f"{name}, {dtype}")


@every_op
@every_dtype
def test_mixed_dtypes_promote(rng, op, dtype):
    """One argument in another dtype than the others: the state of a step may not be."""
    args = op.example(rng, op.shapes[0], dtype)
    for position, array in enumerate(args):
        if isinstance(array, np.ndarray) and array.dtype == dtype and op.names[position] not in op.state:
            for other in ("f4", "f8", "f2", "i4"):
                check(op, replaced(args, position, array.astype(other)), f"argument {position} of {other}")


@every_op
@every_dtype
def test_floats_of_two_dtypes_are_computed_by_the_kernels(rng, op, dtype):
    """Not many steps on samples that are wider than the parameters, which every step would round."""
    args = op.example(rng, op.shapes[0], dtype)
    left_out = op.state | ({"x"} if op.name == "mlp_descent" and dtype == np.float32 else set())
    for position, array in enumerate(args):
        if isinstance(array, np.ndarray) and array.dtype == dtype and op.names[position] not in left_out:
            other = replaced(args, position, array.astype("f4" if dtype == np.float64 else "f8"))
            for name, kernels in KERNELS.items():
                assert fallbacks(kernels, op, other) == [], f"{name}: argument {position}"


def fallbacks(kernels, op, args):
    """The ops that a call has the reference compute."""
    found = []
    token = fallback.fell_back.set(found.append)
    try:
        run(kernels, op, args)
    finally:
        fallback.fell_back.reset(token)
    return found


@every_dtype
def test_lists_are_arrays(module, dtype):
    np.testing.assert_array_equal(module.relu([[-1.0, 2.0]]), np.array([[0.0, 2.0]]), strict=True)


@every_op
@every_dtype
def test_arguments_are_unchanged(rng, op, dtype):
    args = op.example(rng, op.shapes[0], dtype)
    before = [np.array(a) for a in args]
    for name, module in MODULES.items():
        run(module, op, args)
        for a, b in zip(args, before, strict=True):
            np.testing.assert_array_equal(a, b, strict=True, err_msg=name)


@every_dtype
@pytest.mark.parametrize("size", [3, 40])
def test_products_that_overflow_raise_no_warning(module, dtype, size):
    large, b = np.full((size, size), np.finfo(dtype).max, dtype), np.zeros(size, dtype)
    for matrix in (large, np.repeat(large, 2, axis=1)[:, ::2], large.astype(large.dtype.newbyteorder())):
        with np.errstate(all="raise"):
            assert np.isinf(module.affine(matrix, matrix, b)).all()
            assert np.isinf(module.affine_backward(matrix, matrix, matrix)[1]).all()
            module.mlp_gradient(matrix, np.zeros(size, int), matrix, b)


def test_losses_that_overflow_raise_no_warning(module):
    large, zero = np.full(4, np.finfo(np.float32).max), np.zeros(4, np.float32)
    with np.errstate(all="raise"):
        assert module.mean_squared_error(large, zero) == np.inf
        assert module.sigmoid_cross_entropy(large, zero, eps=0)[0] > 1e38


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 3, 4)])
def test_a_mask_is_contiguous(module, rng, shape):
    x = np.asfortranarray(rng.standard_normal(shape))
    mask = module.relu_with_mask(x)[1]
    np.testing.assert_array_equal(mask, x <= 0)
    assert mask.flags.c_contiguous and mask.dtype == bool


def test_the_gradient_of_a_single_number_is_a_scalar(module):
    W = np.arange(1.0, 8.0).reshape(1, 7)
    dx, dW, _ = module.affine_backward(np.ones(7), 2.0, W)
    assert type(dx) is np.float64 and dx == 28 and dW.shape == (1, 7)


@every_step
@every_dtype
def test_a_step_gives_native_byte_order(rng, op, dtype):
    args = op.example(rng, op.shapes[0], dtype)
    swapped = [a.astype(a.dtype.newbyteorder()) if isinstance(a, np.ndarray) else a for a in args]
    for name, module in MODULES.items():
        for result, expected in zip(as_tuple(run(module, op, swapped)), as_tuple(run(module, op, args)), strict=True):
            np.testing.assert_array_equal(result, expected, strict=True, err_msg=name)
            assert result.dtype.isnative, name


# ---------------------------------------------------------------- out=


@every_op_with_out
@every_dtype
def test_out_is_filled_and_returned(rng, op, dtype):
    args = op.example(rng, op.shapes[0], dtype)
    for name, module in MODULES.items():
        expected = op.received(run(module, op, args))
        outs = [np.full_like(e, 77) for e in expected]
        received = op.received(run(module, op, args, out=op.as_out(outs)))
        for result, given, array in zip(received, outs, expected, strict=True):
            assert result is given, name
            np.testing.assert_array_equal(given, array, err_msg=name)


class Interfering(np.ndarray):
    """NumPy's functions would ask it what to do."""

    def __array_function__(self, function, types, args, kwargs):
        raise ZeroDivisionError(function.__name__)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise ZeroDivisionError(ufunc.__name__)


@every_op
@every_dtype
def test_a_subclass_is_an_array(rng, op, dtype):
    args = op.example(rng, op.shapes[0], dtype)
    given = [a.view(Interfering) if isinstance(a, np.ndarray) else a for a in args]
    for name, module in MODULES.items():
        expected = run(module, op, args)
        outs = [np.full_like(e, 77).view(Interfering) for e in op.received(expected)]
        results = as_tuple(run(module, op, given, **({"out": op.as_out(outs)} if outs else {})))
        assert all(result is out for result, out in zip(op.received(results), outs, strict=True)), name
        plain = tuple(np.ndarray.view(r, np.ndarray) if isinstance(r, np.ndarray) else r for r in results)
        assert_agree(op, plain if isinstance(expected, tuple) else plain[0], expected, op.floors(*args), name)


def with_soft_targets(op, args):
    """Targets of y's dtype in place of class indices."""
    if op.family == "losses" and args[1].dtype != args[0].dtype:
        yield replaced(args, 1, np.random.default_rng(1).random(args[0].shape).astype(args[0].dtype))


@every_op_with_out
@every_dtype
def test_in_place(rng, op, dtype):
    """Each argument that an output may be, alone."""
    for shape in op.shapes:
        args = op.example(rng, shape, dtype)
        for given in (args, *with_soft_targets(op, args)):
            for name, kernels in KERNELS.items():
                results = op.received(run(kernels, op, given))
                for place, (result, allowed) in enumerate(zip(results, op.out.values(), strict=True)):
                    for position in map(op.names.index, allowed):
                        array = np.asarray(given[position])
                        if (array.shape, array.dtype) == (np.shape(result), result.dtype):
                            array, outs = array.copy(), (None,) * len(results)
                            call = replaced(given, position, array)
                            outs = op.as_out(replaced(outs, place, array))
                            what = f"{name}, {shape}: {op.names[position]}"
                            assert op.received(run(kernels, op, call, out=outs))[place] is array, what
                            np.testing.assert_array_equal(array, result, err_msg=what)


@every_dtype
def test_the_gradient_with_its_loss_is_the_gradient_after_it(kernels, rng, dtype):
    for shape in [(1, 1), (3, 5), (700, 10), (50, 64), (20, 65), (9, 5000)]:
        x, t = OPS["softmax_cross_entropy"].example(rng, shape, dtype)
        for targets in (t, np.eye(shape[1], dtype=dtype)[t], rng.random(shape).astype(dtype)):
            dx = kernels.softmax_cross_entropy_backward(kernels.softmax_cross_entropy(x, targets)[1], targets, 0.3)
            together = kernels.softmax_cross_entropy_and_grad(x, targets, 0.3)[1]
            np.testing.assert_array_equal(together, dx, err_msg=str(shape))


@pytest.mark.parametrize("shape", [(4,), (5, 4), (5, 2, 2), (5, 6, 4), (0, 4), (0, 6, 4)])
@every_dtype
def test_affine_of_any_samples_into_out(module, rng, shape, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    W, b = rng.standard_normal((4, 3)).astype(dtype), rng.standard_normal(3).astype(dtype)
    y = module.affine(x, W, b)
    given = np.full_like(y, 7)
    assert module.affine(x, W, b, out=given) is given
    np.testing.assert_array_equal(given, y)
    rows = x.reshape(-1, 4)
    np.testing.assert_allclose(y.reshape(-1, 3), rows @ W + b, rtol=1e-5)
    dout = rng.standard_normal(y.shape).astype(dtype)
    results = module.affine_backward(dout, x, W)
    out = tuple(np.full_like(r, 7) for r in results)
    for result, array, expected in zip(module.affine_backward(dout, x, W, out=out), out, results, strict=True):
        assert result is array
        np.testing.assert_array_equal(array, expected)
    only_dW = module.affine_backward(dout, x, W, out=(None, out[1], None))
    assert only_dW[1] is out[1] and only_dW[0] is not out[0]


@every_dtype
def test_squared_errors_of_many_arrays(dtype):
    # A rounding of the sum counts double where the sum is at the low end of its binade and the mean at the high end.
    for seed in range(2000):
        check(OPS["mean_squared_error"], np.random.default_rng(seed).normal(0, 3, (2, 297)).astype(dtype), seed)


@pytest.mark.parametrize("order", ["C", "F"])
@every_dtype
def test_products_of_an_array_with_itself(rng, dtype, order):
    # BLAS has a routine of its own for these, which sums in another order.
    x, W = np.array(rng.standard_normal((3000, 8)), dtype, order=order), np.ones((8, 8), dtype)
    wide = np.array(rng.standard_normal((8, 3000)), dtype, order=order)
    for args in ((x, x, W), (wide, W, wide)):
        check(OPS["affine_backward"], args)


def test_affine_does_not_write_where_it_reads(module, rng):
    x, W, b = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal(3)
    dout, fresh = rng.standard_normal((3, 3)), np.empty((3, 3))
    for name, out in (("x", x), ("W", W)):
        with pytest.raises(ValueError, match=f"out overlaps {name}, which"):
            module.affine(x, W, b, out=out)
    for name, out in (
        ("dout", (dout, None, None)),
        ("x", (None, x, None)),
        ("W", (None, W, None)),
        (r"out\[0\]", (fresh, fresh, None)),
    ):
        with pytest.raises(ValueError, match=rf"out\[.\] overlaps {name}, which"):
            module.affine_backward(dout, x, W, out=out)


# ---------------------------------------------------------------- labels and targets


def of_classes(op):
    """A loss, or its gradient, of class indices."""
    return op.family == "losses" and op.example(np.random.default_rng(0), (2, 3), np.float64)[1].shape == (2,)


def loss_calls(dout=0.7, eps=1e-7):
    """Losses of class indices, and the options of theirs among these."""
    for op in filter(of_classes, OPS.values()):
        yield op, {name: value for name, value in (("dout", dout), ("eps", eps)) if name in op.parameters}


def assert_losses_agree(y, t, what="", **options):
    for op, given in loss_calls(**options):
        check(op, (y, t), what, **given)


@every_dtype
@pytest.mark.parametrize("kind", ["labels", "column", "one-hot", "soft"])
def test_losses_take_every_kind_of_target(rng, dtype, kind):
    for N, C in ((1, 1), (4, 2), (7, 33), (300, 10), (3, 5000)):
        y = OPS["cross_entropy_error"].example(rng, (N, C), dtype)[0]
        labels = rng.integers(0, C, N)
        soft = rng.random((N, C)).astype(dtype)
        one_hot = np.eye(C, dtype=dtype)[labels]
        t = {"labels": labels, "column": labels[:, np.newaxis], "one-hot": one_hot, "soft": soft}[kind]
        if kind == "column" and C == 1:
            t = labels
        for eps in (1e-7, 0.0, 0.25):
            assert_losses_agree(y, t, f"{(N, C)}, eps={eps}", eps=eps)


@every_dtype
def test_labels_of_any_integer_dtype(kernels, rng, dtype):
    y, labels = OPS["cross_entropy_error"].example(rng, (9, 5), dtype)
    for op, options in loss_calls():
        plain = as_tuple(run(kernels, op, (y, labels), **options))
        for integers in ("i1", "u1", "i2", "u4", "i4", "i8", "u8", ">i4", ">u8"):
            for given in (labels.astype(integers), np.repeat(labels, 2).astype(integers)[::2]):
                for a, b in zip(as_tuple(run(kernels, op, (y, given), **options)), plain, strict=True):
                    assert ulps(a, b) == 0, f"{op.name}, {integers}"


@every_dtype
@pytest.mark.parametrize("target_dtype", ["?", "i1", "u1", "i4", "i8", "f2", "f4", "f8"])
def test_one_hot_of_any_dtype_promotes_as_in_numpy(rng, dtype, target_dtype):
    y, labels = OPS["cross_entropy_error"].example(rng, (9, 5), dtype)
    t = np.eye(5)[labels].astype(target_dtype)
    assert_losses_agree(y, t)
    for module in MODULES.values():
        assert module.softmax_cross_entropy_backward(y, t).dtype == np.result_type(y, t)


@every_dtype
@pytest.mark.parametrize("op", OF_CLASSES, ids=lambda op: op.name)
def test_one_hot_rows_give_what_labels_do(rng, op, dtype):
    """Bit for bit.  A zero with a sign makes the rows soft targets for the kernels, which add in another order."""
    for N, C in ((1, 1), (1, 2), (7, 2), (100, 10), (9, 33), (3, 300), (2000, 10), (40, 1000)):
        y, labels = op.example(rng, (N, C), dtype)[:2]
        one_hot = np.eye(C)[labels]
        signed = np.where(one_hot == 0, -one_hot, one_hot).astype(dtype)
        for name, kernels in KERNELS.items():
            expected = run(kernels, op, (y, labels))
            soft = run(kernels, op, (y, signed))
            assert_agree(op, soft, expected, op.floors(y, labels), name)
            for targets in ("?", "u1", "i2", "f2", "i4", "i8", "f4", "f8", ">i4", ">f8"):
                if np.result_type(y, targets) == y.dtype:
                    result = run(kernels, op, (y, one_hot.astype(targets)))
                    for a, b in zip(as_tuple(result), as_tuple(expected), strict=True):
                        np.testing.assert_array_equal(a, b, strict=True, err_msg=f"{name} {(N, C)} {targets}")


@every_dtype
@pytest.mark.parametrize("C", [1, 2, 10, 33, 300, 5000])
def test_the_gradient_of_rows_that_sum_to_1_is_the_books(module, rng, dtype, C):
    """Bit for bit."""
    y, t = (rng.dirichlet(np.ones(C), 40).astype(dtype) for _ in range(2))
    for targets in (t, np.eye(C, dtype=dtype)[rng.integers(0, C, 40)], np.eye(C, dtype="u1")[rng.integers(0, C, 40)]):
        dx = module.softmax_cross_entropy_backward(y, targets, 0.3)
        np.testing.assert_array_equal(dx, (y - targets) * dtype(0.3 / 40), strict=True)


@every_dtype
@pytest.mark.parametrize("C", [1, 3, 33, 300])
def test_weights_of_the_samples_are_those_of_the_gradient(module, rng, dtype, C):
    x, labels = rng.standard_normal((40, C)).astype(dtype), rng.integers(0, C, 40)
    weights = rng.choice([0, 0.5, 1, 3], (40, 1)).astype(dtype)
    t = np.eye(C, dtype=dtype)[labels] * weights
    loss, dx = module.softmax_cross_entropy_and_grad(x, t)
    _, of_labels = module.softmax_cross_entropy_and_grad(x, labels)
    np.testing.assert_allclose(dx, of_labels * weights, rtol=1e-5, atol=1e-8)
    each = [float(module.softmax_cross_entropy(row, label)[0]) for row, label in zip(x, labels, strict=True)]
    assert float(loss) == pytest.approx(np.mean(weights[:, 0] * each), rel=1e-5)


def test_a_row_of_many_ones_is_not_one_hot(kernels):
    """So many that sums of their places, beside their number, look like one place."""
    k = 362 << 16
    first, more = divmod((1 << 48) - k * (k - 1) // 2, k)
    t = np.zeros((1, 2 * first + k + 10), np.uint8)
    t[0, first : first + k + 1] = 1
    t[0, first + k - more] = 0
    # The last further on, so that the place that all look like has a one.
    t[0, first + k], t[0, first + k + first + 5] = 0, 1
    y = np.full(t.shape, 0.5, np.float32)
    assert t[0, np.flatnonzero(t).sum() - (1 << 48)] == 1
    assert kernels.cross_entropy_error(y, t) == pytest.approx(k * np.log(2), rel=1e-5)


@every_dtype
@pytest.mark.parametrize("row", [[0, 0, 0], [1, 0, 1], [0, 2, 0], [0, 0.5, 0], [1, -1, 1], [0, np.nan, 0]])
def test_rows_that_are_almost_one_hot(rng, dtype, row):
    y = rng.random((50, 3)).astype(dtype)
    for integers in (dtype, np.int64) if np.array_equal(row, np.trunc(row)) else (dtype,):
        t = np.eye(3, dtype=integers)[rng.integers(0, 3, 50)]
        t[37] = row
        assert_losses_agree(y, t)


@every_dtype
def test_a_single_sample(dtype):
    y = np.array([0.1, 0.7, 0.2], dtype)
    for t in (1, np.int32(1), np.array(1), np.array([1]), np.array([0, 1, 0], dtype)):
        assert_losses_agree(y, t, repr(t))
        for kernels in KERNELS.values():
            assert ulps(kernels.cross_entropy_error(y, t), kernels.cross_entropy_error(y[np.newaxis], [1])) == 0


@every_dtype
def test_the_exact_loss_does_not_saturate(kernels, dtype):
    x = np.array([[0.0, 1000.0]], dtype)
    assert kernels.softmax_cross_entropy(x, [0], eps=0)[0] == 1000
    assert kernels.softmax_cross_entropy(x, np.array([[1, 0]], dtype), eps=0)[0] == 1000
    assert kernels.softmax_cross_entropy(x, [0])[0] == pytest.approx(-np.log(1e-7), rel=1e-6)


@every_dtype
def test_the_exact_loss_of_many_rows(kernels, rng, dtype):
    x = (rng.standard_normal((400, 10)) * 42).astype(dtype)
    assert_losses_agree(x, rng.integers(0, 10, 400), eps=0)
    # a confident row: log(1 + e^-20)
    loss = kernels.softmax_cross_entropy(np.array([[20, 0]], dtype), [0], eps=0)[0]
    assert loss == pytest.approx(2.0611536e-09, rel=1e-6)


def test_a_tiny_eps_is_not_0(module):
    x = np.array([[0, 200]], np.float32)
    for t in ([0], np.array([[1, 0]], np.float32)):
        assert module.softmax_cross_entropy(x, t, eps=1e-50)[0] == np.inf


def test_a_row_without_target_does_not_count(module):
    x, t = np.array([[np.nan, 0], [0, 0]]), np.array([[0.0, 0], [1, 0]])
    for eps in (0, 1e-7):
        assert module.softmax_cross_entropy(x, t, eps=eps)[0] == pytest.approx(np.log(2) / 2, rel=1e-6)


def test_a_loss_of_0_is_positive(module):
    assert not np.signbit(module.cross_entropy_error(np.ones((2, 1)), [0, 0], eps=0))
    assert not np.signbit(module.softmax_cross_entropy(np.ones((2, 1)), [0, 0], eps=0)[0])


def test_results_are_in_native_byte_order(module):
    for dtype in (">f2", ">f4", ">f8"):
        assert module.bias_grad(np.ones((3, 2), dtype)).dtype.isnative


def test_nothing_is_raised_under_errstate(module):
    with np.errstate(all="raise"):
        for dtype in (np.float16, np.float32, np.float64):
            x = np.array([-100.0, -1000.0, 0.0, 1000.0], dtype)
            module.sigmoid(x)
            module.softmax(x)
            module.softmax_cross_entropy(x, 0)


def test_64_dimensions(module):
    x = np.ones((1,) * 63 + (2,))
    np.testing.assert_array_equal(module.bias_grad(x), [1, 1])
    assert module.relu(x).shape == x.shape


@every_dtype
def test_classes_without_target_do_not_count(kernels, dtype):
    x, t = np.array([[0.0, -np.inf]], dtype), np.array([[1, 0]], dtype)
    assert kernels.softmax_cross_entropy(x, t, eps=0)[0] == 0
    y = np.array([[1.0, 0.0]], dtype)
    assert kernels.cross_entropy_error(y, t, eps=0) == 0
    np.testing.assert_array_equal(kernels.cross_entropy_error_backward(y, t, eps=0), [[-1, 0]])


@every_dtype
def test_dout_of_a_loss(rng, dtype):
    y, t = OPS["cross_entropy_error"].example(rng, (4, 3), dtype)
    for dout in (1, 1.0, 0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), np.int64(3)):
        assert_losses_agree(y, t, repr(dout), dout=dout)
    for module in MODULES.values():
        assert module.softmax_cross_entropy_backward(y, t, np.float64(1)).dtype == np.float64


@every_dtype
def test_nan_spoils_its_own_row_only(kernels, dtype):
    x = np.zeros((3, 40), dtype)
    for bad in (np.nan, np.inf):
        x[1, 17] = bad
        y = kernels.softmax(x)
        assert np.isnan(y[1]).all()
        np.testing.assert_array_equal(y[[0, 2]], np.full((2, 40), y[0, 0]))


# ---------------------------------------------------------------- sums


@every_dtype
@pytest.mark.parametrize("rows", [31, 300, 100_000])
def test_equal_numbers_do_not_round_the_same_way_again_and_again(rng, dtype, rows):
    row = rng.uniform(1, 2, 50).astype(dtype)
    exact = np.array([math.fsum([value] * rows) for value in row.tolist()])
    for name, module in MODULES.items():
        db = module.bias_grad(np.broadcast_to(row, (rows, 50)))
        assert (np.abs(db - exact) <= 0.5 * np.spacing(exact.astype(dtype))).all(), name


@every_dtype
def test_infinities_in_sums(kernels, dtype):
    dout = np.ones((600, 3), dtype)
    dout[5, 0], dout[7, 1], dout[8, 2], dout[500, 2] = np.inf, np.nan, np.inf, -np.inf
    db = kernels.bias_grad(dout)
    assert db[0] == np.inf and np.isnan(db[1]) and np.isnan(db[2])


@every_dtype
def test_a_bias_gradient_of_few_rows_and_many_columns(rng, dtype):
    for rows in (3, 5, 7, 12, 15, 16, 31, 40, 64):
        (dout,) = OPS["bias_grad"].example(rng, (rows, 50000), dtype)
        check(OPS["bias_grad"], (dout,), rows)
        check(OPS["bias_grad"], (np.abs(dout),), rows)


# ---------------------------------------------------------------- optimizers


@every_step
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (33,), (5, 34), (300, 301)])
def test_a_step_in_place_is_the_step(rng, op, dtype, shape):
    args = op.example(rng, (1, *shape), dtype)
    args = [a[0, ...] if isinstance(a, np.ndarray) else a for a in args]  # arrays of no dimension, too
    before, count = [np.array(a) for a in args], len(op.out)
    for name, module in MODULES.items():
        expected = as_tuple(run(module, op, args))
        for a, b in zip(args, before, strict=True):
            np.testing.assert_array_equal(a, b, strict=True, err_msg=name)
        state = [np.array(a) for a in args[:count]]
        results = as_tuple(run(module, op, [*state, *args[count:]], out=op.as_out(state)))
        for result, array, value in zip(results, state, expected, strict=True):
            assert result is array, name
            assert array.tobytes() == np.asarray(value).tobytes(), name
        np.testing.assert_array_equal(args[count], before[count], strict=True, err_msg=name)


@every_step
@every_dtype
def test_a_step_into_memory_of_its_own_or_its_old_place(module, rng, op, dtype):
    args, count = op.example(rng, op.shapes[0], dtype), len(op.out)
    expected = as_tuple(run(module, op, args))
    for i in range(count if count > 1 else 0):
        state = [a.copy() for a in args[:count]]
        results = run(module, op, [*state, *args[count:]], out=replaced((None,) * count, i, state[i]))
        assert results[i] is state[i]
        for k, (result, value) in enumerate(zip(results, expected, strict=True)):
            np.testing.assert_array_equal(result, value)
            if k != i:
                assert result is not state[k]
                np.testing.assert_array_equal(state[k], args[k])
    fresh = [np.full_like(a, 7) for a in args[:count]]
    results = as_tuple(run(module, op, args, out=op.as_out(fresh)))
    for result, array, value in zip(results, fresh, expected, strict=True):
        assert result is array
        np.testing.assert_array_equal(array, value)


@every_step
@every_dtype
def test_a_step_in_place_beside_any_gradient(module, rng, op, dtype):
    args, count = op.example(rng, op.shapes[0], dtype), len(op.out)
    expected = as_tuple(run(module, op, args))
    lists = [("list", args[count].tolist())] if dtype is np.float64 else []
    for name, dp in [*layouts(args[count]), *lists]:
        state = [a.copy() for a in args[:count]]
        run(module, op, [*state, dp, *args[count + 1 :]], out=op.as_out(state))
        for array, value in zip(state, expected, strict=True):
            np.testing.assert_array_equal(array, value, err_msg=name)
        np.testing.assert_array_equal(dp, args[count])


@every_step
def test_a_gradient_of_another_dtype(kernels, rng, op):
    count = len(op.out)
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32), (np.float32, np.int8)):
        args = list(op.example(rng, op.shapes[0], dtype))
        args[count] = args[count].astype(other)
        expected = as_tuple(run(reference, op, args))
        for result, value in zip(as_tuple(run(kernels, op, args)), expected, strict=True):
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, value)
        run(kernels, op, args, out=op.as_out(args[:count]))
        for array, value in zip(args[:count], expected, strict=True):
            np.testing.assert_array_equal(array, value)


@every_step
@every_dtype
def test_special_values_of_a_step(op, dtype):
    values = specials(dtype)
    with np.errstate(all="ignore"):
        p, dp = np.repeat(values, len(values)), np.tile(values, len(values))
        constants = op.example(np.random.default_rng(0), (1,), dtype)[len(op.out) + 1 :]
        for kept in values[values >= 0]:
            check(op, (p, *(np.full_like(p, kept) for _ in range(len(op.out) - 1)), dp, *constants), kept)


def test_nesterov_of_both_forms(module, rng):
    p, v, dp = rng.standard_normal((3, 4, 9))
    for form in (1, 2):
        updated, velocity = module.nesterov(p, v, dp, 0.1, 0.9, form)
        np.testing.assert_allclose(velocity, 0.9 * v - 0.1 * dp, rtol=1e-14)
        old_or_new = v if form == 1 else velocity
        np.testing.assert_allclose(updated, p + 0.81 * old_or_new - 0.19 * dp, rtol=1e-13, atol=1e-15)


# ---------------------------------------------------------------- a perceptron in one call


def perceptron(rng, sizes, dtype):
    params = []
    for D, M in zip(sizes[:-1], sizes[1:], strict=True):
        params += [(rng.standard_normal((D, M)) / D**0.5).astype(dtype), rng.standard_normal(M).astype(dtype)]
    return params


def targets(rng, loss, shape, dtype):
    """Of every kind that goes with outputs of this shape."""
    labels = rng.integers(0, shape[-1], shape[:-1])
    soft = rng.random(shape)
    if loss == "softmax":
        yield from (labels, labels.astype(np.uint8), np.asarray(labels).tolist(), np.eye(shape[-1])[labels])
        yield from (np.eye(shape[-1], dtype=dtype)[labels], (soft / soft.sum(axis=-1, keepdims=True)).astype(dtype))
    elif loss == "sigmoid":
        yield from (soft < 0.5, (soft < 0.5).astype(np.uint8), (soft < 0.5).astype(dtype), soft.astype(dtype), soft)
    else:
        yield from (soft.astype(dtype), soft, (5 * soft).astype(int), soft.tolist())


def assert_same_gradients(x, t, params, what="", **kwargs):
    expected = reference.mlp_gradient(x, t, *params, **kwargs)
    eps = np.finfo(params[0].dtype).eps
    for name, kernels in KERNELS.items():
        results = kernels.mlp_gradient(x, t, *params, **kwargs)
        assert len(results) == len(params) + 1
        for a, b in zip(results, expected, strict=True):
            assert type(a) is type(b) and a.dtype == b.dtype and np.shape(a) == np.shape(b), f"{name}, {what}"
            largest = max(1, np.max(np.abs(b), initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=100 * eps * largest, err_msg=f"{name}, {what}")
        out = tuple(np.full(g.shape, 7, g.dtype) for g in results[1:])
        again = kernels.mlp_gradient(x, t, *params, out=out, **kwargs)[1:]
        for a, given, b in zip(again, out, results[1:], strict=True):
            assert a is given, f"{name}, {what}"
            np.testing.assert_array_equal(a, b, err_msg=f"{name}, {what}")


every_loss = pytest.mark.parametrize("loss", LOSSES)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


@every_dtype
@every_loss
@every_activation
def test_a_perceptron_of_any_samples(rng, dtype, loss, activation):
    for sizes in ((4, 3), (4, 5, 3), (4, 7, 5, 3), (4, 1, 1)):
        for shape in ((4,), (1, 4), (6, 4), (6, 2, 2), (2, 3, 4)):
            params, x = perceptron(rng, sizes, dtype), rng.standard_normal(shape).astype(dtype)
            batch = shape[:1] if shape == (6, 2, 2) else shape[:-1]
            for i, t in enumerate(targets(rng, loss, (*batch, sizes[-1]), dtype)):
                for eps in (1e-7, 0):
                    what = f"{sizes}, {shape}, targets {i}, eps={eps}"
                    assert_same_gradients(x, t, params, what, activation=activation, loss=loss, eps=eps)


@every_dtype
@every_loss
@every_activation
def test_a_perceptron_of_large_products(rng, dtype, loss, activation):
    for sizes, N in (((64, 50, 10), 50), ((300, 200, 100, 10), 64), ((9, 500, 2), 1), ((2, 3, 1), 999)):
        params, x = perceptron(rng, sizes, dtype), rng.standard_normal((N, sizes[0])).astype(dtype)
        if activation == "relu":
            # On either side of 0 the two agree, but a sum near 0 may have another sign in another order.
            x[...] = np.round(x * 4) / 4
            params = [(np.round(p * 64) / 64).astype(dtype) for p in params]
        t = next(iter(targets(rng, loss, (N, sizes[-1]), dtype)))
        assert_same_gradients(x, t, params, f"{sizes}, {N}", activation=activation, loss=loss)


@every_dtype
def test_a_perceptron_of_every_small_size(rng, dtype):
    for N, D, H, C in np.ndindex(4, 4, 10, 4):
        params, x = perceptron(rng, (D + 1, H + 1, C + 1), dtype), rng.standard_normal((N + 1, D + 1)).astype(dtype)
        assert_same_gradients(x, rng.integers(0, C + 1, N + 1), params, (N, D, H, C))


@every_dtype
def test_a_perceptron_of_layers_of_no_width(dtype):
    x, nothing = np.ones((2, 3), dtype), np.ones(0, dtype)
    params = [np.ones((3, 0), dtype), nothing, np.ones((0, 2), dtype), np.ones(2, dtype)]
    assert_same_gradients(x, np.array([0, 1]), params)
    assert_same_gradients(x[:, :0], np.array([0, 1]), params[2:])


def test_a_perceptron_beside_nan_and_infinity(kernels, rng):
    params = perceptron(rng, (3, 4, 2), np.float64)
    for bad in (np.nan, np.inf, -np.inf):
        x = rng.standard_normal((5, 3))
        x[1, 1] = bad
        for activation in ACTIVATIONS:
            args = x, np.array([0, 1, 1, 0, 1]), *params
            with np.errstate(all="ignore"):
                results = kernels.mlp_gradient(*args, activation=activation)
                expected = reference.mlp_gradient(*args, activation=activation)
            for a, b in zip(results, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("targets", ["?", "u1", "i4", "f2", "f8"])
def test_a_perceptron_beside_targets_of_another_dtype(rng, targets):
    params, x = perceptron(rng, (3, 4, 2), np.float32), rng.standard_normal((5, 3)).astype(np.float32)
    t = rng.integers(0, 2, (5, 2)).astype(targets)
    for loss in LOSSES:
        assert_same_gradients(x, t, params, loss=loss)


class SlyLabels:
    """Makes the weights shorter while the labels are being read from it."""

    def __init__(self, params):
        self.params = params

    def __array__(self, dtype=None, copy=None):
        self.params[0].resize((1, 1), refcheck=False)
        return np.array([0, 1])


def test_parameters_that_change_while_labels_are_read(module):
    params = [np.ones((300, 2)), np.zeros(2)]
    with pytest.raises(ValueError, match=r"W of shape \(1, 1\)|x has shape|b has shape"):
        module.mlp_gradient(np.ones((2, 300)), SlyLabels(params), *params)


# ---------------------------------------------------------------- many steps of one

# The constants of each step after its learning rate.
CONSTANTS = {
    "momentum": (0.9,), "nesterov": (0.9, 2), "adagrad": (1e-3,), "rmsprop": (0.9, 1e-3), "adam": (0.9, 0.99, 7, 1e-3)
}  # fmt: skip


def one_by_one(module, x, t, order, batch_size, lr, params, kept, step, **options):
    """The same by the ops that it is made of; its arrays are changed."""
    losses, constants, count = [], [*CONSTANTS.get(step, ())], len(params)
    for indices in np.atleast_2d(order):
        for batch in np.split(indices, range(batch_size, len(indices), batch_size)):
            loss, *grads = module.mlp_gradient(x[batch], t[batch], *params, **options)
            losses.append(loss)
            if np.isnan(loss):
                return losses
            for i, dp in enumerate(grads):
                state = params[i], *kept[i::count]
                out = state if len(state) > 1 else state[0]
                getattr(module, step)(*state, dp, lr, *constants, out=out)
            if step == "adam":
                constants[2] += 1
    return losses


@every_step
def test_constants_that_have_a_default_may_be_left_out(module, rng, op):
    x, params, kept = descent(rng, (4, 3), 6, np.float64, op.name)
    t, taken = np.arange(6) % 3, [p for p in op.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    numbers = taken[len(op.out) + 2 :]
    required = [0.5 if p.name != "iter" else 2 for p in numbers if p.default is p.empty]
    defaults = [p.default for p in numbers if p.default is not p.empty]
    a, b = (
        module.mlp_descent(x, t, np.arange(6), 2, 0.1, *params, *kept, step=op.name, constants=(*constants,))
        for constants in (required, required + defaults)
    )
    for mine, whole in zip(a, b, strict=True):
        np.testing.assert_array_equal(mine, whole)


def descent(rng, sizes, N, dtype, step):
    """x, parameters and what the step keeps for them."""
    params = perceptron(rng, sizes, dtype)
    kept = [np.abs(rng.standard_normal(p.shape)).astype(dtype) for _ in range(len(OPS[step].out) - 1) for p in params]
    return rng.standard_normal((N, sizes[0])).astype(dtype), params, kept


def copies(arrays):
    return [a.copy() for a in arrays]


@every_step
@every_dtype
@every_loss
@every_activation
def test_many_steps_are_single_ones(module, rng, op, dtype, loss, activation):
    """To the last bit: steps without the GIL, and those with products of BLAS; short batches; several passes."""
    for sizes, N, batch_size in (((2, 9, 3), 12, 1), ((4, 3, 5, 2), 11, 4), ((30, 20, 10), 25, 10), ((3, 2), 7, 99)):
        x, params, kept = descent(rng, sizes, N, dtype, op.name)
        order = np.stack([rng.permutation(N), np.arange(N), rng.permutation(N)])
        for t in targets(rng, loss, (N, sizes[-1]), dtype):
            t, expected, expected_kept = np.asarray(t), copies(params), copies(kept)
            options = {"activation": activation, "loss": loss}
            losses = one_by_one(
                module, x, t, order, batch_size, 0.01, expected, expected_kept, op.name, **options, eps=1e-5
            )
            options |= {"step": op.name, "constants": CONSTANTS.get(op.name, ()), "eps": 1e-5}
            before = copies([*params, *kept])
            results = module.mlp_descent(x, t, order, batch_size, 0.01, *params, *kept, **options)
            np.testing.assert_array_equal(results[0], np.array(losses), strict=True)
            for a, b in zip(results[1:], [*expected, *expected_kept], strict=True):
                np.testing.assert_array_equal(a, b, strict=True)
            for a, b in zip([*params, *kept], before, strict=True):
                np.testing.assert_array_equal(a, b)
            given = np.empty(len(losses), losses[0].dtype), *copies(before)
            in_place = module.mlp_descent(x, t, order, batch_size, 0.01, *given[1:], **options, out=given)
            for a, array, b in zip(in_place, given, results, strict=True):
                assert a is array
                np.testing.assert_array_equal(a, b)


@every_dtype
@pytest.mark.parametrize("sizes, batch_size", [((4, 3, 5), 1), ((4, 3, 5), 4), ((90, 20, 10), 30)])
def test_many_steps_of_one_hot_rows_among_soft_targets(module, rng, dtype, sizes, batch_size):
    """A batch that is one-hot is summed as class indices are, whatever the others are."""
    N = 60
    for soft in (1, 20, 40):
        x, params, kept = descent(rng, sizes, N, dtype, "sgd")
        t = np.eye(sizes[-1], dtype=dtype)[rng.integers(0, sizes[-1], N)]
        t[-soft:] = 1 / sizes[-1]
        expected, order = copies(params), np.arange(N)
        losses = one_by_one(module, x, t, order, batch_size, 0.1, expected, kept, "sgd")
        results = module.mlp_descent(x, t, order, batch_size, 0.1, *params)
        for a, b in zip(results, [np.array(losses), *expected], strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


@every_step
@every_dtype
def test_many_steps_follow_the_reference(rng, op, dtype):
    for sizes, N, batch_size in (((2, 10, 1), 20, 1), ((30, 20, 10), 25, 10)):
        x, params, kept = descent(rng, sizes, N, dtype, op.name)
        args = x, rng.integers(0, sizes[-1], N), rng.permutation(N), batch_size, 0.01, *params, *kept
        options = {"activation": "tanh", "step": op.name, "constants": CONSTANTS.get(op.name, ())}
        expected = reference.mlp_descent(*args, **options)
        for name, kernels in KERNELS.items():
            for a, b in zip(kernels.mlp_descent(*args, **options), expected, strict=True):
                tolerance = 1e3 * np.finfo(dtype).eps * max(1, np.max(np.abs(b)))
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


@every_dtype
@pytest.mark.parametrize("sizes", [(2, 3), (50, 60, 3)])
@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("loss", ["softmax", "identity"])
def test_many_steps_end_before_a_loss_that_is_not_finite(module, rng, dtype, sizes, place, loss):
    x, params, kept = descent(rng, sizes, 6, dtype, "momentum")
    options = {"step": "momentum", "constants": (0.9,), "loss": loss}
    if loss == "softmax":
        t, bad = rng.integers(0, 3, 6), np.nan
        x[place] = np.nan
    else:
        t, bad = rng.standard_normal((6, 3)).astype(dtype), np.inf
        t[place] = 1e20 if dtype == np.float32 else 1e200  # the square of which is infinite
    losses, *arrays = module.mlp_descent(x, t, np.arange(6), 1, 0.1, *params, *kept, **options)
    assert np.isfinite(losses[:place]).all() and np.isnan(losses[place + 1 :]).all()
    np.testing.assert_equal(losses[place], bad)
    expected = [*params, *kept]
    if place:
        _, *expected = module.mlp_descent(x, t, np.arange(place), 1, 0.1, *params, *kept, **options)
    for a, b, given in zip(arrays, expected, [*params, *kept], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, given)


@pytest.mark.parametrize("sizes", [(3, 0, 2), (0, 2), (0, 2000)])
@every_dtype
def test_many_steps_of_layers_of_no_width(module, rng, dtype, sizes):
    x, params, _ = descent(rng, sizes, 5, dtype, "sgd")
    t, expected = rng.integers(0, 2, 5), copies(params)
    losses = one_by_one(module, x, t, np.arange(5), 2, 0.1, expected, [], "sgd")
    results = module.mlp_descent(x, t, np.arange(5), 2, 0.1, *params)
    for a, b in zip(results, [np.array(losses), *expected], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
