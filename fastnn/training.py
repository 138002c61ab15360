"""Training: gradient descent over batches, mini-batches, single samples or whatever an iterator gives."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastnn import arguments, ops, optimizers, pictures, progress
from fastnn.arguments import Array
from fastnn.networks import Sequential
from fastnn.optimizers import SGD

__all__ = ["Evaluation", "Trainer", "clip_grads", "mini_batches", "remove_duplicate"]

# Seconds that a call with many steps is to take: after it there is time for progress, or for an interruption.
TURN = 0.025
# So few steps take no longer one by one.
FEW = 10
# A sum of squares of at least so much has lost nothing of weight to those too small for float32.
LEAST_SUM = 1e-20
SHORT_SUM = 4096
# Those whose steps are ops.
OPTIMIZERS = [getattr(optimizers, name) for name in optimizers.__all__]


class Evaluation(NamedTuple):
    """How good a network is after some steps of training; NaN for what was not asked."""

    step: int
    train_accuracy: float
    test_loss: float
    test_accuracy: float


def mini_batches(
    x: Array, t: Array, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[Array, Array]]:
    """
    One pass over samples, in a new random order if there is an `rng`; the last batch takes what is left.

    Every batch lies in the same memory as the one before.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.training import mini_batches
    >>> for x, t in mini_batches(np.arange(5.0), np.arange(5), batch_size=2):
    ...     print(x, t)
    [0. 1.] [0 1]
    [2. 3.] [2 3]
    [4.] [4]
    """
    x, t = _samples(x, t)
    N, batch_size = len(x), arguments.whole_number("batch_size", batch_size, 1, sys.maxsize)
    if batch_size >= N and rng is None:
        yield x, t
        return
    order = np.arange(N) if rng is None else rng.permutation(N)
    x_batch, t_batch = (np.empty((min(batch_size, N), *a.shape[1:]), a.dtype) for a in (x, t))
    for first in range(0, N, batch_size):
        chosen = order[first : first + batch_size]
        n = len(chosen)
        # "clip" spares take a copy of out; there is nothing to clip.
        yield (
            np.take(x, chosen, axis=0, out=x_batch[:n], mode="clip"),
            np.take(t, chosen, axis=0, out=t_batch[:n], mode="clip"),
        )


def _samples(x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> tuple[Array, Array]:
    x, t = arguments.numeric("x", x, 1), arguments.numeric("t", t, 1)
    if len(x) != len(t) or not len(x):
        raise ValueError(f"x has {len(x)} samples and t has {len(t)}: they must be as many, and at least one")
    return x, t


def _not_finite(name: str, array: Any, rows: bool = False) -> str:
    """What an array has that is not finite, and in which row if that is asked; nothing if there is none."""
    array = np.asarray(array)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    first = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
    kind = "NaN" if np.isnan(array[first]) else "an infinity"
    return f"{name} has {kind} in row {first[0]}" if rows and first else f"{name} has {kind}"


def clip_grads(grads: list[Array], max_norm: float, eps: float = 0.0) -> float:
    """
    Scale gradients in place so that their common Euclidean norm is at most `max_norm`.

    ``g' = g min(1, max_norm / (norm + eps))``

    Parameters
    ----------
    grads : list of ndarray
    max_norm : float
    eps : float, optional
        1e-6 in the second book.

    Returns
    -------
    float
        The norm before.

    References
    ----------
    "Deep Learning from Scratch 2", section 6.1.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.training import clip_grads
    >>> grads = [np.array([3.0, 0.0]), np.array([4.0])]
    >>> clip_grads(grads, 2.5)
    5.0
    >>> grads
    [array([1.5, 0. ]), array([2.])]
    """
    arguments.refuse_mask("grads", grads)
    norm = _norm(grads)
    scale_down(grads, norm, max_norm, eps)
    return norm


def scale_down(grads: list[Array], norm: float, max_norm: float, eps: float) -> None:
    """What `clip_grads` does to gradients of this norm."""
    if norm + eps > max_norm:
        for g in grads:
            g *= max_norm / (norm + eps)


def sum_of_squares(grads: list[Array]) -> Any:
    """In the dtype of the gradients, by BLAS, which adds one to another: a long sum is made of short ones."""
    return sum([_squares(g.ravel("K")) for g in grads])


def _squares(g: Array) -> Any:
    rest = g.size % SHORT_SUM
    rows, last = g[: g.size - rest].reshape(-1, SHORT_SUM), g[g.size - rest :]
    return np.vecdot(rows, rows).sum() + np.dot(last, last) if len(rows) else np.dot(last, last)


def _norm(grads: list[Array]) -> float:
    with np.errstate(all="ignore"):
        squares = float(sum_of_squares(grads)) if all(g.dtype in (np.float32, np.float64) for g in grads) else 0.0
    if LEAST_SUM < squares < np.inf:
        return float(np.sqrt(squares))
    largest = max((float(np.max(np.abs(g), initial=0)) for g in grads), default=0.0)
    # The squares of very large or small numbers would leave the range of their dtype.
    scale = largest if 0 < largest < np.inf else 1.0
    return scale * float(np.sqrt(sum(float(np.linalg.norm(g / scale)) ** 2 for g in grads)))


def remove_duplicate(params: list[Array], grads: list[Array]) -> tuple[list[Array], list[Array]]:
    """
    Each parameter once, with the sum of its gradients.

    A parameter is another one's duplicate if it is the same object, or its transpose: a matrix with the same numbers.

    Parameters
    ----------
    params, grads : list of ndarray

    Returns
    -------
    params, grads : list of ndarray
        New lists of the same arrays, without duplicates.  To the gradient of the first of those that are one, the
        others' are added in place.

    References
    ----------
    "Deep Learning from Scratch 2", section 6.4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.training import remove_duplicate
    >>> W = np.array([[1.0, 2.0, 3.0]])
    >>> params, grads = remove_duplicate([W, W.T], [np.ones((1, 3)), np.ones((3, 1))])
    >>> len(params), grads
    (1, [array([[2., 2., 2.]])])
    """
    params, grads = params[:], grads[:]
    i = 0
    while i < len(params):
        j = i + 1
        while j < len(params):
            if params[i] is params[j]:
                grads[i] += grads[j]
            elif are_transposed(params[i], params[j]):
                grads[i] += grads[j].T
            else:
                j += 1
                continue
            del params[j], grads[j]
        i += 1
    return params, grads


def are_transposed(a: Array, b: Array) -> bool:
    """Whether two are matrices, and one has the numbers of the other's transpose: none if there is a NaN."""
    if not (a.ndim == b.ndim == 2 and a.T.shape == b.shape):
        return False
    if a.ctypes.data == b.ctypes.data and a.T.strides == b.strides and a.dtype == b.dtype and a.size:
        return not np.isnan(np.min(b))
    # Most are told by their first rows.
    return np.array_equal(a.T[:1], b[:1]) and np.array_equal(a.T, b)


class Trainer:
    """
    Trains a network by gradient descent, and keeps the history.

    Parameters
    ----------
    network : Sequential
    optimizer : object with ``update(params, grads)``, optional
        `SGD` if not given.
    max_grad : float, optional
        Gradients are scaled down to this norm where they exceed it.
    callbacks : sequence of callables, optional
        ``callback(trainer)``, called after every step; one that returns True ends the training.
    seed : int, optional
        For the orders of the samples.
    show : bool, optional
        Show a progress bar where it takes long.

    Attributes
    ----------
    losses : list of float
        Of each step, on its batch, before its update.
    evaluations : list of Evaluation
    stopped : str or None
        Why the training ended early: "interrupted", "callback" or "no improvement".

    Notes
    -----
    An interruption, by Ctrl-C or a notebook's button, ends the training and not the program: the standard error stream
    says so, what was learnt is kept, and what follows can ask whether ``trainer.stopped == "interrupted"``.  The second
    one of a program raises KeyboardInterrupt, as anywhere else.

    `fit` takes many steps in a call of `fastnn.ops.mlp_descent`, with the same numbers to the last bit, if nobody asks
    for each of them: there are no callbacks and no `max_grad`, the optimizer is one of this package, and gradients of
    the network are a call of `fastnn.ops.mlp_gradient`, as those of an `MLP` on samples of its own dtype.  A call takes
    some hundredths of a second.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import MLP, SGD, Trainer
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> t = (x[:, 0] > x[:, 1]).astype(int)
    >>> trainer = Trainer(MLP([2, 8, 2], seed=0), SGD(lr=0.5), seed=0)
    >>> trainer = trainer.fit(x, t, batch_size=20, epochs=20, test=(x, t), evaluate_every=20)
    >>> len(trainer.losses)
    200
    >>> trainer.evaluations[-1].test_accuracy > 0.95
    True
    """

    # Whether a training of this process was.
    _interrupted: ClassVar[bool] = False
    # All that `fit` trains on, while it runs.
    _samples: tuple[Array, Array] | None = None

    def __init__(
        self,
        network: Sequential,
        optimizer: Any = None,
        *,
        max_grad: float | None = None,
        callbacks: Iterable[Callable[[Trainer], Any]] = (),
        seed: int | None = None,
        show: bool = True,
    ) -> None:
        self.network = network
        self.optimizer = SGD() if optimizer is None else optimizer
        self.max_grad = None if max_grad is None else arguments.number("max_grad", max_grad, least=0)
        self.callbacks = tuple(callbacks)
        self.rng = np.random.default_rng(seed)
        self.show = show
        self.losses: list[float] = []
        self.evaluations: list[Evaluation] = []
        self.stopped: str | None = None

    def step(self, x: Array, t: Array) -> float:
        """
        One step of descent on a batch or a single sample.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        FloatingPointError
            The loss is NaN or infinite: the error tells where the samples or the parameters are, if they are.  The
            parameters are as they were before the step.
        """
        loss, grads = self.network.loss_and_gradient(x, t)
        value = float(loss)
        if not math.isfinite(value):
            raise FloatingPointError(self._reason(value, x, t))
        if self.max_grad is not None:
            clip_grads(grads, self.max_grad)
        self.optimizer.update(self.network.params, grads)
        self.losses.append(value)
        return value

    def fit(
        self,
        x: Array,
        t: Array,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        shuffle: bool = True,
        test: tuple[Array, Array] | None = None,
        evaluate_every: int = 1,
        patience: int | None = None,
    ) -> Trainer:
        """
        Train on samples that are all at hand.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
        t : ndarray, length N
        batch_size : int, optional
            Samples in a step: 1 is stochastic descent, N or None batch descent, what lies between mini-batch descent.
        epochs : int, optional
            Passes over the samples.
        shuffle : bool, optional
            Take them in a new order in each epoch.
        test : (x, t), optional
            Samples to evaluate on.
        evaluate_every : int, optional
            Epochs from one evaluation to the next; they are made if there is a `test`.
        patience : int, optional
            Stop after so many evaluations without a lower loss on the test; the parameters become those of the best.

        Returns
        -------
        Trainer
            Itself.

        Raises
        ------
        FloatingPointError
            As `step` does; the rows that it names are those of `x` and `t`.
        """
        x, t = _samples(x, t)
        N = len(x)
        batch_size = N if batch_size is None else arguments.whole_number("batch_size", batch_size, 1, sys.maxsize)
        epochs = arguments.whole_number("epochs", epochs, 0, sys.maxsize)
        evaluate_every = arguments.whole_number("evaluate_every", evaluate_every, 1, sys.maxsize)
        if test is not None and not (isinstance(test, (tuple, list)) and len(test) == 2):
            raise TypeError(f"test must be a pair (x, t), not {type(test).__name__}")
        if patience is not None:
            patience = arguments.whole_number("patience", patience, 1, sys.maxsize)
            if test is None:
                raise ValueError("patience needs a test to tell whether the network improves")
        rng = self.rng if shuffle and batch_size < N else None
        best = _Best(self.network, patience)
        many = _ManySteps(self, x, t, batch_size, rng)

        def steps(passes: int) -> Iterator[float]:
            if passes * -(-N // batch_size) > FEW and many.possible():
                yield from many.passes(passes)
            else:
                for _ in range(passes):
                    yield from self._steps(mini_batches(x, t, batch_size, rng))

        def all_steps() -> Iterator[float]:
            epoch = 0
            while epoch < epochs:
                passes = min(evaluate_every, epochs - epoch) if test is not None else epochs
                yield from steps(passes)
                epoch += passes
                if test is not None and epoch % evaluate_every == 0:
                    self.evaluate((x, t), test)
                    if best.is_past(self.evaluations[-1].test_loss):
                        self.stopped = "no improvement"
                        return

        self._samples = x, t
        try:
            return self._descend(all_steps(), epochs * -(-N // batch_size))
        finally:
            self._samples = None

    def fit_samples(self, samples: Iterable[tuple[Any, Any]], *, steps: int | None = None) -> Trainer:
        """
        Online descent: train on what an iterator gives, one step each.

        Parameters
        ----------
        samples : iterable of (x, t)
            Single samples or batches.
        steps : int, optional
            Take no more than so many.

        Returns
        -------
        Trainer
            Itself.
        """
        if steps is not None:
            samples = islice(samples, arguments.whole_number("steps", steps, 0, sys.maxsize))
        return self._descend(self._steps(samples), steps)

    def evaluate(self, train: tuple[Array, Array], test: tuple[Array, Array]) -> Evaluation:
        """Add an evaluation of the network as it is to `evaluations`."""
        classes = hasattr(self.network.loss_layer, "accuracy")
        accuracies = [self.network.accuracy(*part) if classes else float("nan") for part in (train, test)]
        loss = self._loss_in_evaluation(*test)
        self.evaluations.append(Evaluation(len(self.losses), accuracies[0], loss, accuracies[1]))
        return self.evaluations[-1]

    def _loss_in_evaluation(self, x: Array, t: Array) -> float:
        training = getattr(self.network, "training", False)  # a network of somebody's own may know no modes
        if training:
            self.network.eval()
        try:
            return float(self.network.loss(x, t))
        finally:
            if training:
                self.network.train()

    def plot(self, path: str | os.PathLike[str] | None = None) -> None:
        """Draw the history; needs matplotlib.  The picture is written to `path`, or shown without one."""
        pictures.draw(self._paint, path, figsize=(7, 4), layout="constrained")

    def _reason(self, loss: float, x: Any, t: Any) -> str:
        """Of a loss that is not finite."""
        rows = np.ndim(x) > 1
        if self._samples is not None:
            x, t, rows = *self._samples, True
        what = f"the loss is {'infinite' if loss == loss else 'NaN'} at step {len(self.losses)}"
        found = _not_finite("x", x, rows) or _not_finite("t", t, rows)
        if found:
            return f"{what}: {found}"
        params = self.network.params
        names = getattr(self.network, "names", [f"params[{i}]" for i in range(len(params))])
        found = next(filter(None, map(_not_finite, names, params)), "")
        if found and not self.losses:
            return f"{what}: {found}"
        found = found or "the samples and the parameters are finite, but what is made of them is not"
        return f"{what}: {found}: try a lower learning rate, or smaller numbers in the samples"

    def _steps(self, batches: Iterable[tuple[Any, Any]]) -> Iterator[float]:
        for x, t in batches:
            yield self.step(x, t)

    def _descend(self, losses: Iterator[float], total: int | None) -> Trainer:
        """Take the steps that `losses` takes, one or many until it gives the loss of the last."""
        self.stopped = None
        first = len(self.losses)
        try:
            with progress.bar("training", total, show=self.show) as advanced:
                for loss in losses:
                    if self.callbacks and any([callback(self) for callback in self.callbacks]):
                        self.stopped = "callback"
                        break
                    advanced(len(self.losses) - first, f"loss {loss:.4f}")
        except KeyboardInterrupt:
            # The history and the parameters are of use: whoever wants to end the program can press again.
            self.stopped = "interrupted"
            by_hand = hasattr(sys, "ps1")  # where there is no program to end
            if Trainer._interrupted and not by_hand:
                raise
            Trainer._interrupted = True
            what = f"training interrupted at step {len(self.losses)}: the parameters and the history are kept"
            print(what if by_hand else f"{what}, a second interruption ends the program", file=sys.stderr)
        return self

    def _paint(self, figure: Any) -> None:
        axes = figure.subplots()
        steps = np.arange(len(self.losses))
        many = len(self.losses) > 200
        axes.plot(steps, self.losses, color="tab:blue", alpha=0.3 if many else 1, lw=1, label="loss of each step")
        if many:
            width = len(self.losses) // 50
            means = np.convolve(self.losses, np.full(width, 1 / width), "valid")
            axes.plot(steps[width - 1 :], means, color="tab:blue", label=f"mean of {width} steps")
        at = [e.step for e in self.evaluations]
        handles = axes.get_lines()
        if self.evaluations:
            handles += axes.plot(at, [e.test_loss for e in self.evaluations], "k.-", label="loss on the test")
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
        if self.evaluations and not np.isnan(self.evaluations[-1].test_accuracy):
            right = axes.twinx()
            right.set(ylabel="accuracy", ylim=(0, 1.02))
            for name, values, color in (
                ("training", [e.train_accuracy for e in self.evaluations], "tab:green"),
                ("test", [e.test_accuracy for e in self.evaluations], "tab:red"),
            ):
                handles += right.plot(at, values, ".-", color=color, label=f"accuracy, {name}")
        axes.legend(handles=list(handles), loc="center right")


class _Best:
    """The parameters at the lowest loss so far, for an early stop."""

    def __init__(self, network: Sequential, patience: int | None) -> None:
        self.network, self.patience = network, patience
        self.loss, self.waited = np.inf, 0
        self.kept: list[Array] = []

    def is_past(self, loss: float) -> bool:
        """Whether there was no lower loss for too long; the parameters are the best then."""
        if self.patience is None:
            return False
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.kept = [p.copy() for p in self.network.params]
            return False
        self.waited += 1
        if self.waited < self.patience:
            return False
        if self.kept:
            for p, kept in zip(self.network.params, self.kept, strict=True):
                p[...] = kept
        return True


class _ManySteps:
    """Steps that are those of `Trainer.step`, many in one call of `fastnn.ops.mlp_descent`."""

    def __init__(self, trainer: Trainer, x: Array, t: Array, batch_size: int, rng: np.random.Generator | None) -> None:
        self.trainer, self.x, self.t, self.rng = trainer, x, t, rng
        self.batch_size = min(batch_size, len(x))
        self.pace = 0  # steps a call; none yet

    def possible(self) -> bool:
        """Whether nobody wants to see each step, and it is one of ours on a network that the op knows."""
        trainer = self.trainer
        network, optimizer = trainer.network, trainer.optimizer
        if trainer.callbacks or trainer.max_grad is not None:
            return False
        if type(trainer).step is not Trainer.step or type(optimizer) not in OPTIMIZERS:
            return False
        if "step" in vars(trainer) or "update" in vars(optimizer) or not isinstance(network, Sequential):
            return False
        descent = network.descent_arguments(self.x, self.t)
        if descent is None:
            return False
        self.x, self.t = np.ascontiguousarray(self.x), np.ascontiguousarray(self.t)
        self.params, self.options = descent
        self.kept = [getattr(optimizer, name) for name in optimizer.kept]
        self.kept = [[np.zeros(p.shape, p.dtype) for p in self.params] if k is None else k for k in self.kept]
        arrays = [self.x, self.t, *self.params, *(a for kept in self.kept for a in kept)]
        alike = all(arguments.can_step_in_place(kept, self.params) for kept in self.kept)
        return alike and arguments.are_apart(arrays)

    def passes(self, count: int) -> Iterator[float]:
        """Passes over the samples.  The last step is a single one, which leaves its gradients in the network."""
        in_pass = -(-len(self.x) // self.batch_size)
        if not self.pace:  # so few steps surely take no longer than a turn
            self.pace = max(1, min(100, int(2e7) // (self.batch_size * sum(p.size for p in self.params))))
        left = count - 1
        while left:
            taken = min(left, max(1, self.pace // in_pass))
            yield from self._calls(self._orders(taken))
            left -= taken
        order = self._orders(1)
        start = (in_pass - 1) * self.batch_size
        yield from self._calls(order[:, :start])
        yield self._step(order[0, start:])

    def _orders(self, passes: int) -> Array:
        N = len(self.x)
        return np.stack([np.arange(N) if self.rng is None else self.rng.permutation(N) for _ in range(passes)])

    def _calls(self, order: Array) -> Iterator[float]:
        """Several passes at once, or parts of one."""
        first = 0
        while first < order.shape[1]:
            stop = first + self.pace * self.batch_size if len(order) == 1 else order.shape[1]
            yield self._call(order[:, first:stop])
            first = stop

    def _call(self, order: Array) -> float:
        trainer = self.trainer
        optimizer: Any = trainer.optimizer
        in_pass = -(-order.shape[1] // self.batch_size)
        steps = len(order) * in_pass
        losses = np.full(steps, np.nan, self.params[0].dtype)
        arrays = [*self.params, *(a for kept in self.kept for a in kept)]
        lr, *constants = optimizer.constants(self.params)
        start = perf_counter()
        try:
            ops.mlp_descent(
                self.x, self.t, order, self.batch_size, lr, *arrays, step=optimizer.op, constants=(*constants,),
                **self.options, out=(losses, *arrays),
            )  # fmt: skip
        finally:
            # An interruption comes after the call, but before anything that would have followed it here.
            done = int(np.count_nonzero(np.isfinite(losses)))
            trainer.losses += losses[:done].tolist()
            for name, kept in zip(optimizer.kept if done else (), self.kept, strict=False):
                setattr(optimizer, name, kept)
            if "iter" in vars(optimizer):
                optimizer.iter += done
        took = perf_counter() - start
        self.pace = max(1, min(int(steps * TURN / max(took, 1e-9)), 8 * max(steps, self.pace)))
        if done < steps:  # a loss that is not finite, of which the step itself says more
            place, number = divmod(done, in_pass)
            return self._step(order[place, number * self.batch_size :][: self.batch_size])
        return trainer.losses[-1]

    def _step(self, indices: Array) -> float:
        # In their own order they are not copied.
        chosen = indices if self.rng is not None else slice(indices[0], indices[-1] + 1)
        return self.trainer.step(self.x[chosen], self.t[chosen])
