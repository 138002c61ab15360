"""The books' layer classes, written once over the ops.

Volume 1 of "Deep Learning from Scratch" reads ``layer.W``, ``layer.dW`` and gets fresh gradient arrays; volume 2 keeps
``layer.params`` and ``layer.grads``, lists whose arrays every backward writes in place.  Each class speaks both.

A layer remembers its last forward for its backward, so layers are not to be shared between threads: each needs its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import arguments, ops
from fastnn._kernels.memory import copy
from fastnn.arguments import Array

__all__ = [
    "Affine",
    "CrossEntropyError",
    "IdentityWithLoss",
    "Relu",
    "Sigmoid",
    "SigmoidWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
]

NO_FORWARD = "backward was called before forward"


class _Plain:
    """A layer without parameters."""

    def __init__(self) -> None:
        self.params: list[Any] = []
        self.grads: list[Array] = []


class Relu(_Plain):
    """
    Rectified linear unit.

    Attributes
    ----------
    mask : ndarray of bool or None
        ``x <= 0`` of the last forward.

    See Also
    --------
    fastnn.ops.relu, fastnn.ops.relu_backward
    """

    def __init__(self) -> None:
        super().__init__()
        self.mask: Any = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """``y = 0 where x <= 0, else x``."""
        y, self.mask = ops.relu_with_mask(x)
        return y

    def backward(self, dout: npt.ArrayLike) -> Array:
        """``dx = 0 where mask, else dout``, in a new array."""
        if self.mask is None:
            raise RuntimeError(NO_FORWARD)
        return ops.relu_backward(dout, self.mask)


class Sigmoid(_Plain):
    """
    Logistic function.

    Attributes
    ----------
    out : ndarray or None
        The last output; the caller got a copy, to do with as they like.

    See Also
    --------
    fastnn.ops.sigmoid, fastnn.ops.sigmoid_backward
    """

    def __init__(self) -> None:
        super().__init__()
        self.out: Any = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """``y = 1 / (1 + exp(-x))``."""
        self.out = y = ops.sigmoid(x)
        return copy(y)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """``dx = dout (1 - y) y``."""
        if self.out is None:
            raise RuntimeError(NO_FORWARD)
        return ops.sigmoid_backward(dout, self.out)


class Softmax(_Plain):
    """
    Softmax over the last axis.

    Attributes
    ----------
    out : ndarray or None
        The last output; the caller got a copy, to do with as they like.

    See Also
    --------
    fastnn.ops.softmax, fastnn.ops.softmax_backward
    """

    def __init__(self) -> None:
        super().__init__()
        self.out: Any = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """``y_i = exp(x_i) / sum_j exp(x_j)`` in each row."""
        self.out = y = ops.softmax(x)
        return copy(y)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """``dx_i = y_i (dout_i - sum_j dout_j y_j)``."""
        if self.out is None:
            raise RuntimeError(NO_FORWARD)
        return ops.softmax_backward(dout, self.out)


class Affine:
    """
    ``y = x W + b``.

    Parameters
    ----------
    W : ndarray, shape (D, M)
    b : ndarray, shape (M,)

    Attributes
    ----------
    params : list
        ``[W, b]``, the very objects given; `W` and `b` are names for its items and are read anew at every forward.
    grads : list of ndarray
        Buffers like `W` and `b`, made when first read, never replaced and overwritten by every backward.
    dW, db : ndarray or None
        The gradients of the last backward: fresh arrays, or copies of the buffers once `grads` has been read.
    x : array_like or None
        The last input.

    See Also
    --------
    fastnn.ops.affine, fastnn.ops.affine_backward
    """

    def __init__(self, W: Array, b: Array) -> None:
        self.params: list[Any] = [W, b]
        self.x: Any = None
        # What dW and db show: None before the first backward, then fresh arrays, or the buffers once there are any.
        self._gradients: list[Any] = [None, None]
        self._buffers: list[Array] | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """
        ``y = x W + b``.

        Parameters
        ----------
        x : array_like
            (N, D), or (D,) for a single sample.  With more dimensions: all but the first are flattened if their
            product is D (volume 1), else the last axis must be D (volume 2).

        Returns
        -------
        y : ndarray, shape (N, M), (M,) or (..., M)
        """
        W, b = self.params
        y = ops.affine(x, W, b)
        self.x = x
        return y

    def backward(self, dout: npt.ArrayLike) -> Array:
        """
        ``dx = dout W^T``, ``dW = x^T dout``, ``db = sum over the batch of dout``.

        Parameters
        ----------
        dout : array_like, shape of forward's result

        Returns
        -------
        dx : ndarray, shape of forward's `x`
        """
        if self.x is None:
            raise RuntimeError(NO_FORWARD)
        W = self.params[0]
        if self._buffers is None:
            dx, dW, db = ops.affine_backward(dout, self.x, W)
            self._gradients = [dW, db]
            return dx
        for name, p, buffer in zip("Wb", self.params, self._buffers, strict=True):
            _fits(name, buffer, np.shape(p))
        dx, *gradients = ops.affine_backward(dout, self.x, W)
        for buffer, gradient in zip(self._buffers, gradients, strict=True):
            buffer[...] = gradient
        self._gradients = [*self._buffers]
        return dx

    def gradients_written(self) -> None:
        """To be told that somebody else has written the gradients into the buffers in `grads`."""
        if self._gradients[0] is None or self._gradients[1] is None:
            self._gradients = [*self.grads]

    @property
    def W(self) -> Any:
        return self.params[0]

    @W.setter
    def W(self, W: Any) -> None:
        self.params[0] = W

    @property
    def b(self) -> Any:
        return self.params[1]

    @b.setter
    def b(self, b: Any) -> None:
        self.params[1] = b

    @property
    def grads(self) -> list[Array]:
        if self._buffers is None:
            buffers = [np.zeros_like(p) for p in self.params]
            for name, buffer, gradient in zip("Wb", buffers, self._gradients, strict=True):
                if gradient is not None:
                    _fits(name, gradient, buffer.shape)
                    buffer[...] = gradient
            self._buffers = buffers
            self._gradients = [
                None if g is None else buffer for g, buffer in zip(self._gradients, buffers, strict=True)
            ]
        return self._buffers

    @property
    def dW(self) -> Any:
        return self._gradient(0)

    @dW.setter
    def dW(self, dW: Any) -> None:
        self._set_gradient(0, dW)

    @property
    def db(self) -> Any:
        return self._gradient(1)

    @db.setter
    def db(self, db: Any) -> None:
        self._set_gradient(1, db)

    def _gradient(self, i: int) -> Any:
        gradient = self._gradients[i]
        return gradient if self._buffers is None or gradient is None else gradient.copy()

    def _set_gradient(self, i: int, gradient: Any) -> None:
        if self._buffers is not None and gradient is not None:
            self._buffers[i][...] = gradient
            gradient = self._buffers[i]
        self._gradients[i] = gradient


class CrossEntropyError(_Plain):
    """
    Cross-entropy of probabilities.

    Parameters
    ----------
    eps : float, optional
        Keeps the logarithm finite.

    Attributes
    ----------
    y, t : the last probabilities and labels

    See Also
    --------
    fastnn.ops.cross_entropy_error, fastnn.ops.cross_entropy_error_backward
    """

    def __init__(self, *, eps: float = 1e-7) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)
        self.y: Any = None
        self.t: Any = None

    def forward(self, y: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = -(1/N) sum_n log(y[n, t_n] + eps)``."""
        loss = ops.cross_entropy_error(y, t, eps=self.eps)
        self.y, self.t = y, t
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dy[n, t_n] = -dout / (N (y[n, t_n] + eps))``, 0 elsewhere."""
        if self.y is None:
            raise RuntimeError(NO_FORWARD)
        return ops.cross_entropy_error_backward(self.y, self.t, dout, eps=self.eps)


class _WithLoss(_Plain):
    """An output activation and its loss in one, for the end of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def _result(self) -> tuple[Any, Any]:
        if self.y is None:
            raise RuntimeError(NO_FORWARD)
        return self.y, self.t


class SoftmaxWithLoss(_WithLoss):
    """
    Softmax and cross-entropy in one, for the end of a classifier.

    Parameters
    ----------
    eps : float, optional
        Keeps the logarithm finite; 0 takes the loss from the logits, which does not saturate.
    from_logits : bool, optional
        If False, `forward` takes the probabilities of a softmax made before; `backward` gives the gradient with respect
        to that softmax's logits all the same.

    Attributes
    ----------
    loss : NumPy scalar or None
    y : ndarray or None
        The probabilities of the last forward.
    t : the last labels

    See Also
    --------
    fastnn.ops.softmax_cross_entropy, fastnn.ops.softmax_cross_entropy_backward
    """

    def __init__(self, *, eps: float = 1e-7, from_logits: bool = True) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)
        self.from_logits = bool(from_logits)

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = cross_entropy_error(y, t)`` with ``y = softmax(x)``, or ``y = x`` without `from_logits`."""
        if self.from_logits:
            self.loss, self.y = ops.softmax_cross_entropy(x, t, eps=self.eps)
        else:
            self.loss, self.y = ops.cross_entropy_error(x, t, eps=self.eps), x
        self.t = t
        return self.loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / N``."""
        y, t = self._result()
        return ops.softmax_cross_entropy_backward(y, t, dout)

    def accuracy(self, x: npt.ArrayLike, t: npt.ArrayLike) -> float:
        """The share of rows, 0 to 1, whose largest number is at the label; `t` is class indices or one-hot."""
        x = arguments.numeric("x", x, least_ndim=1)
        t, one_hot = arguments.targets("x", x, arguments.numeric("t", t))
        return float(np.mean(x.argmax(axis=-1) == (t.argmax(axis=-1) if one_hot else t)))


class SigmoidWithLoss(_WithLoss):
    """
    Sigmoid and binary cross-entropy in one, for the end of a classifier of two classes.

    Parameters
    ----------
    eps : float, optional
        Keeps the logarithm finite; 0 takes the loss from the logits, which does not saturate.

    Attributes
    ----------
    loss : NumPy scalar or None
    y : ndarray or None
        The probabilities of class 1 of the last forward.
    t : the last labels

    See Also
    --------
    fastnn.ops.sigmoid_cross_entropy, fastnn.ops.sigmoid_cross_entropy_backward
    """

    def __init__(self, *, eps: float = 1e-7) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = -mean(t log(y + eps) + (1 - t) log(1 - y + eps))`` with ``y = sigmoid(x)``."""
        self.loss, self.y = ops.sigmoid_cross_entropy(x, t, eps=self.eps)
        self.t = t
        return self.loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / N``."""
        y, t = self._result()
        return ops.sigmoid_cross_entropy_backward(y, t, dout)

    def accuracy(self, x: npt.ArrayLike, t: npt.ArrayLike) -> float:
        """The share, 0 to 1, of logits on the side of their label: above 0 where `t` is above 1/2."""
        x = arguments.numeric("x", x, least_ndim=1)
        t = arguments.binary_targets("x", x, arguments.numeric("t", t))
        return float(np.mean((x > 0) == (t > 0.5)))


class IdentityWithLoss(_WithLoss):
    """
    The identity and half the mean squared error in one, for the end of a regression.

    Attributes
    ----------
    loss : NumPy scalar or None
    y, t : the last outputs and what they should have been

    See Also
    --------
    fastnn.ops.mean_squared_error, fastnn.ops.mean_squared_error_backward
    """

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = (1/2) mean((x - t)^2)``."""
        self.loss = ops.mean_squared_error(x, t)
        self.y, self.t = x, t
        return self.loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / size``."""
        y, t = self._result()
        return ops.mean_squared_error_backward(y, t, dout)


def _fits(name: str, gradient: Array, shape: tuple[int, ...]) -> None:
    if gradient.size != math.prod(shape) or gradient.shape[-1:] != shape[-1:]:
        raise ValueError(f"{name} now has shape {shape}, but its gradient has shape {gradient.shape}")
