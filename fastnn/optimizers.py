"""Optimizers, in both dialects: ``update(params, grads)`` takes dicts (volume 1) or lists (volume 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from fastnn import arguments, ops
from fastnn.arguments import Array
from fastnn.backends import active
from fastnn.reference.steps import STEP_EPS

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]

PAGE, LINE = 4096, 64  # bytes


class Optimizer:
    """
    An optimizer that changes parameters in place, by an op which keeps arrays like each parameter.

    Attributes
    ----------
    op : str
        Its op in `fastnn.ops`, ``op(p, *kept, dp, *constants)``.
    kept : tuple of str
        Names of what is kept, in the form of the parameters, from the first update on; None before.
    numbers : tuple of str
        Names of the constants, in the op's order.
    """

    op: ClassVar[str]
    kept: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ("lr",)
    lr: float

    def __init__(self, **constants: float) -> None:
        for name, value in constants.items():
            setattr(self, name, arguments.number(name, value))
        for name in self.kept:
            setattr(self, name, None)

    def constants(self, params: Any) -> tuple[Any, ...]:
        """What the op takes after the arrays."""
        return tuple([getattr(self, name) for name in self.numbers])

    def update(self, params: Any, grads: Any) -> None:
        """
        Change every parameter in place.

        Parameters
        ----------
        params, grads : dict or list of ndarray
            The same keys, or the same length; ValueError otherwise, and nothing has changed.  Numbers in a dict of
            parameters, which cannot be changed in place, are replaced, as in section 6.1 of volume 1.
        """
        given, plain = params, arguments.can_step_in_place(*_in_order(params, grads))
        if not plain:
            params, grads = _arrays(params, _parameter), _arrays(grads, _gradient)
        states = [
            _zeros(params, place) if getattr(self, name) is None else getattr(self, name)
            for place, name in enumerate(self.kept, 1)
        ]
        together = _together(params, *states, grads, plain=plain)
        for name, state in zip(self.kept, states, strict=True):
            setattr(self, name, state)
        op, constants = getattr(ops, self.op), self.constants(params)
        for *arrays, dp in together:
            p = arrays[0]
            if plain or (p.flags.carray and p.dtype.isnative and not np.may_share_memory(p, dp)):
                op(*arrays, dp, *constants, out=tuple(arrays))
            else:
                for array, result in zip(arrays, op(*arrays, dp, *constants), strict=True):
                    array[...] = result
        _replace_numbers(given, params)


class SGD(Optimizer):
    """
    Stochastic gradient descent.

    Parameters
    ----------
    lr : float, optional
        Learning rate.

    See Also
    --------
    fastnn.ops.sgd

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SGD
    >>> params, grads = {"W": np.array([1.0, 2.0])}, {"W": np.array([4.0, 8.0])}
    >>> SGD(lr=0.25).update(params, grads)
    >>> params["W"]
    array([0., 0.])
    """

    op = "sgd"

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr=lr)

    def update(self, params: Any, grads: Any) -> None:
        """Change every parameter in place: as `Optimizer.update`."""
        # Looked up once: the steps of a small network's arrays take less time than so many calls of ops.sgd.
        sgd, lr = active().sgd, self.lr
        in_order = params, grads
        if isinstance(params, dict) or isinstance(grads, dict):
            in_order = _in_order(params, grads)
        if arguments.can_step_in_place(*in_order):
            for p, dp in zip(*in_order, strict=True):
                sgd(p, dp, lr, out=p)
        else:
            arrays = _arrays(params, _parameter)
            for p, dp in _together(arrays, _arrays(grads, _gradient)):
                p[...] = sgd(p, dp, lr)
            _replace_numbers(params, arrays)


class Momentum(Optimizer):
    """
    Gradient descent with momentum.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    momentum : float, optional
        What is kept of the velocity at each step.

    Attributes
    ----------
    v : dict or list of ndarray, or None
        The velocities, in the form of the parameters.

    See Also
    --------
    fastnn.ops.momentum

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Momentum
    >>> optimizer, p = Momentum(lr=0.5, momentum=0.5), np.array([1.0])
    >>> for _ in range(2):
    ...     optimizer.update([p], [np.array([1.0])])
    ...     print(p, optimizer.v)
    [0.5] [array([-0.5])]
    [-0.25] [array([-0.75])]
    """

    op, kept, numbers = "momentum", ("v",), ("lr", "momentum")
    momentum: float
    v: Any

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr=lr, momentum=momentum)


class Nesterov(Momentum):
    """
    Nesterov's accelerated gradient.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    momentum : float, optional
        What is kept of the velocity at each step.

    Attributes
    ----------
    v : dict or list of ndarray, or None
        The velocities, in the form of the parameters.

    Notes
    -----
    The volumes differ: a dict moves the parameters by the old velocity, as in volume 1, a list by the new one.

    See Also
    --------
    fastnn.ops.nesterov
    """

    op = "nesterov"

    def constants(self, params: Any) -> tuple[Any, ...]:
        return *super().constants(params), 1 if isinstance(params, dict) else 2


class AdaGrad(Optimizer):
    """
    AdaGrad: a learning rate for each number, which falls with the sum of its squared gradients.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    eps : float, optional
        Keeps a step from a division by 0; of at least 0.

    Attributes
    ----------
    h : dict or list of ndarray, or None
        The sums of the squared gradients, in the form of the parameters.

    See Also
    --------
    fastnn.ops.adagrad
    """

    op, kept, numbers = "adagrad", ("h",), ("lr", "eps")
    eps: float = STEP_EPS  # of one, too, that was pickled before there was another
    h: Any

    def __init__(self, lr: float = 0.01, eps: float = STEP_EPS) -> None:
        super().__init__(lr=lr, eps=arguments.epsilon(eps))


class RMSprop(Optimizer):
    """
    RMSprop: as AdaGrad, with a mean that forgets in place of the sum.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    decay_rate : float, optional
        What is kept of the mean at each step.
    eps : float, optional
        Keeps a step from a division by 0; of at least 0.

    Attributes
    ----------
    h : dict or list of ndarray, or None
        The means of the squared gradients, in the form of the parameters.

    See Also
    --------
    fastnn.ops.rmsprop
    """

    op, kept, numbers = "rmsprop", ("h",), ("lr", "decay_rate", "eps")
    decay_rate: float
    eps: float = STEP_EPS
    h: Any

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99, eps: float = STEP_EPS) -> None:
        super().__init__(lr=lr, decay_rate=decay_rate, eps=arguments.epsilon(eps))


class Adam(Optimizer):
    """
    Adam: momentum and RMSprop together, both corrected for their start at 0.

    Parameters
    ----------
    lr : float, optional
        Learning rate.
    beta1, beta2 : float, optional
        What is kept at each step of the means of the gradients and of their squares; from 0 to below 1.
    eps : float, optional
        Keeps a step from a division by 0; of at least 0.

    Attributes
    ----------
    iter : int
        Steps taken.
    m, v : dict or list of ndarray, or None
        The means, in the form of the parameters.

    See Also
    --------
    fastnn.ops.adam
    """

    op, kept, numbers = "adam", ("m", "v"), ("lr", "beta1", "beta2", "eps")
    beta1: float
    beta2: float
    eps: float = STEP_EPS
    m: Any
    v: Any

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = STEP_EPS) -> None:
        beta1, beta2 = arguments.number("beta1", beta1, 0, 1), arguments.number("beta2", beta2, 0, 1)
        super().__init__(lr=lr, beta1=beta1, beta2=beta2, eps=arguments.epsilon(eps))
        self.iter = 0

    def constants(self, params: Any) -> tuple[Any, ...]:
        *numbers, eps = super().constants(params)
        return *numbers, self.iter + 1, eps

    def update(self, params: Any, grads: Any) -> None:
        """Change every parameter in place: as `Optimizer.update`."""
        super().update(params, grads)
        self.iter += 1


def _arrays(given: Any, convert: Callable[[Any, Any, bool], Array]) -> Any:
    """A dict or list of arrays: the one given if it is that already."""
    in_dict = isinstance(given, dict)
    if {*map(type, given.values() if in_dict else given)} <= {np.ndarray}:
        return given
    if in_dict:
        return {key: convert(key, value, True) for key, value in given.items()}
    return [convert(place, value, False) for place, value in enumerate(given)]


def _parameter(place: Any, p: Any, in_dict: bool) -> Array:
    if isinstance(p, np.ndarray):
        return p
    if not isinstance(p, (int, float, np.number)):
        raise TypeError(f"params[{place!r}] must be an array of floats, not {type(p).__name__}")
    if not in_dict:
        raise TypeError(
            f"params[{place!r}] is the number {p}, which cannot be changed in place: put np.array({p}) there, or give "
            "params and grads as dicts, in which numbers are replaced"
        )
    return np.array(p, None if isinstance(p, np.inexact) else np.float64)


def _gradient(place: Any, dp: Any, in_dict: bool) -> Array:
    if dp is None:
        raise TypeError(f"grads[{place!r}] is None, as it is before the first backward")
    return arguments.numeric(f"grads[{place!r}]", dp)


def _replace_numbers(params: Any, arrays: Any) -> None:
    """Put what has become of each number of `params` in its place; `arrays` are what was changed instead."""
    if arrays is not params and isinstance(params, dict):
        for key, p in params.items():
            if not isinstance(p, np.ndarray):
                params[key] = arrays[key][()] if isinstance(p, np.generic) else arrays[key].item()


def _zeros(params: Any, place: int) -> Any:
    if isinstance(params, dict):
        return {key: _zeros_beside(p, place) for key, p in params.items()}
    return [_zeros_beside(p, place) for p in params]


def _zeros_beside(p: Array, place: int) -> Array:
    """Zeros for `p`, from a cache line on, and `place` times a few lines further into their page than `p`.

    A step goes through the parameter and what is kept side by side.  Adam's took up to three times as long where they
    began at the same place of their pages, or between lines, as NumPy's large arrays do.
    """
    memory = np.zeros(p.nbytes + PAGE, np.uint8)
    start = (p.ctypes.data // LINE * LINE + place * 9 * LINE - memory.ctypes.data) % PAGE
    return memory[start : start + p.nbytes].view(p.dtype).reshape(p.shape)


def _in_order(params: Any, *others: Any) -> tuple[Any, ...]:
    """Dicts as lists in one order; lists as they are."""
    if not isinstance(params, dict):
        if any(isinstance(other, dict) for other in others):
            raise ValueError("params has the form of a list, but grads or the steps before are a dict")
        return params, *others
    for other in others:
        if not isinstance(other, dict):
            raise ValueError("params has the form of a dict, but grads or the steps before are a list")
        if other.keys() != params.keys():
            raise ValueError(f"params has the keys {[*params]}, but grads or the steps before have {[*other]}")
    return tuple([[each[key] for key in params] for each in (params, *others)])


def _check(params: Any, other: Any) -> None:
    """Before anything is changed: are there as many arrays, of the same shapes?"""
    if len(other) != len(params):
        raise ValueError(f"params has {len(params)} arrays, but grads or the steps before have {len(other)}")
    for p, array in zip(params, other):  # noqa: B905, the lengths are known by now
        if p.shape != array.shape:
            raise ValueError(
                f"params has an array of shape {p.shape}, but grads or the steps before have {array.shape} there"
            )


def _check_kinds(params: Any, grads: Any) -> None:
    """Before anything is changed: can all parameters be changed by their gradients?"""
    arguments.refuse_mask("params", params)
    arguments.refuse_mask("grads", grads)
    for p, dp in zip(params, grads):  # noqa: B905, the lengths are known by now
        if p.dtype.kind != "f" or dp.dtype.kind not in "biuf":
            raise TypeError(
                f"params must be arrays of floats and grads of real numbers, not of dtypes {p.dtype} and {dp.dtype}"
            )
        if not p.flags.writeable:
            raise ValueError(f"params has an array of shape {p.shape} that is read-only")


def _together(params: Any, *others: Any, plain: bool = False) -> Iterator[tuple[Any, ...]]:
    """Each parameter with what belongs to it, once everything is known to fit, as `plain` ones do their gradients."""
    arrays = _in_order(params, *others)
    for other in arrays[1:-1] if plain else arrays[1:]:
        _check(arrays[0], other)
    if not plain:
        _check_kinds(arrays[0], arrays[-1])
    return zip(*arrays, strict=True)
