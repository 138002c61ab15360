"""The books' layer classes, written once over the ops.

Volume 1 of "Deep Learning from Scratch" reads ``layer.W``, ``layer.dW`` and gets fresh gradient arrays; volume 2 keeps
``layer.params`` and ``layer.grads``, lists whose arrays every backward writes in place.  Each class speaks both.

A layer remembers its last forward for its backward, so one layer serves one thread at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import ops
from fastnn.arguments import Array

__all__ = ["Affine", "CrossEntropyError", "Relu", "Sigmoid", "Softmax", "SoftmaxWithLoss"]


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
        return ops.relu_backward(dout, _remembered(self.mask))


class Sigmoid(_Plain):
    """
    Logistic function.

    Attributes
    ----------
    out : ndarray or None
        The last output; the layer's own copy.

    See Also
    --------
    fastnn.ops.sigmoid, fastnn.ops.sigmoid_backward
    """

    def __init__(self) -> None:
        super().__init__()
        self.out: Any = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """``y = 1 / (1 + exp(-x))``."""
        self.out = ops.sigmoid(x)
        return self.out.copy()

    def backward(self, dout: npt.ArrayLike) -> Array:
        """``dx = dout (1 - y) y``."""
        return ops.sigmoid_backward(dout, _remembered(self.out))


class Softmax(_Plain):
    """
    Softmax over the last axis.

    Attributes
    ----------
    out : ndarray or None
        The last output; the layer's own copy.

    See Also
    --------
    fastnn.ops.softmax, fastnn.ops.softmax_backward
    """

    def __init__(self) -> None:
        super().__init__()
        self.out: Any = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """``y_i = exp(x_i) / sum_j exp(x_j)`` in each row."""
        self.out = ops.softmax(x)
        return self.out.copy()

    def backward(self, dout: npt.ArrayLike) -> Array:
        """``dx_i = y_i (dout_i - sum_j dout_j y_j)``."""
        return ops.softmax_backward(dout, _remembered(self.out))


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
    x : ndarray or None
        The last input.

    See Also
    --------
    fastnn.ops.dot, fastnn.ops.add_bias, fastnn.ops.bias_grad
    """

    def __init__(self, W: Array, b: Array) -> None:
        self.params: list[Any] = [W, b]
        self.x: Any = None
        self._batch: tuple[int, ...] = ()
        self._has_run = False
        self._fresh: list[Any] = [None, None]
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
        self.x = np.asarray(x)
        self._batch = _batch_of(self.x, W)
        y = ops.dot(self._rows(), W)
        y = ops.add_bias(y, b, out=y if y.dtype == getattr(b, "dtype", None) else None)
        return y if y.shape[:-1] == self._batch else y.reshape(*self._batch, -1)

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
        W = self.params[0]
        x = _remembered(self.x)
        dout = np.asarray(dout)
        if dout.shape != (*self._batch, W.shape[1]):
            raise ValueError(f"dout has shape {dout.shape}, but forward gave {(*self._batch, W.shape[1])}")
        rows, dout = self._rows(), dout.reshape(-1, W.shape[1])
        if self._buffers is None:
            self._fresh = [ops.dot(rows.T, dout), ops.bias_grad(dout)]
        else:
            dW, db = self._buffers
            if dW.flags.c_contiguous and rows.dtype == dout.dtype == dW.dtype:
                ops.dot(rows.T, dout, out=dW)
            else:
                dW[...] = ops.dot(rows.T, dout)
            db[...] = ops.bias_grad(dout)
        self._has_run = True
        dx = ops.dot(dout, W.T)
        return dx if dx.shape == x.shape else dx.reshape(x.shape)

    def _rows(self) -> Array:
        D = self.params[0].shape[0]
        return self.x if self.x.ndim == 2 and self.x.shape[1] == D else self.x.reshape(-1, D)

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
            self._buffers = [np.zeros_like(p) for p in self.params]
            if self._has_run:
                for buffer, gradient in zip(self._buffers, self._fresh, strict=True):
                    buffer[...] = gradient
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
        if self._buffers is None:
            return self._fresh[i]
        return self._buffers[i].copy() if self._has_run else None

    def _set_gradient(self, i: int, gradient: Any) -> None:
        if self._buffers is None:
            self._fresh[i] = gradient
        else:
            self._buffers[i][...] = gradient


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
        self.eps = eps
        self.y: Any = None
        self.t: Any = None

    def forward(self, y: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = -(1/N) sum_n log(y[n, t_n] + eps)``."""
        self.y, self.t = y, t
        return ops.cross_entropy_error(y, t, eps=self.eps)

    def backward(self, dout: float = 1.0) -> Array:
        """``dy[n, t_n] = -dout / (N (y[n, t_n] + eps))``, 0 elsewhere."""
        return ops.cross_entropy_error_backward(_remembered(self.y), self.t, dout, eps=self.eps)


class SoftmaxWithLoss(_Plain):
    """
    Softmax and cross-entropy in one, for the end of a classifier.

    Parameters
    ----------
    eps : float, optional
        Keeps the logarithm finite; 0 takes the loss from the logits, which does not saturate.

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

    def __init__(self, *, eps: float = 1e-7) -> None:
        super().__init__()
        self.eps = eps
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """``L = cross_entropy_error(softmax(x), t)``."""
        self.loss, self.y = ops.softmax_cross_entropy(x, t, eps=self.eps)
        self.t = t
        return self.loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / N``."""
        return ops.softmax_cross_entropy_backward(_remembered(self.y), self.t, dout)


def _remembered(value: Any) -> Any:
    if value is None:
        raise RuntimeError("backward was called before forward")
    return value


def _batch_of(x: Array, W: Array) -> tuple[int, ...]:
    """The axes of x that stay: the rest are the D inputs of one sample."""
    D = W.shape[0]
    if x.ndim == 1 and x.shape[0] == D:
        return ()
    if math.prod(x.shape[1:]) == D:
        return x.shape[:1]
    if x.ndim and x.shape[-1] == D:
        return x.shape[:-1]
    raise ValueError(f"x has shape {x.shape}, but W of shape {W.shape} needs {D} numbers in each sample")
