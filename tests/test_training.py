"""The trainer: every kind of descent, its history and how it ends; and the progress that it shows."""

import builtins
import contextlib
import io
import itertools
import sys
import threading

import numpy as np
import pytest
from processes import TIMEOUT, python

import fastnn
from fastnn import (
    MLP,
    SGD,
    Adam,
    Affine,
    IdentityWithLoss,
    Momentum,
    Relu,
    Sequential,
    Trainer,
    data,
    ops,
    progress,
    training,
)
from fastnn import backends as usable_backends
from fastnn.training import OPTIMIZERS, Evaluation, clip_grads, mini_batches, remove_duplicate


@pytest.fixture(autouse=True)
def not_interrupted(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(Trainer, "_interrupted", False)


@pytest.fixture
def samples(rng):
    x = rng.standard_normal((30, 2))
    return x, (x[:, 0] > x[:, 1]).astype(int)


def trainer(**kwargs):
    return Trainer(MLP([2, 6, 2], seed=1), SGD(0.3), **({"seed": 0, "show": False} | kwargs))


def weights(network):
    return [p.copy() for p in network.params]


def assert_same(arrays, others):
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)


def by_hand(network, batches, lr=0.3):
    losses = []
    for x, t in batches:
        loss, grads = network.loss_and_gradient(x, t)
        for p, g in zip(network.params, grads, strict=True):
            p -= lr * g
        losses.append(float(loss))
    return losses


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("batch_size", [1, 4, 7, 29, 30, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_sample_comes_once_in_each_epoch(samples, batch_size, shuffled):
    x, t = samples
    rng = np.random.default_rng(5) if shuffled else None
    for _ in range(2):
        batches = [(a.copy(), b.copy()) for a, b in mini_batches(x, t, batch_size, rng)]
        sizes = [min(batch_size, 30)] * (30 // min(batch_size, 30)) + [30 % min(batch_size, 30)]
        assert [len(a) for a, _ in batches] == [len(b) for _, b in batches] == [n for n in sizes if n]
        rows, labels = np.concatenate([a for a, _ in batches]), np.concatenate([b for _, b in batches])
        order = np.lexsort(rows.T)
        np.testing.assert_array_equal(rows[order], x[np.lexsort(x.T)])
        np.testing.assert_array_equal(labels, (rows[:, 0] > rows[:, 1]).astype(int))
        assert shuffled != np.array_equal(rows, x)


def test_samples_of_any_shape_and_dtype():
    x, t = np.arange(24, dtype=">f4").reshape(6, 2, 2)[::-1], np.arange(6, dtype=np.uint8)[:, np.newaxis]
    for a, b in mini_batches(x, t, 4):
        assert a.dtype == x.dtype and b.dtype == np.uint8 and a.shape[1:] == (2, 2) and b.shape[1:] == (1,)
    np.testing.assert_array_equal(a, x[4:])


def test_labels_that_are_too_few_are_refused(samples):
    x, t = samples
    for labels in (t[:20], np.concatenate([t, t])):
        with pytest.raises(ValueError, match="30 samples"):
            list(mini_batches(x, labels, 7))
        with pytest.raises(ValueError, match="30 samples"):
            trainer().fit(x, labels)
    with pytest.raises(ValueError, match="at least one"):
        trainer().fit(x[:0], t[:0])


class Sparse:
    """As SciPy's, which NumPy makes an array without dimensions of."""

    shape = 30, 2

    def toarray(self):
        return np.ones(self.shape)


def test_samples_that_are_no_arrays(samples):
    x, t = samples
    for bad, error, match in (
        (Sparse(), TypeError, r"x must be an array of real numbers, not Sparse: take x.toarray\(\)$"),
        ((row for row in x), TypeError, "x must be an array of real numbers, not generator$"),
        (None, TypeError, "x must be an array of real numbers, not NoneType$"),
        ("text", TypeError, "x must be an array of real numbers, not of dtype <U4$"),
        (1.0, ValueError, r"x must have at least 1 dimension\(s\), but its shape is \(\)$"),
    ):
        with pytest.raises(error, match=match):
            trainer().fit(bad, t)
        with pytest.raises(error, match=match.replace("x", "t", 1).replace("x.toarray", "t.toarray")):
            trainer().fit(x, bad)
    assert trainer().fit(x.tolist(), t.tolist()).losses == trainer().fit(x, t).losses


# ---------------------------------------------------------------- descent


def test_batch_descent_is_the_formula(samples):
    x, t = samples
    for kwargs in ({}, {"batch_size": 30}, {"batch_size": 10**9}, {"shuffle": False}):
        run = trainer()
        assert run.fit(x, t, epochs=5, **kwargs) is run
        network = MLP([2, 6, 2], seed=1)
        np.testing.assert_allclose(run.losses, by_hand(network, [(x, t)] * 5), rtol=1e-13)
        for p, q in zip(run.network.params, network.params, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("batch_size, steps", [(1, 30), (7, 5), (15, 2)])
def test_stochastic_and_mini_batch_descent(samples, batch_size, steps):
    x, t = samples
    run = trainer().fit(x, t, batch_size=batch_size, epochs=3, shuffle=False)
    batches = [(x[i : i + batch_size], t[i : i + batch_size]) for i in range(0, 30, batch_size)] * 3
    network = MLP([2, 6, 2], seed=1)
    np.testing.assert_allclose(run.losses, by_hand(network, batches), rtol=1e-12)
    assert len(run.losses) == 3 * steps
    assert all(type(loss) is float for loss in run.losses)
    order, rng = [], np.random.default_rng(0)
    for _ in range(3):
        order += [(x[i], t[i]) for i in np.split(rng.permutation(30), range(batch_size, 30, batch_size))]
    shuffled = trainer().fit(x, t, batch_size=batch_size, epochs=3)
    np.testing.assert_allclose(shuffled.losses, by_hand(MLP([2, 6, 2], seed=1), order), rtol=1e-12)


def test_online_descent(rng):
    # The course's regression: y = 3 x0 + 2 x1, single samples, drawn as they come.
    truth = Sequential([Affine(np.array([[3.0], [2.0]]), np.zeros(1))], IdentityWithLoss())
    drawn = []

    def endless():
        while True:
            x = rng.uniform(-1, 1, 2)
            drawn.append(x)
            yield x, truth.predict(x)

    run = Trainer(MLP([2, 10, 1], loss="identity", seed=0), SGD(0.07), show=False)
    assert run.fit_samples(endless(), steps=1000) is run
    assert len(run.losses) == len(drawn) == 1000
    assert np.mean(run.losses[-100:]) < 0.01 * np.mean(run.losses[:100])
    assert np.isnan(run.evaluate((drawn, truth.predict(drawn)), (drawn, truth.predict(drawn))).test_accuracy)
    run.fit_samples([(drawn[0], truth.predict(drawn[0]))] * 3)
    assert len(run.losses) == 1003
    run.fit_samples(endless(), steps=0)
    assert len(drawn) == 1000


def test_the_seed_decides_everything(samples):
    x, t = samples
    losses = [trainer(seed=seed).fit(x, t, batch_size=4, epochs=4).losses for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    run = trainer(seed=3).fit(x, t, batch_size=4, epochs=2)
    assert run.fit(x, t, batch_size=4, epochs=2).losses == losses[0]


def test_training_changes_no_sample(samples):
    x, t = samples
    kept = x.copy(), t.copy()
    for a, b in ((x, t), (x.astype(np.float32), t.astype(np.uint8)), (x.tolist(), t.tolist())):
        trainer().fit(a, b, batch_size=4, epochs=2, test=(x, t))
    assert_same((x, t), kept)
    x.flags.writeable = t.flags.writeable = False
    trainer().fit(x, t, batch_size=4)


def test_any_optimizer_and_defaults(samples):
    class Own:
        calls = 0

        def update(self, params, grads):
            assert isinstance(params, list) and isinstance(grads, list) and len(params) == len(grads)
            self.calls += 1

    own = Own()
    network = MLP([2, 6, 2], seed=1)
    before = weights(network)
    Trainer(network, own, show=False).fit(*samples, batch_size=10, epochs=2)
    assert own.calls == 6
    assert_same(network.params, before)
    assert type(Trainer(network).optimizer) is SGD and Trainer(network).show


# ---------------------------------------------------------------- evaluations and early stop


def test_evaluations(samples):
    x, t = samples
    run = trainer().fit(x, t, batch_size=10, epochs=7, test=(x[:5], t[:5]), evaluate_every=3)
    assert [e.step for e in run.evaluations] == [9, 18]
    network = trainer().fit(x, t, batch_size=10, epochs=6).network
    expected = Evaluation(18, network.accuracy(x, t), float(network.loss(x[:5], t[:5])), network.accuracy(x[:5], t[:5]))
    assert run.evaluations[-1] == expected
    assert all(type(value) is float for value in run.evaluations[0][1:])
    assert trainer().fit(x, t, epochs=3).evaluations == []
    run = trainer()
    assert run.evaluate((x, t), (x, t)) is run.evaluations[0] and run.evaluations[0].step == 0


@pytest.mark.parametrize("training", [True, False])
def test_it_trains_in_training_mode_and_evaluates_in_evaluation_mode(samples, training):
    x, t = samples
    modes = []

    class Seen(Relu):
        mode_matters = True

        def forward(self, x, train_flg=True):
            modes.append(train_flg and self.training)
            return super().forward(x, train_flg)

    network, plain = MLP([2, 6, 2], seed=1), trainer()
    network = Sequential([network.layers[0], Seen(), network.layers[2]])
    network.training = training
    run = Trainer(network, SGD(0.3), seed=0, show=False).fit(x, t, batch_size=10, epochs=2, test=(x, t))
    assert modes == [True, True, True, False, False, False] * 2
    assert network.training is training
    plain.fit(x, t, batch_size=10, epochs=2, test=(x, t))
    np.testing.assert_allclose(run.losses, plain.losses, rtol=1e-12)
    assert run.evaluations[-1].test_loss == pytest.approx(plain.evaluations[-1].test_loss)


def losses_of_tests(values, monkeypatch, network):
    """Makes the losses of the evaluations to come these values."""
    rest = iter(values)

    def evaluate(self, train, test):
        self.evaluations.append(Evaluation(len(self.losses), 0.5, next(rest), 0.5))
        return self.evaluations[-1]

    monkeypatch.setattr(Trainer, "evaluate", evaluate)


def test_an_early_stop_restores_the_best(samples, monkeypatch):
    x, t = samples
    losses_of_tests([5.0, 4.0, 4.0, 3.0, 3.5, 3.0, 9.0, 1.0], monkeypatch, None)
    run = trainer()
    params = run.network.params
    run.fit(x, t, epochs=8, test=(x, t), patience=3)
    assert run.stopped == "no improvement" and len(run.losses) == 7
    at_best = trainer()
    losses_of_tests([1.0] * 9, monkeypatch, None)
    at_best.fit(x, t, epochs=4)
    assert_same(run.network.params, at_best.network.params)
    assert all(p is q for p, q in zip(params, run.network.params, strict=True))


def test_an_early_stop_restores_weights_that_were_replaced_meanwhile(samples, monkeypatch):
    x, t = samples
    losses_of_tests([1.0, 2.0, 3.0], monkeypatch, None)

    def replace(run):
        run.network.layers[0].W = run.network.layers[0].W.copy()

    run = trainer(callbacks=[replace]).fit(x, t, epochs=3, test=(x, t), patience=2)
    assert run.stopped == "no improvement"
    assert_same(run.network.params, trainer().fit(x, t, epochs=1).network.params)


def test_an_early_stop_without_any_good_evaluation(samples):
    x, t = samples
    bad = x.copy()
    bad[0, 0] = np.nan
    run = trainer().fit(x, t, epochs=5, test=(bad, t), patience=2)
    assert run.stopped == "no improvement" and len(run.losses) == 2 and np.isnan(run.evaluations[0].test_loss)
    assert_same(run.network.params, trainer().fit(x, t, epochs=2).network.params)


def test_no_early_stop(samples, monkeypatch):
    x, t = samples
    losses_of_tests([3.0, 2.0, 2.5, 1.0, 1.5], monkeypatch, None)
    run = trainer().fit(x, t, epochs=5, test=(x, t), patience=2)
    assert run.stopped is None and len(run.losses) == 5
    assert_same(run.network.params, trainer().fit(x, t, epochs=5).network.params)


@pytest.mark.parametrize(
    "kwargs, error, match",
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not"),
        ({"test": np.ones((30, 2))}, TypeError, r"test must be a pair \(x, t\), not ndarray$"),
        ({"test": (np.ones((30, 2)),)}, TypeError, r"test must be a pair \(x, t\), not tuple$"),
        ({"batch_size": 2**63}, ValueError, "batch_size must be at most 9223372036854775807, not 9223372036854775808$"),
        ({"batch_size": -3}, ValueError, "batch_size must be at least 1, not"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be a whole number"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, not"),
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every must be at least 1, not"),
        ({"patience": 0}, ValueError, "patience must be at least 1, not"),
        ({"patience": 2}, ValueError, "patience needs a test"),
    ],
)
def test_bad_arguments(samples, kwargs, error, match):
    run = trainer()
    before = weights(run.network)
    with pytest.raises(error, match=match):
        run.fit(*samples, **kwargs)
    assert run.losses == []
    assert_same(run.network.params, before)


def test_bad_arguments_of_others(samples):
    with pytest.raises(ValueError, match="max_grad must be a finite number of at least 0"):
        trainer(max_grad=-1)
    with pytest.raises(ValueError, match="steps must be at least 0, not"):
        trainer().fit_samples([], steps=-1)
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size must be at least 1, not {size}$"):
            list(mini_batches(*samples, size))
    assert trainer().fit(*samples, epochs=0).losses == []


# ---------------------------------------------------------------- callbacks, clipping, interruptions


def test_callbacks(samples):
    seen = []

    def record(run):
        seen.append((len(run.losses), run.losses[-1]))

    run = trainer(callbacks=[record, lambda run: len(run.losses) == 4])
    run.fit(*samples, batch_size=10, epochs=5)
    assert run.stopped == "callback" and len(run.losses) == 4
    assert seen == list(enumerate(run.losses, 1))
    run.callbacks = ()
    run.fit(*samples, batch_size=10)
    assert run.stopped is None and len(run.losses) == 7


def test_every_callback_is_called_also_beside_one_that_stops(samples):
    seen = []
    trainer(callbacks=[lambda run: True, lambda run: seen.append(1)]).fit(*samples, epochs=3)
    assert seen == [1]


def test_a_callback_that_fails_is_heard(samples):
    def fails(run):
        raise KeyError("no")

    run = trainer(callbacks=[fails])
    with pytest.raises(KeyError, match="no"):
        run.fit(*samples, epochs=3)
    assert len(run.losses) == 1


def test_clipping():
    grads = [np.full((2, 2), 3.0), np.full(1, 8.0)]
    kept = [g.copy() for g in grads]
    assert clip_grads(grads, 11.0) == clip_grads(grads, 10.0) == 10
    assert_same(grads, kept)
    assert clip_grads(grads, 5.0) == 10
    assert_same(grads, [g / 2 for g in kept])
    assert clip_grads(grads, 0.0) == 5 and not grads[0].any()
    assert clip_grads([], 1.0) == 0


def test_clipping_as_in_the_second_book(rng):
    for shape in ((3, 4), (70, 90)):
        grads = [rng.standard_normal(shape), np.asfortranarray(rng.standard_normal(shape)), rng.standard_normal(5)]
        kept = [g.copy() for g in grads]
        norm = np.sqrt(sum(np.sum(g**2) for g in grads))
        assert clip_grads(grads, 0.25, 1e-6) == pytest.approx(norm, rel=1e-14)
        for g, h in zip(grads, kept, strict=True):
            np.testing.assert_allclose(g, h * (0.25 / (norm + 1e-6)), rtol=1e-14)
    grads = [np.full(4, 0.125)]
    assert clip_grads(grads, 0.25) == 0.25 and grads[0][0] == 0.125
    assert clip_grads(grads, 0.25, 1e-6) == 0.25 and grads[0][0] < 0.125


def test_clipping_of_many_numbers_is_as_exact_as_numpys_sum(rng):
    g = rng.standard_normal(1 << 20).astype(np.float32)
    assert clip_grads([g], np.inf) == pytest.approx(np.sqrt(np.sum(g.astype(np.float64) ** 2)), rel=1e-6)


def test_duplicates():
    W, U, b = np.arange(6.0).reshape(2, 3), np.ones((2, 2)), np.zeros(2)
    params = [W, b, W.T, U, W, W.T.copy(), b.copy(), U.T.copy(), W + 1]
    grads = [np.full(p.shape, 10.0**i) for i, p in enumerate(params)]
    kept = [*grads]
    p, g = remove_duplicate(params, grads)
    assert len(params) == len(grads) == 9
    assert [[x is y for y in params].index(True) for x in p] == [0, 1, 3, 6, 8]  # vectors have no transpose
    assert all(x is kept[i] for x, i in zip(g, (0, 1, 3, 6, 8), strict=True))
    assert [x.flat[0] for x in g] == [1 + 1e2 + 1e4 + 1e5, 1e1, 1e3 + 1e7, 1e6, 1e8]


def test_what_is_no_number_is_no_duplicate_but_of_itself():
    W = np.array([[1.0, np.nan]])
    assert len(remove_duplicate([W, W.T], [np.ones((1, 2)), np.ones((2, 1))])[0]) == 2
    assert len(remove_duplicate([W, W], [np.ones((1, 2)), np.ones((1, 2))])[0]) == 1
    assert remove_duplicate([], []) == ([], [])
    nothing = np.ones((0, 3))
    assert len(remove_duplicate([nothing, nothing.T], [np.ones((0, 3)), np.ones((3, 0))])[0]) == 1


@pytest.mark.parametrize("dtype, size", [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e200)])
def test_clipping_of_numbers_whose_squares_leave_the_range(dtype, size):
    grads = [np.full(4, size, dtype), np.zeros(3, dtype)]
    assert clip_grads(grads, size / 2) == pytest.approx(2 * size, rel=1e-6)
    np.testing.assert_allclose(grads[0], np.full(4, size / 4), rtol=1e-6)


def test_clipped_training(samples):
    x, t = samples
    steps = []

    class Record(SGD):
        def update(self, params, grads):
            steps.append(np.sqrt(sum(np.sum(g**2) for g in grads)))
            super().update(params, grads)

    Trainer(MLP([2, 6, 2], seed=1), Record(0.3), max_grad=0.1, show=False).fit(x, t, epochs=3)
    np.testing.assert_allclose(steps, 0.1, rtol=1e-12)
    assert trainer(max_grad=1e9).fit(x, t, epochs=3).losses == trainer().fit(x, t, epochs=3).losses


def test_an_interruption_keeps_what_there_is(samples):
    def press(run):
        if len(run.losses) == 5:
            raise KeyboardInterrupt

    run = trainer(callbacks=[press]).fit(*samples, batch_size=10, epochs=9)
    assert run.stopped == "interrupted" and len(run.losses) == 5
    plain = trainer(callbacks=[lambda run: len(run.losses) == 5]).fit(*samples, batch_size=10, epochs=9)
    assert run.losses == plain.losses
    assert_same(run.network.params, plain.network.params)
    run.fit(*samples, batch_size=10)
    assert run.stopped is None and len(run.losses) == 8


INTERRUPTED = """
import numpy as np
from fastnn import MLP, Trainer

def press(trainer):
    raise KeyboardInterrupt

x, t = np.ones((4, 2)), np.zeros(4, int)
for i in range(3):
    trainer = Trainer(MLP([2, 2], seed=0), callbacks=[press], show=False).fit(x, t, epochs=5)
    print(i, trainer.stopped)
"""


def test_a_second_interruption_ends_the_program():
    done = python(INTERRUPTED)
    assert done.returncode != 0 and done.stdout.splitlines() == ["0 interrupted"]
    first, *rest = done.stderr.splitlines()
    kept = "training interrupted at step 1: the parameters and the history are kept"
    assert first == f"{kept}, a second interruption ends the program" and rest[-1] == "KeyboardInterrupt"
    by_hand = python("import sys; sys.ps1 = '>>> '\n" + INTERRUPTED)
    assert by_hand.returncode == 0 and by_hand.stdout.splitlines() == [f"{i} interrupted" for i in range(3)]
    assert by_hand.stderr.splitlines() == [kept] * 3


def test_an_interruption_of_an_iterator():
    def samples():
        yield np.ones(2), np.int64(1)
        raise KeyboardInterrupt

    run = trainer().fit_samples(samples())
    assert run.stopped == "interrupted" and len(run.losses) == 1


def test_a_loss_of_nan(samples):
    x, t = samples
    bad = x.copy()
    bad[17] = np.nan
    run = trainer()
    with pytest.raises(FloatingPointError, match="the loss is NaN at step 17: "):
        run.fit(bad, t, batch_size=1, shuffle=False)
    good = trainer().fit(x[:17], t[:17], batch_size=1, shuffle=False)
    assert run.losses == good.losses
    assert_same(run.network.params, good.network.params)
    with pytest.raises(FloatingPointError, match="the loss is NaN at step 17: "):
        run.step(bad, t)
    momentum = Momentum()
    with pytest.raises(FloatingPointError):
        Trainer(MLP([2, 2], seed=1), momentum, show=False).step(bad, t)
    assert momentum.v is None


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@pytest.mark.parametrize("callbacks", [[], [lambda run: None]], ids=["many steps", "single steps"])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_what_a_loss_that_is_not_finite_comes_from(rng, callbacks, batch_size):
    x, t = rng.standard_normal((30, 2)), rng.standard_normal((30, 1))

    def regression():
        return Trainer(MLP([2, 3, 1], loss="identity", seed=1), SGD(0.01), seed=0, show=False, callbacks=callbacks)

    def with_bad(a, value, row=17):
        a = a.copy()
        a[row, 0] = value
        return a

    infinite = regression()
    infinite.network.params[1][:] = np.inf
    for run, bad_x, bad_t, match in (
        (regression(), with_bad(x, np.nan), t, "the loss is NaN at step .*: x has NaN in row 17$"),
        (regression(), with_bad(x, -np.inf), t, "the loss is .* at step .*: x has an infinity in row 17$"),
        (regression(), x, with_bad(t, np.nan), "the loss is NaN at step .*: t has NaN in row 17$"),
        (regression(), x, with_bad(t, np.inf), "the loss is infinite at step .*: t has an infinity in row 17$"),
        (infinite, x, t, "the loss is .* at step 0: b1 has an infinity$"),
        (regression(), x * 1e200, t, "the loss is infinite at step 0: .* are finite, .*: try a lower learning rate"),
    ):
        before = weights(run.network)
        with pytest.raises(FloatingPointError, match=match):
            run.fit(bad_x, bad_t, batch_size=batch_size, epochs=20)
        if not run.losses:
            assert_same(run.network.params, before)
        assert np.isfinite(run.losses).all()


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_where_a_step_found_what_is_not_finite():
    x, t = np.ones((4, 2)), np.array([0, 1, 0, 1])
    bad = x.copy()
    bad[2] = np.nan
    for given, labels, match in (
        (bad, t, "x has NaN in row 2$"),
        (bad.tolist(), t, "row 2$"),
        (bad[2], 0, "x has NaN$"),
    ):
        with pytest.raises(FloatingPointError, match=f"at step 0: .*{match}"):
            trainer().step(given, labels)
        with pytest.raises(FloatingPointError, match=f"at step 1: .*{match}"):
            trainer().fit_samples([(x, t), (given, labels)])
    run = Trainer(MLP([2, 1], loss="identity", seed=1), SGD(1e308), show=False)
    assert run.step(1e8 * x, t)
    with pytest.raises(FloatingPointError, match="at step 1: W1 has an infinity: try a lower learning rate"):
        run.step(1e8 * x, t)


def test_nobody_looks_for_it_where_the_loss_is_finite(samples, monkeypatch):
    monkeypatch.setattr(training, "_not_finite", None)
    trainer(callbacks=[nothing]).fit(*samples, batch_size=4, epochs=3, test=samples)


def test_a_step(samples):
    run = trainer()
    loss = run.step(*samples)
    assert type(loss) is float and run.losses == [loss]
    assert loss == pytest.approx(float(MLP([2, 6, 2], seed=1).loss(*samples)), rel=1e-13)
    assert run.network.loss(*samples) < loss


@pytest.mark.demo
def test_the_digits_in_float32():
    digits = data.digits()
    run = Trainer(MLP([64, 50, 10], seed=0, dtype=np.float32), SGD(0.5), seed=0, show=False)
    x, x_test = digits.x_train.astype(np.float32), digits.x_test.astype(np.float32)
    run.fit(x, digits.t_train, batch_size=50, epochs=20, test=(x_test, digits.t_test), evaluate_every=5)
    assert run.evaluations[-1].test_accuracy > 0.95 and run.evaluations[-1].step == len(run.losses) == 20 * 29


# ---------------------------------------------------------------- many steps in one call


def nothing(run):
    """A callback, for which every step is a single one."""


@pytest.fixture
def calls(monkeypatch):
    """How many steps each call of mlp_descent was asked for, which are made for few steps, too."""
    made, op = [], ops.mlp_descent
    monkeypatch.setattr(training, "FEW", 0)

    def recorded(x, t, order, batch_size, *args, **kwargs):
        made.append(len(kwargs["out"][0]))
        return op(x, t, order, batch_size, *args, **kwargs)

    monkeypatch.setattr(ops, "mlp_descent", recorded)
    return made


def everything(run):
    """All that a training changes."""
    optimizer = run.optimizer
    kept = [a for name in optimizer.kept for a in getattr(optimizer, name) or ()]
    state = run.losses, run.stopped, run.evaluations, run.rng.bit_generator.state, vars(optimizer).get("iter")
    return state, [*run.network.params, *run.network.grads, *kept]


def assert_equal(run, other):
    (state, arrays), (other_state, other_arrays) = everything(run), everything(other)
    assert repr(state) == repr(other_state)
    for a, b in zip(arrays, other_arrays, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def regression(rng, loss, dtype, N=23, sizes=(3, 6, 2)):
    x, t = rng.standard_normal((N, sizes[0])).astype(dtype), rng.random((N, sizes[-1])).astype(dtype)
    return x, rng.integers(0, sizes[-1], N).astype(np.uint8) if loss == "softmax" else t


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", usable_backends())
def test_many_steps_are_single_ones(rng, calls, backend, optimizer, loss, dtype):
    x, t = regression(rng, loss, dtype)
    for kwargs in ({"batch_size": 1}, {"batch_size": 5}, {"batch_size": 5, "shuffle": False}, {}):
        runs = []
        for callbacks in ([], [nothing]):
            network = MLP([3, 6, 2], loss=loss, seed=1, dtype=dtype)
            run = Trainer(network, optimizer(0.01), seed=0, show=False, callbacks=callbacks)
            with fastnn.use_backend(backend):
                run.fit(x, t, epochs=3, **kwargs).fit(x, t, epochs=2, test=(x, t), **kwargs)
            assert bool(calls) == (not callbacks)
            calls.clear()
            runs.append(run)
        assert_equal(*runs)
        assert len(runs[0].losses) == 5 * -(-23 // kwargs.get("batch_size", 23))
        assert all(type(value) is float for value in runs[0].losses)


@pytest.mark.parametrize("turn", [0.0, 1e9])
def test_the_number_of_steps_in_a_call_changes_nothing(samples, monkeypatch, calls, turn):
    x, t = samples
    expected = trainer(callbacks=[nothing]).fit(x, t, batch_size=4, epochs=20, test=(x, t), evaluate_every=7)
    monkeypatch.setattr(training, "TURN", turn)
    run = trainer().fit(x, t, batch_size=4, epochs=20, test=(x, t), evaluate_every=7)
    assert_equal(run, expected)
    # Of 7, 7 and 6 passes of 8 steps the last step is single.
    assert sum(calls) == 20 * 8 - 3
    assert {*calls[1:]} == {1} if turn == 0 else max(calls) > 8


def test_many_steps_of_large_products_and_images(rng, calls):
    x, t = rng.standard_normal((50, 2, 10, 10)), rng.integers(0, 10, 50)
    runs = []
    for callbacks in ([], [nothing]):
        run = Trainer(MLP([200, 50, 10], seed=0), Adam(), seed=0, show=False, callbacks=callbacks)
        runs.append(run.fit(x[::-1], t[::-1], batch_size=20, epochs=4))
    assert_equal(*runs)
    assert sum(calls) == 11


def test_few_steps_are_single_ones(samples, monkeypatch):
    monkeypatch.setattr(ops, "mlp_descent", None)
    assert len(trainer().fit(*samples, batch_size=6, epochs=2).losses) == training.FEW


def test_patience_amid_many_steps(samples, monkeypatch):
    runs = []
    for callbacks in ([], [nothing]):
        losses_of_tests([3.0, 2.0, 2.5, 2.5], monkeypatch, None)
        run = trainer(callbacks=callbacks)
        runs.append(run.fit(*samples, batch_size=2, epochs=9, test=samples, patience=2))
    assert runs[0].stopped == "no improvement"
    assert_equal(*runs)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("optimizer", [SGD, Momentum, Adam])
def test_a_loss_of_nan_amid_many_steps(rng, calls, optimizer):
    x, t = regression(rng, "identity", np.float64)
    runs, errors = [], []
    for callbacks in ([], [nothing]):
        network = MLP([3, 6, 2], loss="identity", seed=1)
        runs.append(Trainer(network, optimizer(1e200), seed=0, show=False, callbacks=callbacks))
        with pytest.raises(FloatingPointError, match="the loss is (NaN|infinite) at step .*learning rate") as raised:
            runs[-1].fit(x, t, batch_size=5, epochs=100)
        errors.append(str(raised.value))
    assert errors[0] == errors[1] and calls
    # The order of a whole call has been drawn.
    runs[0].rng.bit_generator.state = runs[1].rng.bit_generator.state
    assert_equal(*runs)


def test_a_first_loss_of_nan_leaves_the_optimizer(samples, calls):
    x, t = samples
    run = Trainer(MLP([2, 2]), Adam(), show=False)
    with pytest.raises(FloatingPointError, match="at step 0: "):
        run.fit(x * np.nan, t, batch_size=4)
    assert calls and run.losses == [] and run.optimizer.m is None and run.optimizer.iter == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_interruption_amid_many_steps(samples, monkeypatch, when, number):
    x, t = samples
    op, count, steps = ops.mlp_descent, itertools.count(1), []

    def interrupted(*args, **kwargs):
        last = next(count) == number
        if last and when == "before":
            raise KeyboardInterrupt
        results = op(*args, **kwargs)
        steps.append(len(results[0]))
        if last:  # as Python does it: the call has ended, its results have gone nowhere
            raise KeyboardInterrupt
        return results

    monkeypatch.setattr(ops, "mlp_descent", interrupted)
    monkeypatch.setattr(training, "TURN", 0.0)  # so that there are as many calls on any machine
    run = Trainer(MLP([2, 6, 2], seed=1), Adam(), seed=0, show=False).fit(x, t, batch_size=1, epochs=50)
    assert run.stopped == "interrupted" and len(run.losses) == sum(steps) == run.optimizer.iter
    plain = Trainer(
        MLP([2, 6, 2], seed=1), Adam(), seed=0, show=False, callbacks=[lambda run: len(run.losses) == sum(steps)]
    )
    if steps:
        plain.fit(x, t, batch_size=1, epochs=50)
    assert run.losses == plain.losses
    assert_same(run.network.params, plain.network.params)
    if steps:
        assert_same([*run.optimizer.m, *run.optimizer.v], [*plain.optimizer.m, *plain.optimizer.v])


def test_what_is_refused_has_changed_nothing(samples, calls):
    x, t = samples
    late = t.copy()
    late[-1] = 2
    for bad_x, bad_t, error, match in (
        (x, late, IndexError, r"t\[29\] is 2, which is not a class index"),
        (x, t - 1, IndexError, "is -1, which is not a class index"),
        (x, t.astype(float), TypeError, r"must be of integers, not of dtype float64: t.astype\(int\)$"),
        (x, np.eye(3)[t], ValueError, r"t has shape \(\d+, 3\), but x of shape \(\d+, 2\) needs class indices"),
        (x[:, :1], t, ValueError, r"x has shape \(\d+, 1\), but W of shape \(2, 6\) needs 2 numbers"),
        (x, np.stack([t] * 3, axis=1), ValueError, r"t has shape \(\d+, 3\), but x of shape"),
    ):
        run = Trainer(MLP([2, 6, 2], seed=1), Momentum(), seed=0, show=False)
        before = weights(run.network)
        with pytest.raises(error, match=match):
            run.fit(bad_x, bad_t, batch_size=4, shuffle=False)
        assert run.losses == [] and run.optimizer.v is None
        assert_same(run.network.params, before)


class OwnAffine(Affine):
    pass


class OwnRule(Momentum):
    def constants(self, params):
        self.steps = getattr(self, "steps", 0) + 1
        return self.lr / self.steps, self.momentum


class OwnGradient(Sequential):
    def loss_and_gradient(self, x, t):
        loss, grads = super().loss_and_gradient(x, t)
        return loss, [g + 0.01 for g in grads]


class OwnStep(Trainer):
    def step(self, x, t):
        self.seen = getattr(self, "seen", 0) + 1
        return super().step(x, t)


def other_trainers():
    """What the op cannot do, each with samples of its own dtype."""

    def layers(cls=Affine, dtype=np.float64):
        rng = np.random.default_rng(0)
        return [cls(rng.standard_normal((2, 2)).astype(dtype), np.zeros(2, dtype)) for _ in range(2)]

    quiet = {"seed": 0, "show": False}
    first, last = layers()
    last.W = first.W
    yield "a shared weight", Trainer(Sequential([first, Relu(), last]), SGD(0.1), **quiet)
    first, last = layers()
    first.W, last.W = memory = np.ones((2, 2, 2)) / 2
    last.b = memory[0, 1]
    yield "memory in common", Trainer(Sequential([first, Relu(), last]), SGD(0.1), **quiet)
    first, last = layers(OwnAffine)
    yield "a layer", Trainer(Sequential([first, Relu(), last]), SGD(0.1), **quiet)
    first, last = layers()
    yield "one layer twice", Trainer(Sequential([first, Relu(), first]), SGD(0.1), **quiet)
    yield "another dtype", Trainer(Sequential(layers(dtype=np.float32)[:1]), SGD(0.1), **quiet)
    yield "a gradient", Trainer(OwnGradient(layers()[:1]), SGD(0.1), **quiet)
    yield "a step", OwnStep(Sequential(layers()[:1]), SGD(0.1), **quiet)
    yield "a rule", Trainer(Sequential(layers()[:1]), OwnRule(0.1), **quiet)
    yield "a norm", Trainer(Sequential(layers()[:1]), SGD(0.1), max_grad=1.0, **quiet)
    momentum = Momentum(0.1)
    momentum.v = np.ones((2, 2)), np.ones(2)
    yield "what is kept is no list", Trainer(Sequential(layers()[:1]), momentum, **quiet)


@pytest.mark.parametrize("what", [what for what, _ in other_trainers()])
def test_what_the_op_does_not_know_goes_step_by_step(samples, calls, what):
    x, t = samples
    run, other = (dict(other_trainers())[what] for _ in range(2))
    run.fit(x, t, batch_size=4, epochs=2, shuffle=False)
    assert not calls
    for _ in range(2):
        for batch in mini_batches(x, t, 4):
            other.step(*batch)
    assert_equal(run, other)


def test_an_optimizer_that_is_changed_between_evaluations(samples, calls):
    """What was asked before the first call may not hold at the next."""
    x, t = samples
    runs = []
    for callbacks in ([], [nothing]):
        run = trainer(callbacks=callbacks)
        real = run.evaluate

        def evaluate(*parts, run=run, real=real):
            run.optimizer = Momentum(0.1)
            return real(*parts)

        run.evaluate = evaluate
        runs.append(run.fit(x, t, batch_size=4, epochs=3, test=(x, t)))
    assert_equal(*runs)
    assert sum(calls) == 3 * 7


def test_a_profile_shows_many_steps_as_one_call(samples):
    with fastnn.profile() as profile:
        trainer().fit(*samples, batch_size=1, epochs=2, shuffle=False)
    times = profile.times
    assert times["mlp_gradient"].calls == 1 and 1 <= times["mlp_descent"].calls < 30
    assert times["mlp_descent"].by_reference == 0


# ---------------------------------------------------------------- the picture


def painted(run):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure()
    run._paint(figure)
    return figure


def test_a_picture(tmp_path, samples):
    pytest.importorskip("matplotlib")
    for name, run in {
        "nothing": trainer(),
        "one step": trainer().fit(*samples),
        "short": trainer().fit(*samples, epochs=9),
        "long": trainer().fit(*samples, batch_size=1, epochs=9, test=samples),
        "evaluated once": trainer().fit(*samples, test=samples),
    }.items():
        path = tmp_path / f"{name}.png"
        run.plot(path)
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    trainer().fit(*samples).plot(str(tmp_path / "a.svg"))


def test_what_the_picture_shows(samples):
    x, t = samples
    run = trainer().fit(x, t, batch_size=1, epochs=9, test=(x, t))
    loss, accuracy = painted(run).axes
    lines = {line.get_label(): line.get_xydata() for axes in (loss, accuracy) for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["loss of each step"], np.stack([np.arange(270), run.losses], axis=1))
    np.testing.assert_allclose(lines["mean of 5 steps"][0], [4, np.mean(run.losses[:5])])
    np.testing.assert_allclose(lines["mean of 5 steps"][-1], [269, np.mean(run.losses[-5:])])
    np.testing.assert_array_equal(lines["loss on the test"], [(e.step, e.test_loss) for e in run.evaluations])
    np.testing.assert_array_equal(lines["accuracy, test"], [(e.step, e.test_accuracy) for e in run.evaluations])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [*lines]
    regression = Trainer(MLP([2, 1], loss="identity"), show=False)
    regression.fit(x, x[:, :1], epochs=2, test=(x, x[:, :1]))
    assert len(painted(regression).axes) == 1


def test_the_picture_holds_losses_of_the_test_above_all_others(samples, monkeypatch):
    losses_of_tests([30.0, 20.0, 40.0], monkeypatch, None)
    run = trainer().fit(*samples, epochs=3, test=samples)
    low, high = painted(run).axes[0].get_ylim()
    assert low == 0 and high >= 40


# ---------------------------------------------------------------- progress


@pytest.fixture
def at_once(monkeypatch):
    """Progress that is shown from the first step on, and at every step."""
    monkeypatch.setattr(progress, "WAIT", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)


@pytest.fixture
def no_rich(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.usefixtures("at_once")
def test_nothing_is_shown_unless_asked(samples, capfd):
    trainer(show=False).fit(*samples, epochs=3)
    MLP([2, 2]).numerical_gradient(*samples)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_shown_in_the_first_seconds(samples, capfd, monkeypatch):
    monkeypatch.setattr(progress, "monotonic", lambda: 1.0)
    trainer(show=True).fit(*samples, epochs=3)
    MLP([2, 2]).numerical_gradient(*samples, show=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("at_once", "no_rich")
def test_lines_without_rich(samples, capfd):
    run = trainer(show=True, callbacks=[nothing]).fit(*samples, batch_size=10, epochs=2)
    out, err = capfd.readouterr()
    assert not out
    lines = [f"training: {i} of 6 loss {loss:.4f}" for i, loss in enumerate(run.losses, 1)]
    assert err.splitlines() == lines
    trainer(show=True).fit(*samples, batch_size=10, epochs=2)  # many steps in a call
    shown = capfd.readouterr().err.splitlines()
    assert shown == [line for line in lines if line in shown] and shown[-1] == lines[-1]
    run.fit_samples([(samples[0][0], samples[1][0])] * 2)
    assert [line.split(" loss")[0] for line in capfd.readouterr().err.splitlines()] == ["training: 1", "training: 2"]
    MLP([2, 2]).numerical_gradient(*samples, show=True)
    assert capfd.readouterr().err.splitlines()[-1] == "numerical gradient: 12 of 12"


@pytest.mark.usefixtures("at_once")
@pytest.mark.skipif(sys.platform == "win32", reason="rich draws with other characters on a Windows console")
def test_a_bar_with_rich(samples, capfd, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "120")
    trainer(show=True).fit(*samples, batch_size=1, epochs=20)
    out, err = capfd.readouterr()
    assert not out
    assert "training" in err and "/600" in err and "loss " in err and "━" in err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.usefixtures("at_once")
@pytest.mark.skipif(sys.platform == "win32", reason="rich draws with other characters on a Windows console")
@pytest.mark.parametrize("stdout", [io.StringIO, Terminal])
def test_what_is_printed_beside_a_bar(samples, monkeypatch, stdout):
    """It goes where it was sent, whole, and above the bar where that is the same terminal."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    out, err = stdout(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    run = trainer(show=True, callbacks=[lambda run: print("step", len(run.losses))]).fit(*samples, epochs=9)
    lines = [f"step {i}" for i in range(1, 10)]
    assert "training" in err.getvalue() and "━" in err.getvalue()
    if out.isatty():
        assert [line for line in lines if line in out.getvalue() + err.getvalue()] == lines
        assert "step 9" in err.getvalue()
    else:
        assert out.getvalue().splitlines() == lines and "step" not in err.getvalue()
    redirected = io.StringIO()
    with contextlib.redirect_stdout(redirected):
        run.fit(*samples, epochs=3)
    assert redirected.getvalue().splitlines() == ["step 10", "step 11", "step 12"]


@pytest.mark.usefixtures("at_once")
def test_a_notebook_without_ipywidgets(samples, monkeypatch, capfd):
    """Lines; rich would warn, and show nothing but boxes."""
    console = pytest.importorskip("rich.console")
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    run = trainer(show=True, callbacks=[lambda run: print("step", len(run.losses))]).fit(*samples, epochs=3)
    out, err = capfd.readouterr()
    assert out.splitlines() == ["step 1", "step 2", "step 3"]
    assert err.splitlines() == [f"training: {i} of 3 loss {loss:.4f}" for i, loss in enumerate(run.losses, 1)]


@pytest.mark.usefixtures("at_once")
def test_a_bar_ends_with_its_work(samples):
    pytest.importorskip("rich")

    def fails(run):
        if len(run.losses) == 3:
            raise KeyError

    before = {*threading.enumerate()}
    with pytest.raises(KeyError):
        trainer(show=True, callbacks=[fails]).fit(*samples, epochs=9)
    trainer(show=True).fit(*samples, epochs=9)
    for thread in {*threading.enumerate()} - before:
        thread.join(TIMEOUT)  # one that was told to end does so
        assert not thread.is_alive()
