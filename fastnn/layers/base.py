"""What all layers have: parameters and gradients in both of the books' dialects, and a mode; and what they declare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache
from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np

from fastnn.arguments import Array

MODE = "training", "train_flg"  # its names: ours, which is PyTorch's, and the books'
Shape = tuple[int, ...] | None  # of one sample; None where it is not known
# What a class says of its own forward, and not of that of a subclass.
OF_FORWARD = "op", "elementwise", "rowwise"
NO_FORWARD = "backward was called before forward in training mode; in evaluation mode a layer keeps nothing"


class HasMode:
    """
    Training mode, in which everything begins, or evaluation mode, in which nothing is kept for a backward.

    Attributes
    ----------
    training : bool
    train_flg : bool
        The books' name of it.
    """

    training: bool = True

    def train(self) -> Self:
        """Go to training mode, and return itself."""
        self.training = True
        return self

    def eval(self) -> Self:
        """Go to evaluation mode, and return itself."""
        self.training = False
        return self

    @property
    def train_flg(self) -> bool:
        return self.training

    @train_flg.setter
    def train_flg(self, train_flg: bool) -> None:
        self.training = train_flg


class Layer(HasMode):
    """
    A layer.  A subclass has `forward` and `backward` and declares in its body what others need to know of it.

    `forward` has a last argument ``train_flg=True``, as the books call it, and keeps what `backward` needs where
    ``train_flg and self.training``; else it writes to nothing, so that several threads may call it at once.  `backward`
    hands its gradients to `set_gradients`.

    Parameters
    ----------
    *params : ndarray
        One for each name in `parameters`.

    Attributes
    ----------
    parameters : tuple of str
        Names of the parameters.  Each becomes an attribute, ``W``, and its gradient another, ``dW``.
    settings : tuple of str
        Names of what else the constructor takes, from its signature; each is an attribute, too.  With the parameters
        they make such a layer anew, from a file.
    kept : tuple of str
        Names of what the last forward in training mode has left for `backward`: attributes that are None before it.
    op : str
        The forward op in `fastnn.ops`.  Its row in `fastnn.optable` gives arguments to try the layer with: those in
        `parameters` are the constructor's, the others `forward`'s.
    elementwise : bool
        Whether each number of the result depends on the same number of x alone; it is `rowwise`, too.
    rowwise : bool
        Whether each row of the result depends on the same row of x alone.  What draws random numbers is neither.
    is_loss : bool
        Whether it ends a network: ``forward(x, t)`` gives a number, and ``backward()`` begins.
    mode_matters : bool
        Whether `forward` gives something else in evaluation mode.
    params : list
        The very objects given; the names in `parameters` stand for its items, which are read anew at every forward.
    grads : list of ndarray
        Buffers like the parameters, made when first read, never replaced and overwritten by every backward.

    Notes
    -----
    `op`, `elementwise` and `rowwise` tell of a `forward`: a subclass with a `forward` of its own declares them anew.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.layers import Layer
    >>> class Scale(Layer):
    ...     parameters, kept, elementwise = ("a",), ("x",), True
    ...
    ...     def forward(self, x, train_flg=True):
    ...         if train_flg and self.training:
    ...             self.x = x
    ...         return self.a * x
    ...
    ...     def backward(self, dout):
    ...         self.set_gradients((dout * self.x).sum(axis=0))
    ...         return self.a * dout
    >>> layer = Scale(np.array([1.0, 2.0]))
    >>> layer.forward(np.array([[3.0, 4.0], [5.0, 6.0]]))
    array([[ 3.,  8.],
           [ 5., 12.]])
    >>> layer.backward(np.ones((2, 2)))
    array([[1., 2.],
           [1., 2.]])
    >>> layer.da
    array([ 8., 10.])
    """

    forward: Callable[..., Any]
    parameters: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    op: ClassVar[str] = ""
    elementwise: ClassVar[bool] = False
    rowwise: ClassVar[bool] = False
    is_loss: ClassVar[bool] = False
    mode_matters: ClassVar[bool] = False

    # What dW shows: None before the first backward, then fresh arrays, or the buffers once there are any.  These are
    # what pickles of the first version lack.
    _gradients: Sequence[Any] = ()
    _buffers: list[Array] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        of_forward: Any = next((vars(c) for c in cls.__mro__ if "forward" in vars(c)), {})
        for name in OF_FORWARD:
            if name not in vars(cls):
                setattr(cls, name, of_forward.get(name, vars(Layer)[name]))
        cls.rowwise = cls.rowwise or cls.elementwise
        for i, name in enumerate(vars(cls).get("parameters", ())):
            if name[-1].isdigit():  # Sequential numbers them
                raise TypeError(f"{cls.__name__}.parameters: {name!r} ends in a digit")
            setattr(cls, name, _parameter(i))
            setattr(cls, f"d{name}", _gradient(i, name))
        taken = [p.name for p in signature(cls).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        cls.settings = tuple(name for name in taken if name not in cls.parameters)

    def __init__(self, *params: Any) -> None:
        self.params: list[Any] = [*params]
        self.training = True
        self._gradients = (None,) * len(params)
        self._buffers = None
        self._forget()

    def eval(self) -> Self:
        """Go to evaluation mode, let go of what was kept, and return itself."""
        self._forget()
        return super().eval()

    def _forget(self) -> None:
        for name in self.kept:
            setattr(self, name, None)

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of what becomes of one sample of a shape; None where that cannot be told."""
        return shape if self.elementwise else None

    @property
    def grads(self) -> list[Array]:
        if self._buffers is None:
            buffers = [np.zeros_like(p) for p in self.params]
            for name, buffer, gradient in zip(self.parameters, buffers, self._gradients, strict=True):
                if gradient is not None:
                    _check_fit(name, gradient, buffer.shape)
                    buffer[...] = gradient
            self._buffers = buffers
            self._gradients = [
                None if g is None else buffer for g, buffer in zip(self._gradients, buffers, strict=True)
            ]
        return self._buffers

    @grads.setter
    def grads(self, grads: list[Array]) -> None:
        self._buffers = grads

    def grads_filled(self) -> None:
        """Tell the layer that its gradients were written into the arrays of `grads`, not by its `backward`."""
        self._gradients = self.grads

    def set_gradients(self, *gradients: Any) -> None:
        """Keep the gradients of a backward, in the order of `parameters`; once there are buffers, in these."""
        if self._buffers is None:
            self._gradients = gradients
            return
        for name, p, buffer in zip(self.parameters, self.params, self._buffers, strict=True):
            _check_fit(name, buffer, np.shape(p))
        for buffer, gradient in zip(self._buffers, gradients, strict=True):
            buffer[...] = gradient
        self._gradients = self._buffers


def _check_fit(name: str, gradient: Array, shape: tuple[int, ...]) -> None:
    if gradient.size != math.prod(shape) or gradient.shape[-1:] != shape[-1:]:
        raise ValueError(f"{name} now has shape {shape}, but its gradient has shape {gradient.shape}")


def _parameter(i: int) -> property:
    def get(self: Layer) -> Any:
        return self.params[i]

    def put(self: Layer, value: Any) -> None:
        self.params[i] = value

    return property(get, put, doc=f"``params[{i}]``.")


def _gradient(i: int, name: str) -> property:
    def get(self: Layer) -> Any:
        gradient = self._gradients[i]
        return gradient if self._buffers is None or gradient is None else gradient.copy()

    def put(self: Layer, gradient: Any) -> None:
        if self._buffers is not None and gradient is not None:
            self._buffers[i][...] = gradient
            gradient = self._buffers[i]
        self._gradients = (*self._gradients[:i], gradient, *self._gradients[i + 1 :])

    doc = (
        f"The gradient of `{name}`: a fresh array from every backward, or a copy of ``grads[{i}]`` once that was read."
    )
    return property(get, put, doc=doc)


def is_training(layer: Any) -> bool:
    """Whether a layer is in training mode, or knows no other; one of somebody's own may call it by either name."""
    training = getattr(layer, "training", None)
    return bool(getattr(layer, "train_flg", True) if training is None else training)


def set_training(layer: Any, training: bool) -> None:
    """Put a layer into a mode, if it knows any."""
    if isinstance(layer, HasMode):
        layer.train() if training else layer.eval()
    else:
        for name in MODE:
            if hasattr(layer, name):
                setattr(layer, name, training)


@cache
def takes_train_flg(function: Any) -> bool:
    """Whether a forward, of a class, can be told the mode."""
    code = getattr(function, "__code__", None)
    return code is not None and "train_flg" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def in_mode(layer: Any, training: bool) -> Any:
    """A layer in a mode, if it knows any: a copy where it is in the other, since it may be in use meanwhile."""
    if is_training(layer) != training and any(hasattr(layer, name) for name in MODE):
        layer = copy(layer)
        set_training(layer, training)
    return layer
