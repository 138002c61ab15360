"""Losses, for the end of a network; with their output activation in one, or apart."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastnn import arguments, ops
from fastnn.arguments import EPS, Array
from fastnn.layers.base import NO_FORWARD, Layer


def _read(y: Any, t: Any, made: tuple[Any, Any, Any] | None) -> Any:
    """`t` as forward has read it, if `y` and `t` are still those of `made`."""
    return made[2] if made is not None and made[0] is y and made[1] is t else t


class CrossEntropyError(Layer):
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

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import CrossEntropyError
    >>> loss = CrossEntropyError(eps=0)
    >>> round(float(loss.forward(np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([0, 1]))), 4)
    1.0397
    >>> loss.backward()
    array([[-2.,  0.],
           [ 0., -1.]])
    """

    op, kept, is_loss = "cross_entropy_error", ("y", "t", "_labels"), True
    _labels: Any = None  # y, t, and the class indices in it; older pickles lack it

    def __init__(self, *, eps: float = EPS) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)

    def forward(self, y: np.typing.ArrayLike, t: np.typing.ArrayLike, train_flg: bool = True) -> Any:
        """``L = -(1/N) sum_n log(y[n, t_n] + eps)``."""
        labels = ops.class_indices(y, t)
        loss = ops.cross_entropy_error(y, labels, eps=self.eps)
        if train_flg and self.training:
            self.y, self.t, self._labels = y, t, (y, t, labels)
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dy[n, t_n] = -dout / (N (y[n, t_n] + eps))``, 0 elsewhere."""
        if self.y is None:
            raise RuntimeError(NO_FORWARD)
        return ops.cross_entropy_error_backward(self.y, _read(self.y, self.t, self._labels), dout, eps=self.eps)


class _WithLoss(Layer):
    """An output activation and its loss in one, for the end of a network."""

    kept: ClassVar[tuple[str, ...]] = ("loss", "y", "t")
    is_loss = True

    loss: Any
    y: Any
    t: Any

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
    t : the last labels, as they were at forward

    See Also
    --------
    fastnn.ops.softmax_cross_entropy, fastnn.ops.softmax_cross_entropy_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SoftmaxWithLoss
    >>> loss = SoftmaxWithLoss()
    >>> x, t = np.array([[3.0, 3.0], [1.0, 1.0]]), np.array([0, 1])
    >>> round(float(loss.forward(x, t)), 4)
    0.6931
    >>> loss.y
    array([[0.5, 0.5],
           [0.5, 0.5]])
    >>> loss.backward()
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """

    op, kept = "softmax_cross_entropy", (*_WithLoss.kept, "_labels")
    _labels: Any = None  # y, t, and the class indices in it; older pickles lack it

    def __init__(self, *, eps: float = EPS, from_logits: bool = True) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)
        self.from_logits = bool(from_logits)

    def forward(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike, train_flg: bool = True) -> Any:
        """``L = cross_entropy_error(y, t)`` with ``y = softmax(x)``, or ``y = x`` without `from_logits`."""
        y: Any = x
        labels = ops.class_indices(x, t)
        if self.from_logits:
            loss, y = ops.softmax_cross_entropy(x, labels, eps=self.eps)
        else:
            loss = ops.cross_entropy_error(x, labels, eps=self.eps)
        if train_flg and self.training:
            self.loss, self.y, self.t, self._labels = loss, y, t, (y, t, labels)
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / N``; where a row of `t` sums to s and not to 1, ``dout (s y - t) / N``."""
        y, t = self._result()
        return ops.softmax_cross_entropy_backward(y, _read(y, t, self._labels), dout)

    def accuracy(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> float:
        """The share of rows, 0 to 1, whose largest number is at the label; `t` is class indices or one-hot.

        A row with NaN has no largest number.
        """
        x = arguments.numeric("x", x, least_ndim=1)
        t, one_hot = arguments.targets("x", x, arguments.numeric("t", t))
        places = x.argmax(axis=-1, keepdims=True)  # of NaN, if there is one
        largest = np.take_along_axis(x, places, axis=-1)
        right = (places[..., 0] == (t.argmax(axis=-1) if one_hot else t)) & (largest == largest)[..., 0]
        return float(np.mean(right))


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
    t : the last labels, as they were at forward

    See Also
    --------
    fastnn.ops.sigmoid_cross_entropy, fastnn.ops.sigmoid_cross_entropy_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SigmoidWithLoss
    >>> loss = SigmoidWithLoss()
    >>> round(float(loss.forward(np.array([0.0, 0.0]), np.array([0, 1]))), 4)
    0.6931
    >>> loss.backward()
    array([ 0.25, -0.25])
    """

    op = "sigmoid_cross_entropy"

    def __init__(self, *, eps: float = EPS) -> None:
        super().__init__()
        self.eps = arguments.epsilon(eps)

    def forward(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike, train_flg: bool = True) -> Any:
        """``L = -mean(t log(y + eps) + (1 - t) log(1 - y + eps))`` with ``y = sigmoid(x)``."""
        loss, y = ops.sigmoid_cross_entropy(x, t, eps=self.eps)
        if train_flg and self.training:
            self.loss, self.y, self.t = loss, y, t
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / N``."""
        y, t = self._result()
        return ops.sigmoid_cross_entropy_backward(y, t, dout)

    def accuracy(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> float:
        """The share, 0 to 1, of logits on the side of their label: above 0 where `t` is above 1/2.

        NaN is on neither.
        """
        x = arguments.numeric("x", x, least_ndim=1)
        t = arguments.binary_targets("x", x, arguments.numeric("t", t))
        return float(np.mean(np.where(t > 0.5, x > 0, x <= 0)))


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

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import IdentityWithLoss
    >>> loss = IdentityWithLoss()
    >>> float(loss.forward(np.array([3.0, 1.0]), np.array([1.0, 1.0])))
    1.0
    >>> loss.backward()
    array([1., 0.])
    """

    op = "mean_squared_error"

    def forward(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike, train_flg: bool = True) -> Any:
        """``L = (1/2) mean((x - t)^2)``."""
        loss = ops.mean_squared_error(x, t)
        if train_flg and self.training:
            self.loss, self.y, self.t = loss, x, t
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """``dx = dout (y - t) / size``."""
        y, t = self._result()
        return ops.mean_squared_error_backward(y, t, dout)
