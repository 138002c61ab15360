"""The optimizers: both dialects, beside the books' formulas in plain NumPy."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop, ops, optimizers, reference
from fastnn.optimizers import Optimizer

every_optimizer = pytest.mark.parametrize("optimizer", [getattr(optimizers, name) for name in optimizers.__all__])
every_dialect = pytest.mark.parametrize("volume", [1, 2])
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

pytestmark = pytest.mark.usefixtures("backend")


def books(optimizer, volume, params, gradients, lr):
    """The update methods of the books, over lists; the volumes agree but for Nesterov."""
    params = [p.astype(np.longdouble) for p in params]
    v, h, m = ([np.zeros_like(p) for p in params] for _ in range(3))
    for step, grads in enumerate(gradients, 1):
        for i, g in enumerate(g.astype(np.longdouble) for g in grads):
            if optimizer is SGD:
                params[i] -= lr * g
            elif optimizer is Momentum:
                v[i] = 0.9 * v[i] - lr * g
                params[i] += v[i]
            elif optimizer is Nesterov and volume == 1:
                params[i] += 0.9 * 0.9 * v[i]
                params[i] -= (1 + 0.9) * lr * g
                v[i] *= 0.9
                v[i] -= lr * g
            elif optimizer is Nesterov:
                v[i] *= 0.9
                v[i] -= lr * g
                params[i] += 0.9 * 0.9 * v[i]
                params[i] -= (1 + 0.9) * lr * g
            elif optimizer is AdaGrad:
                h[i] += g * g
                params[i] -= lr * g / (np.sqrt(h[i]) + 1e-7)
            elif optimizer is RMSprop:
                h[i] *= 0.99
                h[i] += (1 - 0.99) * g * g
                params[i] -= lr * g / (np.sqrt(h[i]) + 1e-7)
            else:
                assert optimizer is Adam
                m[i] += (1 - 0.9) * (g - m[i])
                v[i] += (1 - 0.999) * (g**2 - v[i])
                rate = lr * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step)
                params[i] -= rate * m[i] / (np.sqrt(v[i]) + 1e-7)
    return params


def network(rng, dtype=np.float64):
    """Parameters of every kind: a matrix, a vector, a transpose, every other column of one, a single number."""
    wide = rng.standard_normal((5, 8)).astype(dtype)
    W, b, tied = rng.standard_normal((4, 3)).astype(dtype), rng.standard_normal(3).astype(dtype), wide.T
    return [W, b, tied, rng.standard_normal((4, 6)).astype(dtype)[:, ::2], np.array(0.5, dtype)]


def in_dialect(volume, arrays):
    return {f"p{i}": a for i, a in enumerate(arrays)} if volume == 1 else arrays


def items(arrays):
    return list(arrays.values()) if isinstance(arrays, dict) else arrays


@every_optimizer
@every_dialect
@every_dtype
def test_twenty_steps_are_the_books(rng, optimizer, volume, dtype):
    params = network(rng, dtype)
    gradients = [[np.asarray(rng.standard_normal(p.shape)).astype(dtype) for p in params] for _ in range(20)]
    expected = books(optimizer, volume, params, gradients, 0.03)
    kept, before = copy.deepcopy(gradients), [*params]
    stepper = optimizer(lr=0.03)
    for grads in gradients:
        stepper.update(in_dialect(volume, params), in_dialect(volume, grads))
    for p, same, value in zip(params, before, expected, strict=True):
        assert p is same and p.dtype == dtype
        np.testing.assert_allclose(p, value.astype(np.float64), rtol=0, atol=100 * np.finfo(dtype).eps)
    for grads, same in zip(gradients, kept, strict=True):
        for g, s in zip(grads, same, strict=True):
            np.testing.assert_array_equal(g, s, strict=True)


@every_optimizer
@every_dialect
def test_what_is_kept_has_the_form_of_the_parameters(rng, optimizer, volume):
    params = network(rng, np.float32)
    stepper, given = optimizer(), in_dialect(volume, params)
    for name in optimizer.kept:
        assert getattr(stepper, name) is None
    for _ in range(3):
        stepper.update(given, in_dialect(volume, [np.ones_like(p) for p in params]))
    for name in optimizer.kept:
        kept = getattr(stepper, name)
        assert type(kept) is type(given)
        if volume == 1:
            assert kept.keys() == given.keys()
        for array, p in zip(items(kept), params, strict=True):
            assert array.shape == p.shape and array.dtype == p.dtype
            assert not np.may_share_memory(array, p) and np.all(array != 0)


@every_optimizer
def test_what_is_kept_begins_at_places_of_its_own(rng, optimizer):
    params = network(rng, np.float32)
    stepper = optimizer()
    stepper.update(params, [np.ones_like(p) for p in params])
    for i, p in enumerate(params):
        begins = [getattr(stepper, name)[i].ctypes.data for name in optimizer.kept]
        assert all(begin % 64 == 0 for begin in begins)
        lines = [begin % 4096 // 64 for begin in (p.ctypes.data, *begins)]
        assert all((a - b) % 64 >= 9 for a in lines for b in lines if a != b) and len({*lines}) == len(lines)


@every_optimizer
def test_an_optimizer_declares_what_it_is(optimizer):
    assert issubclass(optimizer, Optimizer) and hasattr(ops, optimizer.op)
    taken = [name for name in inspect.signature(getattr(ops, optimizer.op)).parameters if name != "iter"]
    assert taken[: len(optimizer.kept) + 2] == ["p", *optimizer.kept, "dp"]
    constants = [*inspect.signature(optimizer).parameters]
    assert taken[len(optimizer.kept) + 2 :][: len(constants)] == constants


def test_an_optimizer_of_ones_own(rng):
    class Heavy(Optimizer):
        op, kept, numbers = "momentum", ("v",), ("lr", "momentum")

        def __init__(self, lr=0.1, momentum=0.5):
            super().__init__(lr=lr, momentum=momentum)

    p, q = rng.standard_normal(5), rng.standard_normal(5)
    params, grads, expected = [p, q], [np.ones(5), np.ones(5)], [p.copy(), q.copy()]
    heavy, momentum = Heavy(), Momentum(0.1, 0.5)
    for _ in range(2):
        heavy.update(params, grads)
        momentum.update(expected, grads)
    np.testing.assert_array_equal(params, expected)
    with pytest.raises(ValueError, match="momentum must be a finite number"):
        Heavy(momentum=np.inf)


def test_defaults_are_the_books():
    assert (SGD().lr, Momentum().lr, Nesterov().lr, AdaGrad().lr, RMSprop().lr, Adam().lr) == (*(0.01,) * 5, 0.001)
    assert Momentum().momentum == Nesterov().momentum == 0.9 and RMSprop().decay_rate == 0.99
    assert (Adam().beta1, Adam().beta2, Adam().iter) == (0.9, 0.999, 0)
    assert AdaGrad().eps == RMSprop().eps == Adam().eps == 1e-7


@every_optimizer
def test_keys_in_another_order(rng, optimizer):
    W, b, dW, db = rng.standard_normal((4, 3)), rng.standard_normal(3), np.ones((4, 3)), np.ones(3)
    expected = [W.copy(), b.copy()]
    by_order, by_key = optimizer(), optimizer()
    for _ in range(3):
        by_order.update(dict(zip("Wb", expected, strict=True)), {"W": dW, "b": db})
        by_key.update({"W": W, "b": b}, {"b": db, "W": dW})
    np.testing.assert_array_equal(W, expected[0])
    np.testing.assert_array_equal(b, expected[1])


@every_optimizer
def test_gradients_of_another_dtype(rng, optimizer):
    W, same = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
    dW = rng.standard_normal((4, 3)).astype(np.float32)
    wide, narrow = optimizer(), optimizer()
    for _ in range(3):
        wide.update([W], [dW.astype(np.float64)])
        narrow.update([same], [dW])
    assert W.dtype == np.float32
    np.testing.assert_allclose(W, same, rtol=1e-6)


@every_optimizer
@every_dialect
def test_any_layout_of_parameters(rng, optimizer, volume):
    values = rng.standard_normal((4, 6))
    memory = np.empty(values.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(4, 6)
    layouts = [values.T.copy().T, np.flip(np.flip(values).copy()), np.repeat(values, 2, axis=1)[:, ::2]]
    layouts += [values.astype(">f8"), memory, values.copy().reshape(4, 6, 1)[:, :, 0]]
    memory[...] = values
    for p in layouts:
        plain, dp = values.copy(), rng.standard_normal((4, 6))
        one, other = optimizer(), optimizer()
        for _ in range(2):
            one.update(in_dialect(volume, [plain]), in_dialect(volume, [dp]))
            other.update(in_dialect(volume, [p]), in_dialect(volume, [dp]))
        np.testing.assert_array_equal(p, plain)


@every_optimizer
def test_no_parameters(optimizer):
    stepper = optimizer()
    stepper.update([], [])
    stepper.update([], [])


# ---------------------------------------------------------------- numbers, as in chapter 6 of volume 1


@every_optimizer
@pytest.mark.parametrize("way", [lambda o: o, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_numbers_in_a_dict_are_replaced(optimizer, way):
    """The book compares optimizers on f(x, y) = x^2 / 20 + y^2, from (-7, 2)."""
    params, steps, given = {"x": -7.0, "y": 2.0}, [], []
    stepper = optimizer(lr=0.1)
    for step in range(30):
        grads = {"x": params["x"] / 10.0, "y": 2.0 * params["y"]}
        assert stepper.update(params, grads) is None and [*map(type, params.values())] == [float, float]
        given.append([np.array(g) for g in grads.values()])
        steps.append([*params.values()])
        if step == 10:
            stepper = way(stepper)
    expected = [books(optimizer, 1, [np.array(-7.0), np.array(2.0)], given[:n], 0.1) for n in range(1, 31)]
    np.testing.assert_allclose(steps, np.array(expected, np.float64), rtol=0, atol=1e-13)


@every_optimizer
@pytest.mark.parametrize("p, after", [(2, float), (np.int64(2), np.float64), (np.float32(2), np.float32)])
def test_a_number_of_any_type_is_replaced_beside_an_array(optimizer, p, after):
    W, params = np.full(3, 2.0), {"p": p, "W": None, "same": np.array(2.0)}
    params["W"], same = W, params["same"]
    optimizer().update(params, {"p": 1, "W": [1, 1, 1], "same": np.float64(1)})
    assert type(params["p"]) is after and params["W"] is W and params["same"] is same
    assert 1.8 < same < 2 and params["p"] == pytest.approx(float(same), rel=1e-7)
    np.testing.assert_array_equal(W, same)


@every_optimizer
def test_what_is_no_array_is_named(optimizer):
    W, dW = np.ones(2), np.ones(2)
    for params, grads, match in (
        ([W, -7.0], [dW, 2.0], r"params\[1\] is the number -7.0, which cannot be changed in place: put np.array\(-7.0"),
        (np.ones(2), dW, r"params\[0\] is the number 1.0"),
        ({"W": W, "b": [1.0]}, {"W": dW, "b": [1.0]}, r"params\['b'\] must be an array of floats, not list"),
        ({"W": W, "b": None}, {"W": dW, "b": dW}, r"params\['b'\] must be an array of floats, not NoneType"),
        ({"W": W, "b": 1j}, {"W": dW, "b": 1.0}, r"params\['b'\] must be an array of floats, not complex"),
        ({"W": W, "b": 1.0}, {"W": dW, "b": None}, r"grads\['b'\] is None, as it is before the first backward"),
        ([W], [None], r"grads\[0\] is None"),
        ([W], ["dW"], r"grads\[0\] must be an array of real numbers"),
    ):
        assert_refused(optimizer(), params, grads, TypeError, match)
    assert_refused(optimizer(), {"W": W, "b": 1.0}, {"W": dW, "b": dW}, ValueError, "shape")
    assert_refused(optimizer(), {"W": 1.0}, [1.0], ValueError, "params has the form of a dict")


def state_of(stepper):
    return {name: copy.deepcopy(value) for name, value in vars(stepper).items()}


def assert_refused(stepper, params, grads, error, match=None):
    """`error`, and nothing has changed: neither a parameter nor what the optimizer keeps."""
    values, state = copy.deepcopy(items(params)), state_of(stepper)
    with pytest.raises(error, match=match):
        stepper.update(params, grads)
    for p, value in zip(items(params), values, strict=True):
        np.testing.assert_array_equal(p, value, strict=True)
    now = state_of(stepper)
    assert pickle.dumps(now) == pickle.dumps(state) or repr(now) == repr(state)


@every_optimizer
@pytest.mark.parametrize("steps", [0, 2])
def test_a_mismatch_changes_nothing(rng, optimizer, steps):
    params, grads = [np.ones((4, 3)), np.ones(3)], [np.ones((4, 3)), np.ones(3)]
    for volume in (2, 1):
        stepper = optimizer()
        for _ in range(steps):
            stepper.update(in_dialect(volume, params), in_dialect(volume, grads))
        given = in_dialect(volume, params)
        for wrong in (
            grads[:1],
            [*grads, np.ones(1)],
            [grads[0], np.ones(4)],
            [grads[0], np.ones((3, 1))],
            grads[::-1],
        ):
            assert_refused(stepper, given, in_dialect(volume, wrong), ValueError, "params has")
        if volume == 1:
            assert_refused(stepper, given, {"p0": grads[0], "b": grads[1]}, ValueError, "keys")
        # A refusal does not hinder the next step.
        stepper.update(given, in_dialect(volume, grads))


@every_optimizer
@pytest.mark.parametrize("steps", [0, 2])
def test_two_dialects_at_once_are_refused(optimizer, steps):
    W, dW = np.ones(3), np.ones(3)
    for params, grads in (({"W": W}, [dW]), ([W], {"W": dW})):
        stepper = optimizer()
        right = {"W": dW} if isinstance(params, dict) else [dW]
        for _ in range(steps):
            stepper.update(params, right)
        assert_refused(stepper, params, grads, ValueError, "params")
        stepper.update(params, right)


@every_optimizer
def test_other_parameters_than_before_are_refused(optimizer):
    if not optimizer.kept:
        return
    W, b = np.ones((4, 3)), np.ones(3)
    stepper = optimizer()
    stepper.update([W], [W.copy()])
    assert_refused(stepper, [b], [b.copy()], ValueError, "params has")
    assert_refused(stepper, [W, b], [W.copy(), b.copy()], ValueError, "params has")
    assert_refused(stepper, {"W": W}, {"W": W.copy()}, ValueError, "params")


@every_optimizer
@every_dialect
def test_one_bad_array_stops_the_step_before_it_begins(optimizer, volume):
    fixed = np.ones(3)
    fixed.flags.writeable = False
    good = np.ones((4, 3))
    for bad, gradient in (
        (np.ones(3, int), np.ones(3)),
        (fixed, np.ones(3)),
        (np.broadcast_to(1.0, (3,)), np.ones(3)),
        (np.ones(3), np.ones(3) * 1j),
        (np.ones(3), np.array(["a"] * 3)),
        (np.ma.masked_array(np.ones(3)), np.ones(3)),
        (np.ones(3), np.ma.masked_array(np.ones(3))),
    ):
        for steps in (0, 2):
            stepper = optimizer()
            for _ in range(steps):
                stepper.update(
                    in_dialect(volume, [good, np.ones(3)]), in_dialect(volume, [np.ones((4, 3)), np.ones(3)])
                )
            params, grads = in_dialect(volume, [good, bad]), in_dialect(volume, [np.ones((4, 3)), gradient])
            assert_refused(stepper, params, grads, (ValueError, TypeError))


@every_optimizer
@every_dialect
def test_a_gradient_that_is_not_there_yet(optimizer, volume):
    params, grads = in_dialect(volume, [np.ones((4, 3)), np.ones(3)]), in_dialect(volume, [np.ones((4, 3)), None])
    match = r"^grads\[.+\] is None, as it is before the first backward$"
    assert_refused(optimizer(), params, grads, TypeError, match)


@every_optimizer
def test_bad_constants(optimizer):
    for bad in (np.nan, np.inf, 10**400):
        with pytest.raises(ValueError, match="lr (must be a finite number|is too large)"):
            optimizer(lr=bad)
    for bad in ("0.1", None, [0.1]):
        with pytest.raises(TypeError, match="lr must be a number"):
            optimizer(lr=bad)


def test_bad_constants_of_one():
    for make in (lambda v: Momentum(momentum=v), lambda v: Nesterov(momentum=v), lambda v: RMSprop(decay_rate=v)):
        with pytest.raises(ValueError, match="must be a finite number"):
            make(np.nan)
    for make in (AdaGrad, RMSprop, Adam):
        for bad in (-1e-8, np.nan, np.inf):
            with pytest.raises(ValueError, match="eps must be a finite number of at least 0"):
                make(eps=bad)
    for name in ("beta1", "beta2"):
        for bad in (1, -0.1, np.nan):
            with pytest.raises(ValueError, match=f"{name} must be .* at least 0 and below 1"):
                Adam(**{name: bad})


@every_optimizer
def test_a_learning_rate_may_change_between_steps(optimizer):
    p = np.ones(3)
    stepper = optimizer()
    stepper.update([p], [np.ones(3)])
    stepper.lr, before = 0.0, p.copy()
    for name in optimizer.kept:
        if issubclass(optimizer, Momentum):
            getattr(stepper, name)[0][...] = 0
    stepper.update([p], [np.ones(3)])
    np.testing.assert_array_equal(p, before)


# ---------------------------------------------------------------- subnormals

# AdaGrad keeps sums, which do not decay.
every_mean = pytest.mark.parametrize("optimizer", [Momentum, Nesterov, RMSprop, Adam])


@every_mean
@every_dialect
@every_dtype
def test_without_gradients_all_that_is_kept_becomes_0(optimizer, volume, dtype):
    smallest = np.finfo(dtype).smallest_normal
    p, zeros = np.ones(100, dtype), np.zeros(100, dtype)
    stepper = optimizer(**dict.fromkeys(optimizer.numbers[1:], 0.5))
    for step in range(30):
        stepper.update(in_dialect(volume, [p]), in_dialect(volume, [zeros]))
        for name in optimizer.kept:
            [kept] = items(getattr(stepper, name))
            if step == 0:
                kept[...] = smallest * np.geomspace(1, 1e6, 100)
            elif step < 29:
                assert np.all((kept == 0) | (kept >= smallest))
            else:
                assert not kept.any()
    np.testing.assert_array_equal(p, 1)


@every_mean
@every_dtype
@pytest.mark.parametrize("scale", [0, 1e-19, 1e-37, 1e-154, 1e-307, 1])
def test_what_is_kept_is_the_references_beside_subnormals(rng, optimizer, dtype, scale):
    sizes = np.finfo(dtype).smallest_normal.astype(np.float64) * 2.0 ** np.arange(-20, 60, 0.25)
    kept = np.tile(np.concatenate([sizes, -sizes, [0, np.inf, np.nan]]).astype(dtype), (len(optimizer.kept), 1))
    p, dp = (rng.standard_normal((2, kept.shape[1])) * [[1], [scale]]).astype(dtype)
    for constants in ((0.9, 0.999), (0.5, 0.0), (0.0, 1 - 2**-53)):
        args = p, *kept, dp, 0.1, *constants[: len(optimizer.numbers) - 1], *([3] if optimizer is Adam else [])
        results, expected = (getattr(module, optimizer.op)(*args) for module in (ops, reference))
        for result, value in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, value, strict=True)


def kept_by(op, *args):
    return [float(array) for array in getattr(ops, op)(*args)[1:]]


@every_dtype
def test_only_subnormals_become_0(dtype):
    smallest = np.finfo(dtype).smallest_normal
    p, zero, below = np.ones(1, dtype)[0], dtype(0), np.nextafter(smallest, dtype(0))
    for v, kept in ((smallest, smallest), (-smallest, -smallest), (below, 0), (-below, 0)):
        for op, constants in (("momentum", (0.1, 1.0)), ("nesterov", (0.1, 1.0)), ("rmsprop", (0.1, 1.0))):
            assert kept_by(op, p, v, zero, *constants) == [kept]
        # By Adam where the half that goes at each step is one.
        assert kept_by("adam", p, 4 * v, 4 * v, zero, 0.1, 0.5, 0.5, 1) == [2 * kept, 2 * kept]


def test_float16_keeps_its_subnormals():
    small = np.float16(2.0**-20)
    assert kept_by("momentum", np.float16(1), small, np.float16(0), 0.1, 1.0) == [small]
    assert kept_by("adam", np.float16(1), small, small, np.float16(0), 0.1, 0.5, 0.5, 1) == [small / 2] * 2


@every_optimizer
def test_an_optimizer_can_be_copied_and_pickled(rng, optimizer):
    p, q, r = (np.ones(5) for _ in range(3))
    stepper = optimizer()
    stepper.update([p], [np.ones(5)])
    q[...] = r[...] = p
    copied, unpickled = copy.deepcopy(stepper), pickle.loads(pickle.dumps(stepper))
    for one, array in ((stepper, p), (copied, q), (unpickled, r)):
        one.update([array], [np.full(5, 0.3)])
    np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(p, r)


@every_optimizer
def test_every_optimizer_trains_a_network(rng, optimizer):
    net = fastnn.MLP([2, 8, 2], seed=0)
    x = rng.standard_normal((40, 2))
    t = (x[:, 0] * x[:, 1] > 0).astype(int)
    stepper = optimizer(lr=0.05)
    losses = []
    for _ in range(150):
        loss, grads = net.loss_and_gradient(x, t)
        stepper.update(net.params, grads)
        losses.append(loss)
    assert losses[-1] < 0.8 * losses[0]


@every_optimizer
def test_a_parameter_may_be_its_own_gradient(optimizer):
    q, w = np.ones(3), np.arange(1.0, 4)
    expected_q, expected_w = q.copy(), w.copy()
    optimizer(0.1).update([expected_q, expected_w], [q.copy(), w.copy()])
    optimizer(0.1).update([q, w], [q.copy(), w])
    np.testing.assert_array_equal(w, expected_w)
    np.testing.assert_array_equal(q, expected_q)
