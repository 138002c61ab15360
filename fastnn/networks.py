"""Networks: layers one after the other, with a loss at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import arguments
from fastnn import gradient as numerical
from fastnn.arguments import Array
from fastnn.layers import Affine, Relu, SoftmaxWithLoss

__all__ = ["MLP", "Sequential"]


class Sequential:
    """
    Layers one after the other.

    Parameters
    ----------
    layers : sequence of layers
        Each with `forward`, `backward`, `params` and `grads`.
    loss : layer, optional
        With ``forward(x, t)`` and ``backward()``; softmax with cross-entropy if not given.

    Attributes
    ----------
    params, grads : list of ndarray
        Those of all layers, in order; ``grads[i]`` belongs to ``params[i]`` and is rewritten by every `gradient`.
    """

    def __init__(self, layers: Sequence[Any], loss: Any = None) -> None:
        self.layers = list(layers)
        self.loss_layer = SoftmaxWithLoss() if loss is None else loss

    @property
    def params(self) -> list[Array]:
        return [p for layer in self.layers for p in layer.params]

    @property
    def grads(self) -> list[Array]:
        return [g for layer in self.layers for g in layer.grads]

    def predict(self, x: npt.ArrayLike) -> Array:
        """The last layer's output, before the loss: logits for a classifier."""
        y: Any = x
        for layer in self.layers:
            y = layer.forward(y)
        return y

    def loss(self, x: npt.ArrayLike, t: npt.ArrayLike) -> Any:
        """The loss on a batch."""
        return self.loss_layer.forward(self.predict(x), t)

    def accuracy(self, x: npt.ArrayLike, t: npt.ArrayLike) -> float:
        """The share of rows, 0 to 1, whose largest output is the label; `t` is class indices or one-hot."""
        y = self.predict(x)
        t, one_hot = arguments.targets("y", y, t)
        return float(np.mean(y.argmax(axis=-1) == (t.argmax(axis=-1) if one_hot else t)))

    def gradient(self, x: npt.ArrayLike, t: npt.ArrayLike) -> list[Array]:
        """The gradients of the loss with respect to `params`, by backpropagation: the buffers in `grads`."""
        grads = self.grads
        self.loss(x, t)
        dout = self.loss_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return grads

    def numerical_gradient(self, x: npt.ArrayLike, t: npt.ArrayLike, *, h: float = 1e-4) -> list[Array]:
        """The same gradients by central differences: two forward passes for every parameter."""
        return [numerical.numerical_gradient(lambda _: self.loss(x, t), p, h=h) for p in self.params]


class MLP(Sequential):
    """
    A multi-layer perceptron: Affine layers with ReLU between them, and softmax with cross-entropy.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, classes: ``[784, 50, 10]`` is the books' two-layer network.
    seed : int, optional
        For the weights, drawn from a normal distribution of variance 2 / D (He et al., 2015); biases start at 0.
    dtype : dtype, optional
        Of the parameters.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int | None = None, dtype: npt.DTypeLike = np.float64) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two positive numbers, not {list(sizes)}")
        rng = np.random.default_rng(seed)
        layers: list[Any] = []
        for D, M in zip(sizes[:-1], sizes[1:], strict=True):
            W = rng.standard_normal((D, M)) * np.sqrt(2 / D)
            layers += [Affine(W.astype(dtype), np.zeros(M, dtype)), Relu()]
        super().__init__(layers[:-1])
