"""Every op on every compiled backend against the reference."""

import inspect
import math

import numpy as np
import pytest

from fastnn import ops, reference
from fastnn.optable import OPS, as_tuple, ulps

LENGTHS = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000]
DTYPES = [np.float32, np.float64]
ELEMENTWISE = ["relu", "relu_backward", "sigmoid", "sigmoid_backward", "add_bias"]
LOSSES = {name for name in OPS if "cross_entropy" in name or "squared_error" in name}
ONE_BY_ONE = {name for name in LOSSES if name.startswith(("sigmoid", "mean"))}
STEPS = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"]

every_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
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


def assert_agree(op, result, expected, args):
    """`result` keeps what the op table promises beside the reference's `expected`."""
    distance = op.distance(result, expected, args)
    assert distance <= op.ulp, f"{op.name} is {distance:.2f} ULP off, {op.ulp} are promised"


def check(kernels, op, args, floors_of=None, **kwargs):
    expected = run(reference, op, args, **kwargs)
    assert_agree(op, run(kernels, op, args, **kwargs), expected, floors_of or args)


@pytest.mark.parametrize("name", OPS)
def test_signatures_are_the_references(kernels, name):
    def shape(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    expected = shape(getattr(reference, name))
    assert shape(getattr(kernels, name)) == expected
    assert shape(getattr(ops, name)) == expected
    assert getattr(ops, name).__doc__ == getattr(reference, name).__doc__


def test_every_public_function_of_a_backend_is_in_the_op_table(kernels):
    public = {n for n, f in vars(reference).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert public == set(OPS)
    assert {n for n, f in vars(kernels).items() if callable(f) and not n.startswith("_")} == set(OPS)


@every_op
@every_dtype
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [None, 1, 5, 300])
def test_agrees_with_the_reference(kernels, rng, op, dtype, length, rows):
    shape = (length,) if rows is None else (rows, length)
    if op.name in LOSSES and length == 0:
        for module in (kernels, reference):
            with pytest.raises(ValueError, match="is empty"):
                run(module, op, (np.empty(shape, dtype), np.zeros(shape if op.name in ONE_BY_ONE else shape[:-1], int)))
        return
    args = op.example(rng, shape, dtype)
    check(kernels, op, args)
    check(kernels, op, [shifted_by_one(a) for a in args], args)


@every_op
@every_dtype
@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 1, 3, 4), (3, 20000), (20000, 3), (5000, 40)])
def test_agrees_in_other_shapes(kernels, rng, op, dtype, shape):
    check(kernels, op, op.example(rng, shape, dtype))


@every_dtype
@pytest.mark.parametrize("top", [12, 15])
def test_softmax_of_rows_with_a_peak(kernels, rng, dtype, top):
    """A sum that rounds beside its one large term moves all numbers of the row."""
    x = 3 * rng.standard_normal((1000, 1000)).astype(dtype)
    x[:, 0] = top
    check(kernels, OPS["softmax"], (x,))


@every_op
@every_dtype
def test_zero_rows(kernels, rng, op, dtype):
    if op.name not in {*LOSSES, "mlp_gradient"}:
        check(kernels, op, op.example(rng, (0, 4), dtype))


@pytest.mark.parametrize("name", ["relu", "relu_with_mask", "sigmoid"])
@every_dtype
def test_no_dimension_gives_a_scalar(kernels, name, dtype):
    op, x = OPS[name], np.array(1.5, dtype)
    check(kernels, op, (x,))
    assert isinstance(as_tuple(run(kernels, op, (x,)))[0], dtype)


def specials(dtype):
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.eps, 0.5, 1, 20, 87.5, 88.8]
    positive += [103, 104, 708, 709.9, 740, 745.5, 1e30, info.max, np.inf]
    return np.array([*positive, *(-p for p in positive), np.nan], dtype)


@every_dtype
@pytest.mark.parametrize("name", ["relu", "relu_with_mask", "sigmoid", "softmax"])
def test_special_values(kernels, name, dtype):
    # Each alone and each beside every other, in a row long enough for the vector loop.
    values = specials(dtype)
    rows = np.array([[a, b, *[a] * 40] for a in values for b in values], dtype)
    check(kernels, OPS[name], (rows,))
    check(kernels, OPS[name], (values,))


@every_dtype
@pytest.mark.parametrize("name", ["sigmoid_backward", "softmax_backward", "relu_backward", "add_bias"])
def test_special_values_in_pairs(kernels, name, dtype):
    values = specials(dtype)
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    with np.errstate(all="ignore"):
        if name == "softmax_backward":
            # Alone in its row, so that the sum has one order; huge terms may overflow in one order only.
            a, b = a[:, np.newaxis], b[:, np.newaxis]
        check(kernels, OPS[name], (a, b if name != "relu_backward" else b <= 0))


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


def read_only(array):
    array.flags.writeable = False
    return array


def unaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    moved = memory.view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


@every_op
@every_dtype
def test_any_layout(kernels, rng, op, dtype):
    args = op.example(rng, (6, 34), dtype)
    for position, array in enumerate(args):
        if not isinstance(array, np.ndarray):
            continue
        for name, changed in layouts(array):
            mixed = [*args[:position], changed, *args[position + 1 :]]
            result = run(kernels, op, mixed)
            for a, b in zip(as_tuple(result), as_tuple(run(kernels, op, args)), strict=True):
                # BLAS sums in another order where it reads a matrix in another one.
                product = op.name.startswith(("affine", "mlp"))
                close = np.allclose(a, b, rtol=0, atol=1e3 * np.finfo(dtype).eps)
                assert close if product else ulps(a, b) == 0, f"argument {position}, {name}"
                assert np.asarray(a).flags.c_contiguous and a.dtype.isnative
            np.testing.assert_array_equal(changed, array)


@every_op
@pytest.mark.parametrize("dtype", ["f2", "g", "i1", "u1", "i4", "i8", "u8", "?"])
def test_other_dtypes_do_what_the_reference_does(kernels, rng, op, dtype):
    if op.name in STEPS and np.dtype(dtype).kind != "f":
        args = [np.ones(3, dtype) if isinstance(a, np.ndarray) else a for a in op.example(rng, (3,), np.float64)]
        for module in (kernels, reference):
            with pytest.raises(TypeError, match="p must be an array of floats"):
                run(module, op, args)
        return
    args = [
        np.abs(a).astype(dtype) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a
        for a in op.example(rng, (4, 5), np.float64)
    ]
    for a, b in zip(as_tuple(run(kernels, op, args)), as_tuple(run(reference, op, args)), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("name", ["sigmoid_backward", "softmax_backward", "add_bias"])
def test_mixed_dtypes_promote(kernels, rng, name):
    a, b = OPS[name].example(rng, (4, 5), np.float32)
    for args in [(a, b.astype(np.float64)), (a.astype(np.float64), b), (a, b.astype(np.float16))]:
        result = getattr(kernels, name)(*args)
        np.testing.assert_array_equal(result, getattr(reference, name)(*args), strict=True)
        assert result.dtype == np.result_type(*args)


@every_dtype
def test_lists_are_arrays(kernels, dtype):
    np.testing.assert_array_equal(kernels.relu([[-1.0, 2.0]]), np.array([[0.0, 2.0]]), strict=True)


@every_op
@every_dtype
def test_arguments_are_unchanged(kernels, rng, op, dtype):
    args = op.example(rng, (5, 33), dtype)
    before = [np.array(a) for a in args]
    run(kernels, op, args)
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


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


@pytest.mark.parametrize("name", STEPS)
@every_dtype
def test_a_step_gives_native_byte_order(module, rng, name, dtype):
    op = OPS[name]
    args = op.example(rng, (4, 5), dtype)
    swapped = [a.astype(a.dtype.newbyteorder()) if isinstance(a, np.ndarray) else a for a in args]
    for result, expected in zip(as_tuple(run(module, op, swapped)), as_tuple(run(module, op, args)), strict=True):
        np.testing.assert_array_equal(result, expected, strict=True)
        assert result.dtype.isnative


# ---------------------------------------------------------------- out=

WITH_OUT = [op for op in OPS.values() if "out" in inspect.signature(getattr(reference, op.name)).parameters]
every_op_with_out = pytest.mark.parametrize("op", WITH_OUT, ids=lambda op: op.name)


def main_result(result):
    """The array that out= receives, where it receives one."""
    return next(r for r in as_tuple(result) if isinstance(r, np.ndarray) and r.ndim)


def received(op, result):
    """The arrays that out= receives."""
    return result[-op.outs :] if op.outs > 1 else (main_result(result),)


def as_out(op, arrays):
    return tuple(arrays) if op.outs > 1 else arrays[0]


@every_op_with_out
@every_dtype
def test_out_is_filled_and_returned(kernels, rng, op, dtype):
    args = op.example(rng, (5, 33), dtype)
    expected = received(op, run(kernels, op, args))
    out = [np.full_like(e, 77) for e in expected]
    for result, given, array in zip(
        received(op, run(kernels, op, args, out=as_out(op, out))), out, expected, strict=True
    ):
        assert result is given
        np.testing.assert_array_equal(given, array)


class Interfering(np.ndarray):
    """NumPy's functions would ask it what to do."""

    def __array_function__(self, function, types, args, kwargs):
        raise ZeroDivisionError(function.__name__)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise ZeroDivisionError(ufunc.__name__)


@every_op_with_out
@every_dtype
def test_a_subclass_is_an_array(module, rng, op, dtype):
    args = op.example(rng, (5, 33), dtype)
    expected = run(module, op, args)
    out = [np.full_like(e, 77).view(Interfering) for e in received(op, expected)]
    given = [a.view(Interfering) if isinstance(a, np.ndarray) else a for a in args]
    results = as_tuple(run(module, op, given, out=as_out(op, out)))
    plain = tuple(np.ndarray.view(r, np.ndarray) if isinstance(r, np.ndarray) else r for r in results)
    assert_agree(op, plain if isinstance(expected, tuple) else plain[0], expected, args)


@every_op_with_out
@every_dtype
def test_a_wrong_out_is_refused_and_unchanged(module, rng, op, dtype):
    args = op.example(rng, (5, 33), dtype)
    expected = received(op, run(module, op, args))
    for position, result in enumerate(expected):
        others = [np.full_like(e, 7) for e in expected]
        for error, word, wrong in wrong_outs(result.shape, dtype):
            before = wrong.copy()
            out = [*others[:position], wrong, *others[position + 1 :]]
            with pytest.raises(error, match=f"out.* .*{word}"):
                run(module, op, args, out=as_out(op, out))
            np.testing.assert_array_equal(wrong, before)
            for array in out:
                assert (array == 7).all()
    with pytest.raises(TypeError, match="out must be a .*, not list"):
        run(module, op, args, out=[0.0])


def wrong_outs(shape, dtype):
    other = np.float64 if dtype is np.float32 else np.float32
    return [
        (TypeError, "dtype", np.full(shape, 7, other)),
        (TypeError, "dtype", np.full(shape, 7, np.dtype(dtype).newbyteorder())),
        (ValueError, "shape", np.full((*shape, 1), 7, dtype)),
        (ValueError, "contiguous", np.full((*shape, 2), 7, dtype)[..., 0]),
        (ValueError, "read-only", read_only(np.full(shape, 7, dtype))),
        (ValueError, "aligned", unaligned(np.full(shape, 7, dtype))),
    ]


@pytest.mark.parametrize("name", [*ELEMENTWISE, "softmax", "softmax_backward", "relu_with_mask"])
@every_dtype
@pytest.mark.parametrize("length", [1, 9, 33, 1000])
def test_in_place(kernels, rng, name, dtype, length):
    op = OPS[name]
    args = op.example(rng, (3, length), dtype)
    expected = main_result(run(kernels, op, args))
    for position, array in enumerate(args):
        if array.shape == expected.shape and array.dtype == expected.dtype:
            inplace = [*args[:position], array.copy(), *args[position + 1 :]]
            assert main_result(run(kernels, op, inplace, out=inplace[position])) is inplace[position]
            np.testing.assert_array_equal(inplace[position], expected)


@pytest.mark.parametrize(
    "name",
    [
        *ELEMENTWISE,
        "softmax",
        "softmax_backward",
        "softmax_cross_entropy",
        "softmax_cross_entropy_and_grad",
    ],
)
def test_a_partial_overlap_is_refused(module, rng, name):
    op = OPS[name]
    args = list(op.example(rng, (3, 8), np.float64))
    memory = rng.standard_normal(26)
    for x, out in [(memory[:24], memory[1:25]), (memory[2:26], memory[1:25]), (memory[1:25][::-1], memory[1:25])]:
        args[0] = x.reshape(3, 8)
        before = memory.copy()
        with pytest.raises(ValueError, match="out overlaps"):
            run(module, op, args, out=out.reshape(3, 8))
        np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "softmax_cross_entropy_and_grad"])
def test_targets_are_refused_as_out(module, rng, name):
    t = np.eye(4)
    with pytest.raises(ValueError, match="out overlaps t"):
        getattr(module, name)(rng.standard_normal((4, 4)), t, out=t)
    np.testing.assert_array_equal(t, np.eye(4))


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (700, 10), (50, 64), (20, 65), (9, 5000)])
def test_the_gradient_with_its_loss_is_the_gradient_after_it(kernels, rng, dtype, shape):
    x, t = OPS["softmax_cross_entropy"].example(rng, shape, dtype)
    for targets in (t, np.eye(shape[1], dtype=dtype)[t]):
        dx = kernels.softmax_cross_entropy_backward(kernels.softmax_cross_entropy(x, targets)[1], targets, 0.3)
        np.testing.assert_array_equal(kernels.softmax_cross_entropy_and_grad(x, targets, 0.3)[1], dx)


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
def test_squared_errors_of_many_arrays(kernels, dtype):
    # A rounding of the sum counts double where the sum is at the low end of its binade and the mean at the high end.
    for seed in range(2000):
        y, t = np.random.default_rng(seed).normal(0, 3, (2, 297)).astype(dtype)
        check(kernels, OPS["mean_squared_error"], (y, t))


@pytest.mark.parametrize("order", ["C", "F"])
@every_dtype
def test_products_of_an_array_with_itself(kernels, rng, dtype, order):
    # BLAS has a routine of its own for these, which sums in another order.
    x, W = np.array(rng.standard_normal((3000, 8)), dtype, order=order), np.ones((8, 8), dtype)
    wide = np.array(rng.standard_normal((8, 3000)), dtype, order=order)
    for args in ((x, x, W), (wide, W, wide)):
        dx, dW, _ = kernels.affine_backward(*args)
        expected_dx, expected_dW, _ = reference.affine_backward(*args)
        np.testing.assert_array_equal(dx, expected_dx)
        np.testing.assert_array_equal(dW, expected_dW)


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


def loss_ops(module, y, t, **kwargs):
    yield "cross_entropy_error", module.cross_entropy_error(y, t, **kwargs)
    yield "cross_entropy_error_backward", module.cross_entropy_error_backward(y, t, 0.7, **kwargs)
    loss, p = module.softmax_cross_entropy(y, t, **kwargs)
    yield "softmax_cross_entropy", (loss, p)
    yield "softmax_cross_entropy_backward", module.softmax_cross_entropy_backward(y, t, 0.7)
    yield "softmax_cross_entropy_and_grad", module.softmax_cross_entropy_and_grad(y, t, 0.7, **kwargs)


def assert_losses_agree(kernels, y, t, **kwargs):
    for (name, a), (_, b) in zip(loss_ops(kernels, y, t, **kwargs), loss_ops(reference, y, t, **kwargs), strict=True):
        floors = OPS[name].floor(y, t) if OPS[name].floor else (0.0,)
        for u, v, floor in zip(as_tuple(a), as_tuple(b), floors, strict=True):
            assert ulps(u, v, floor) <= OPS[name].ulp, name


@every_dtype
@pytest.mark.parametrize("eps", [1e-7, 0.0, 0.25])
@pytest.mark.parametrize("N, C", [(1, 1), (4, 2), (7, 33), (300, 10), (3, 5000)])
@pytest.mark.parametrize("kind", ["labels", "column", "one-hot", "soft"])
def test_losses_take_every_kind_of_target(kernels, rng, dtype, eps, N, C, kind):
    y = OPS["cross_entropy_error"].example(rng, (N, C), dtype)[0]
    labels = rng.integers(0, C, N)
    soft = rng.random((N, C)).astype(dtype)
    one_hot = np.eye(C, dtype=dtype)[labels]
    t = {"labels": labels, "column": labels[:, np.newaxis], "one-hot": one_hot, "soft": soft}[kind]
    if kind == "column" and C == 1:
        t = labels
    assert_losses_agree(kernels, y, t, eps=eps)


@every_dtype
@pytest.mark.parametrize("label_dtype", ["i1", "u1", "i2", "u4", "i4", "i8", "u8", ">i4", ">u8"])
def test_labels_of_any_integer_dtype(kernels, rng, dtype, label_dtype):
    y = OPS["cross_entropy_error"].example(rng, (9, 5), dtype)[0]
    labels = rng.integers(0, 5, 9)
    plain = [r for _, r in loss_ops(kernels, y, labels)]
    for given in (labels.astype(label_dtype), np.repeat(labels, 2).astype(label_dtype)[::2]):
        for (_, a), b in zip(loss_ops(kernels, y, given), plain, strict=True):
            for u, v in zip(as_tuple(a), as_tuple(b), strict=True):
                assert ulps(u, v) == 0


@every_dtype
@pytest.mark.parametrize("target_dtype", ["?", "i1", "u1", "i4", "i8", "f2", "f4", "f8"])
def test_one_hot_of_any_dtype_promotes_as_in_numpy(kernels, rng, dtype, target_dtype):
    y = OPS["cross_entropy_error"].example(rng, (9, 5), dtype)[0]
    t = np.eye(5)[rng.integers(0, 5, 9)].astype(target_dtype)
    assert_losses_agree(kernels, y, t)
    assert kernels.softmax_cross_entropy_backward(y, t).dtype == np.result_type(y, t)


@every_dtype
def test_a_single_sample(kernels, dtype):
    y = np.array([0.1, 0.7, 0.2], dtype)
    for t in (1, np.int32(1), np.array(1), np.array([1]), np.array([0, 1, 0], dtype)):
        assert_losses_agree(kernels, y, t)
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
    assert_losses_agree(kernels, x, rng.integers(0, 10, 400), eps=0)
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
@pytest.mark.parametrize("dout", [1, 1.0, 0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), np.int64(3)])
def test_dout_of_a_loss(kernels, rng, dtype, dout):
    y, t = OPS["cross_entropy_error"].example(rng, (4, 3), dtype)
    for name in ("cross_entropy_error_backward", "softmax_cross_entropy_backward"):
        result, expected = getattr(kernels, name)(y, t, dout), getattr(reference, name)(y, t, dout)
        assert ulps(result, expected) == 0
    assert kernels.softmax_cross_entropy_backward(y, t, np.float64(1)).dtype == np.float64


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
def test_equal_numbers_do_not_round_the_same_way_again_and_again(module, rng, dtype, rows):
    row = rng.uniform(1, 2, 50).astype(dtype)
    exact = np.array([math.fsum([value] * rows) for value in row.tolist()])
    db = module.bias_grad(np.broadcast_to(row, (rows, 50)))
    assert (np.abs(db - exact) <= 0.5 * np.spacing(exact.astype(dtype))).all()


@every_dtype
def test_infinities_in_sums(kernels, dtype):
    dout = np.ones((600, 3), dtype)
    dout[5, 0], dout[7, 1], dout[8, 2], dout[500, 2] = np.inf, np.nan, np.inf, -np.inf
    db = kernels.bias_grad(dout)
    assert db[0] == np.inf and np.isnan(db[1]) and np.isnan(db[2])


@every_dtype
@pytest.mark.parametrize("rows", [3, 5, 7, 12, 15, 16, 31, 40, 64])
def test_a_bias_gradient_of_few_rows_and_many_columns(kernels, rng, dtype, rows):
    (dout,) = OPS["bias_grad"].example(rng, (rows, 50000), dtype)
    check(kernels, OPS["bias_grad"], (dout,))
    check(kernels, OPS["bias_grad"], (np.abs(dout),))


# ---------------------------------------------------------------- optimizers

every_step = pytest.mark.parametrize("op", [OPS[name] for name in STEPS], ids=lambda op: op.name)


@every_step
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (33,), (5, 34), (300, 301)])
def test_a_step_in_place_is_the_step(module, rng, op, dtype, shape):
    args = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in op.example(rng, (1, *shape), np.float64)]
    args = [a[0, ...] if isinstance(a, np.ndarray) else a for a in args]
    before = [np.array(a) for a in args]
    expected = as_tuple(run(module, op, args))
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    state = args[: op.outs]
    if not shape:
        state = [np.array(a) for a in state]
    results = as_tuple(run(module, op, [*state, *args[op.outs :]], out=as_out(op, state)))
    for result, array, value in zip(results, state, expected, strict=True):
        assert result is array
        assert array.tobytes() == np.asarray(value).tobytes()
    np.testing.assert_array_equal(args[op.outs], before[op.outs], strict=True)


@every_step
@every_dtype
def test_a_step_into_memory_of_its_own_or_its_old_place(module, rng, op, dtype):
    args = op.example(rng, (5, 33), dtype)
    expected = as_tuple(run(module, op, args))
    for i in range(op.outs):
        state = [a.copy() for a in args[: op.outs]]
        out = [None] * op.outs
        out[i] = state[i]
        if op.outs == 1:
            assert run(module, op, [*state, *args[1:]], out=state[0]) is state[0]
            continue
        results = run(module, op, [*state, *args[op.outs :]], out=tuple(out))
        assert results[i] is state[i]
        for k, (result, value) in enumerate(zip(results, expected, strict=True)):
            np.testing.assert_array_equal(result, value)
            if k != i:
                assert result is not state[k]
                np.testing.assert_array_equal(state[k], args[k])
    fresh = [np.full_like(a, 7) for a in args[: op.outs]]
    for result, array, value in zip(
        as_tuple(run(module, op, args, out=as_out(op, fresh))), fresh, expected, strict=True
    ):
        assert result is array
        np.testing.assert_array_equal(array, value)


@every_step
@every_dtype
def test_a_step_in_place_beside_any_gradient(module, rng, op, dtype):
    args = op.example(rng, (6, 34), dtype)
    expected = as_tuple(run(module, op, args))
    lists = [("list", args[op.outs].tolist())] if dtype is np.float64 else []
    for name, dp in [*layouts(args[op.outs]), *lists]:
        state = [a.copy() for a in args[: op.outs]]
        run(module, op, [*state, dp, *args[op.outs + 1 :]], out=as_out(op, state))
        for array, value in zip(state, expected, strict=True):
            np.testing.assert_array_equal(array, value, err_msg=name)
        np.testing.assert_array_equal(dp, args[op.outs])


@every_step
def test_a_gradient_of_another_dtype(kernels, rng, op):
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32), (np.float32, np.int8)):
        args = list(op.example(rng, (5, 9), dtype))
        args[op.outs] = args[op.outs].astype(other)
        expected = as_tuple(run(reference, op, args))
        for result, value in zip(as_tuple(run(kernels, op, args)), expected, strict=True):
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, value)
        run(kernels, op, args, out=as_out(op, args[: op.outs]))
        for array, value in zip(args[: op.outs], expected, strict=True):
            np.testing.assert_array_equal(array, value)


@every_step
@every_dtype
def test_special_values_of_a_step(kernels, op, dtype):
    values = specials(dtype)
    with np.errstate(all="ignore"):
        p, dp = np.repeat(values, len(values)), np.tile(values, len(values))
        for kept in values[values >= 0]:
            args = [p, *(np.full_like(p, kept) for _ in range(op.outs - 1)), dp]
            check(kernels, op, [*args, *op.example(np.random.default_rng(0), (1,), dtype)[op.outs + 1 :]])


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


def assert_same_gradients(kernels, x, t, params, **kwargs):
    expected = reference.mlp_gradient(x, t, *params, **kwargs)
    results = kernels.mlp_gradient(x, t, *params, **kwargs)
    assert len(results) == len(params) + 1
    for a, b in zip(results, expected, strict=True):
        assert type(a) is type(b) and a.dtype == b.dtype and np.shape(a) == np.shape(b)
        eps = np.finfo(params[0].dtype).eps
        np.testing.assert_allclose(a, b, rtol=0, atol=100 * eps * max(1, np.max(np.abs(b), initial=0)))
    out = tuple(np.full(g.shape, 7, g.dtype) for g in results[1:])
    for a, given, b in zip(kernels.mlp_gradient(x, t, *params, out=out, **kwargs)[1:], out, results[1:], strict=True):
        assert a is given
        np.testing.assert_array_equal(a, b)


@every_dtype
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 3), (4, 7, 5, 3), (4, 1, 1)])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (6, 4), (6, 2, 2), (2, 3, 4)])
def test_a_perceptron_of_any_samples(kernels, rng, dtype, loss, activation, sizes, shape):
    params, x = perceptron(rng, sizes, dtype), rng.standard_normal(shape).astype(dtype)
    batch = shape[:1] if shape == (6, 2, 2) else shape[:-1]
    for t in targets(rng, loss, (*batch, sizes[-1]), dtype):
        for eps in (1e-7, 0):
            assert_same_gradients(kernels, x, t, params, activation=activation, loss=loss, eps=eps)


@every_dtype
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize(
    "sizes, N", [((64, 50, 10), 50), ((300, 200, 100, 10), 64), ((9, 500, 2), 1), ((2, 3, 1), 999)]
)
def test_a_perceptron_of_large_products(kernels, rng, dtype, loss, activation, sizes, N):
    params, x = perceptron(rng, sizes, dtype), rng.standard_normal((N, sizes[0])).astype(dtype)
    if (
        activation == "relu"
    ):  # on either side of 0 the two agree, but a sum near 0 may have another sign in another order
        x[...] = np.round(x * 4) / 4
        params = [(np.round(p * 64) / 64).astype(dtype) for p in params]
    t = next(iter(targets(rng, loss, (N, sizes[-1]), dtype)))
    assert_same_gradients(kernels, x, t, params, activation=activation, loss=loss)


@every_dtype
def test_a_perceptron_of_every_small_size(kernels, rng, dtype):
    for N, D, H, C in np.ndindex(4, 4, 10, 4):
        params, x = perceptron(rng, (D + 1, H + 1, C + 1), dtype), rng.standard_normal((N + 1, D + 1)).astype(dtype)
        assert_same_gradients(kernels, x, rng.integers(0, C + 1, N + 1), params)


@every_dtype
def test_a_perceptron_of_layers_of_no_width(kernels, dtype):
    x, nothing = np.ones((2, 3), dtype), np.ones(0, dtype)
    params = [np.ones((3, 0), dtype), nothing, np.ones((0, 2), dtype), np.ones(2, dtype)]
    assert_same_gradients(kernels, x, np.array([0, 1]), params)
    assert_same_gradients(kernels, x[:, :0], np.array([0, 1]), params[2:])


def test_a_perceptron_beside_nan_and_infinity(kernels, rng):
    params = perceptron(rng, (3, 4, 2), np.float64)
    for bad in (np.nan, np.inf, -np.inf):
        x = rng.standard_normal((5, 3))
        x[1, 1] = bad
        for activation in ("relu", "sigmoid"):
            args = x, np.array([0, 1, 1, 0, 1]), *params
            with np.errstate(all="ignore"):
                results = kernels.mlp_gradient(*args, activation=activation)
                expected = reference.mlp_gradient(*args, activation=activation)
            for a, b in zip(results, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


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
