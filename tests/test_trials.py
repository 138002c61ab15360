"""The styles in which others write steps, products with a step and what is done to lists of gradients are served, with
the numbers and effects of their own."""

import copy
import textwrap
import types

import numpy as np
import pytest
from test_dropin import assert_same, numbers

from fastnn import dropin, layers, optimizers, trials

ADAM = """
def adam(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-3)
    config.setdefault("beta1", 0.9)
    config.setdefault("beta2", 0.999)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("m", np.zeros_like(w))
    config.setdefault("v", np.zeros_like(w))
    config.setdefault("t", 0)
    t = config["t"] + 1
    m = config["beta1"] * config["m"] + (1 - config["beta1"]) * dw
    v = config["beta2"] * config["v"] + (1 - config["beta2"]) * (dw**2)
    next_w = w - config["learning_rate"] * (m / (1 - config["beta1"]**t)) / (
        np.sqrt(v / (1 - config["beta2"]**t)) + config["epsilon"]
    )
    config["t"], config["m"], config["v"] = t, m, v
    return next_w, config
"""
RMSPROP = """
def rmsprop(w, dw, config):
    config.setdefault("cache", np.zeros_like(w))
    cache = config["decay_rate"] * config["cache"] + (1 - config["decay_rate"]) * dw**2
    next_w = w - config["learning_rate"] * dw / (np.sqrt(cache) + config["epsilon"])
    config["cache"] = cache
    return next_w, config
"""
MOMENTUM = """
def sgd_momentum(w, dw, config):
    v = config.get("velocity", np.zeros_like(w))
    v = config["momentum"] * v - config["learning_rate"] * dw
    next_w = w + v
    config["velocity"] = v
    return next_w, config
"""
DICTS = """
def update_parameters_with_adam(parameters, grads, v, s, t, learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8):
    for l in range(len(parameters) // 2):
        for k in ("W" + str(l + 1), "b" + str(l + 1)):
            v["d" + k] = beta1 * v["d" + k] + (1 - beta1) * grads["d" + k]
            s["d" + k] = beta2 * s["d" + k] + (1 - beta2) * np.power(grads["d" + k], 2)
            v_corrected = v["d" + k] / (1 - np.power(beta1, t))
            s_corrected = s["d" + k] / (1 - np.power(beta2, t))
            parameters[k] = parameters[k] - learning_rate * v_corrected / (np.sqrt(s_corrected) + epsilon)
    return parameters, v, s
"""
LISTS = """
class Adam:
    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.learning_rate, self.beta1, self.beta2, self.epsilon = learning_rate, beta1, beta2, epsilon
        self.t, self.m, self.v = 0, None, None

    def update(self, params, grads):
        if self.m is None:
            self.m, self.v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
        self.t += 1
        for i in range(len(params)):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * grads[i]
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * grads[i]**2
            m_hat = self.m[i] / (1 - self.beta1**self.t)
            v_hat = self.v[i] / (1 - self.beta2**self.t)
            params[i] -= self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)
"""
ALONE = """
class Adam:
    def __init__(self, lr=0.001):
        self.lr, self.m, self.v, self.n = lr, 0, 0, 0

    def step(self, w, dw):
        self.n += 1
        self.m = 0.9 * self.m + 0.1 * dw
        self.v = 0.999 * self.v + (1 - 0.999) * dw * dw
        return w - self.lr * (self.m / (1 - 0.9**self.n)) / (np.sqrt(self.v / (1 - 0.999**self.n)) + 1e-8)
"""
# Numbers of one name in the place of another, a sum of squares that is no square, an eps below the root.
OTHERS = {
    "eps below the root": LISTS.replace("(np.sqrt(v_hat) + self.epsilon)", "np.sqrt(v_hat + self.epsilon)"),
    "one rate for both": LISTS.replace("self.beta2", "self.beta1"),
    "no correction": LISTS.replace("/ (1 - self.beta2**self.t)", ""),
    "a weight decay": LISTS.replace("params[i] -= ", "params[i] -= 0.01 * params[i] + "),
    "another count": LISTS.replace("self.beta1**self.t", "self.beta1**(self.t + 1)"),
    "no square": LISTS.replace("grads[i]**2", "abs(grads[i])"),
}


def made(source, replacer=None):
    names = {"__name__": "somebodys", "np": np}
    if replacer is None:
        exec(compile(source, "somebodys.py", "exec", dont_inherit=True), names)
    else:
        exec(replacer.compile(source, "somebodys.py", "somebodys"), names)
    return types.SimpleNamespace(**names)


def both(source):
    replacer = dropin.Replacer()
    return made(source), made(source, replacer), replacer


def served(replacer):
    return [finding.ours for finding in replacer.findings]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("source", "name", "config", "ours"),
    [
        (ADAM, "adam", {}, "adam"),
        (RMSPROP, "rmsprop", {"learning_rate": 1e-2, "decay_rate": 0.9, "epsilon": 1e-8}, "rmsprop"),
        (MOMENTUM, "sgd_momentum", {"learning_rate": 1e-2, "momentum": 0.9}, "momentum"),
    ],
)
def test_steps_with_a_config(source, name, config, ours, dtype):
    a, b, replacer = both(source)
    rng = np.random.default_rng(0)
    w, configs = numbers(rng, (7, 5), dtype), [dict(config), dict(config)]
    ws = [w, w.copy()]
    for _ in range(8):
        dw = numbers(rng, (7, 5), dtype)
        for i, names in enumerate((a, b)):
            ws[i], configs[i] = getattr(names, name)(ws[i], dw.copy(), configs[i])
        assert_same(ws[0], ws[1])
        assert_same(configs[0], configs[1])
    assert served(replacer) == [(ours,)]


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (40, 30)])
def test_steps_of_dicts_with_keys_of_gradients(shape):
    a, b, replacer = both(DICTS)
    rng = np.random.default_rng(0)
    P = {"W1": numbers(rng, (5, 6)), "b1": np.zeros((5, 1)), "W2": numbers(rng, shape), "b2": np.zeros((1, 1))}
    v, s = ({f"d{k}": np.zeros_like(p) for k, p in P.items()} for _ in range(2))
    states = [(P, v, s), copy.deepcopy((P, v, s))]
    for t in range(1, 9):
        grads = {f"d{k}": numbers(rng, p.shape) for k, p in P.items()} | {"dA1": np.ones(3)}
        for names, (params, *kept) in zip((a, b), states, strict=True):
            result = names.update_parameters_with_adam(params, copy.deepcopy(grads), *kept, t, learning_rate=0.1 / t)
            assert [x is y for x, y in zip(result, (params, *kept), strict=True)] == [True] * 3
        assert_same(*states)
    assert served(replacer) == [("adam",)]


def lists(optimizer, dtype, steps=8):
    rng = np.random.default_rng(0)
    params = [numbers(rng, (6, 4), dtype), numbers(rng, 4, dtype)]
    held = [*params]
    for _ in range(steps):
        optimizer.update(params, [numbers(rng, p.shape, dtype) for p in params])
    assert all(p is q for p, q in zip(params, held, strict=True))
    return params


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_of_lists(dtype):
    a, b, replacer = both(LISTS)
    one, other = a.Adam(), b.Adam()
    assert_same(lists(one, dtype), lists(other, dtype))
    assert_same(vars(one), vars(other))
    assert served(replacer) == [("adam",)]


def test_steps_with_numbers_in_the_code():
    a, b, replacer = both(ALONE)
    rng, one, other = np.random.default_rng(0), a.Adam(), b.Adam()
    w = numbers(rng, (6, 4))
    u = w.copy()
    for _ in range(6):
        dw = numbers(rng, (6, 4))
        w, u = one.step(w, dw), other.step(u, dw.copy())
        assert_same(w, u)
    assert_same(vars(one), vars(other))
    assert served(replacer) == [("adam",)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_numbers_of_a_step_are_those_that_theirs_looks_at(dtype):
    """However much others are like them, and where it shows in the smallest gradients alone."""
    config = {"decay": 1e-7, "rate": 0.9, "learning_rate": 1e-2, "decay_rate": 0.9, "epsilon": 1e-8, "eps": 1e-8}
    a, b, replacer = both(RMSPROP)
    rng = np.random.default_rng(0)
    ws, configs = [numbers(rng, (7, 5), dtype)] * 2, [dict(config), dict(config)]
    for size in (*[1.0] * 6, *[1e-9] * 3):
        dw = numbers(rng, (7, 5), dtype, size)
        if size < 1:
            for each, w in zip(configs, ws, strict=True):
                each["cache"] *= 0
                w *= 0
        for i, names in enumerate((a, b)):
            ws[i], configs[i] = names.rmsprop(ws[i], dw.copy(), configs[i])
            configs[i] |= {"decay": 1e-3, "rate": 0.5, "eps": 0.5}
            configs[i]["epsilon"] /= 2
            configs[i]["decay_rate"] *= 0.99
        assert_same(*ws)
        assert_same(*configs)
    assert served(replacer) == [("rmsprop",)]


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_step_of_fastnns_is_left(what):
    a, b, replacer = both(OTHERS[what])
    one, other = a.Adam(beta1=0.5, beta2=0.5), b.Adam(beta1=0.5, beta2=0.5)
    assert_same(lists(one, "float64", 4), lists(other, "float64", 4))
    one.beta1 = other.beta1 = 0.75
    assert_same(lists(one, "float64", 4), lists(other, "float64", 4))
    if what != "one rate for both":
        assert served(replacer) == [()]


def test_a_step_that_cannot_be_done_has_changed_nothing():
    """A gradient of another shape fails, or is broadcast, as it does without fastnn: after the steps before it."""
    source = textwrap.dedent("""
        def update(params, grads, lr=0.5):
            for key in params:
                params[key] -= lr * grads[key]
    """)
    a, b, replacer = both(source)
    for wrong in (np.ones((1, 3)), np.ones((4, 2))):
        states = []
        for names in (a, b):
            params = {"W": np.ones((4, 3)), "U": np.ones((4, 3))}
            for _ in range(3):
                names.update(params, {"W": np.ones((4, 3)), "U": np.full((4, 3), 2.0)})
            try:
                names.update(params, {"W": np.ones((4, 3)), "U": wrong})
                states.append(params)
            except ValueError as error:
                states.append((params, str(error)))
        assert_same(*states)
    assert served(replacer) == [("sgd",)]


RELUS = {
    "def relu(x): return x * (x > 0)": 1,
    "def relu(x): return (x > 0) * x": 1,
    "def relu(x):\n  x *= x > 0\n  return x": 1,
    "def relu_forward(x):\n  mask = x > 0\n  return x * mask, mask": 1,
    "def relu_backward(dout, cache):\n  x = cache\n  return dout * (x > 0)": 2,
    "def relu_backward(x, dout): return np.multiply(dout, x > 0)": 2,
    "def relu_backward(dout, x):\n  dout *= x > 0\n  return dout": 2,
}


@pytest.mark.parametrize("source", RELUS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_with_a_step(source, dtype):
    a, b, replacer = both(source)
    plain, guarded = (getattr(names, source[4 : source.index("(")]) for names in (a, b))
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -2.0]
    for i in range(4):
        args = [numbers(rng, (6, 7), dtype, special=special if i > 1 else ()) for _ in range(RELUS[source])]
        args = [rng.permutation(x) for x in args]
        twins = copy.deepcopy(args)
        with np.errstate(invalid="ignore"):
            assert_same(plain(*args), guarded(*twins))
        assert_same(args, twins)
    assert served(replacer) == [("step_product",)]


CLIP = """
def clip_grads(grads, max_norm):
    total_norm = 0
    for grad in grads:
        total_norm += np.sum(grad ** 2)
    total_norm = np.sqrt(total_norm)
    rate = max_norm / (total_norm + 1e-6)
    if rate < 1:
        for grad in grads:
            grad *= rate
"""
NORM = """
def clip_gradients(gradients, max_value=5):
    norm = np.sqrt(sum(np.sum(g * g) for g in gradients))
    if norm > max_value:
        for i in range(len(gradients)): gradients[i] *= max_value / norm
    return norm
"""
VALUES = """
def clip(gradients, max_value=5):
    for g in gradients: np.clip(g, -max_value, max_value, out=g)
"""
DUPLICATES = """
def remove_duplicate(params, grads):
    params, grads = params[:], grads[:]
    while True:
        find_flg = False
        L = len(params)
        for i in range(0, L - 1):
            for j in range(i + 1, L):
                if params[i] is params[j]:
                    grads[i] += grads[j]
                    find_flg = True
                    params.pop(j)
                    grads.pop(j)
                elif params[i].ndim == 2 and params[j].ndim == 2 and \\
                     params[i].T.shape == params[j].shape and np.all(params[i].T == params[j]):
                    grads[i] += grads[j].T
                    find_flg = True
                    params.pop(j)
                    grads.pop(j)
                if find_flg: break
            if find_flg: break
        if not find_flg: break
    return params, grads
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("source", "ours"), [(CLIP, ("clip_grads",)), (NORM, ("clip_grads",)), (VALUES, ())])
def test_gradients_are_clipped(source, ours, dtype):
    a, b, replacer = both(source)
    plain, guarded = (getattr(names, source[5 : source.index("(")]) for names in (a, b))
    rng = np.random.default_rng(0)
    for size in (1.0, 1e-3, 1.0, 0.03, 1e-12, 1e30, 0.0, 1e200, np.nan):
        with np.errstate(over="ignore"):
            grads = [(numbers(rng, shape) * size).astype(dtype) for shape in ((7, 5), (5,), (30, 20))]
        twins = copy.deepcopy(grads)
        held = [*twins]
        with np.errstate(all="ignore"):
            assert_same(plain(grads, 0.25), guarded(twins, 0.25))
        assert_same(grads, twins, size)
        assert all(g is h for g, h in zip(twins, held, strict=True))
    assert served(replacer) == [ours]


def shared(rng, tied):
    """Parameters of which some are one."""
    E, U = numbers(rng, (20, 6)), numbers(rng, (6, 6))
    other = {"not": numbers(rng, (6, 20)), "a view": E.T, "equal": E.T.copy(), "itself": E}[tied]
    return [E, U, np.zeros(6), other, np.zeros(6), U]


@pytest.mark.parametrize("tied", ["not", "a view", "equal", "itself"])
def test_duplicates_are_removed(tied):
    a, b, replacer = both(DUPLICATES)
    rng = np.random.default_rng(0)
    params = shared(rng, tied)
    for i in range(5):
        if i == 4:
            params[0][3, 2] = np.nan
        grads = [numbers(rng, p.shape) for p in params]
        twins = copy.deepcopy(grads)
        (p, g), (q, h) = a.remove_duplicate(params, grads), b.remove_duplicate(params, twins)
        assert [id(x) for x in p] == [id(x) for x in q]
        assert [[x is y for y in grads] for x in g] == [[x is y for y in twins] for x in h]
        assert_same(grads, twins)
    assert served(replacer) == [("remove_duplicate",)]


def test_every_layer_and_optimizer_of_ours_has_a_rule():
    for module in (layers, optimizers):
        for ours in (getattr(module, name) for name in module.__all__):
            op, method = ours.op.removesuffix("_with_mask"), "forward" if module is layers else "update"
            assert op in {rule.ours for rule in trials.of(ours.__name__, method)}, (
                f"fastnn/trials has no rule for {ours.__name__}"
            )
