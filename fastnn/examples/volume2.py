"""A two-layer network in the way of volume 2: lists of parameters and gradients, and an optimizer (chapter 1)."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fastnn import SGD, Affine, CrossEntropyError, Sigmoid, Softmax, SoftmaxWithLoss, data


class TwoLayerNet:
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        rng = np.random.default_rng(0)
        affine1 = Affine(0.01 * rng.standard_normal((inputs, hidden)), np.zeros(hidden))
        affine2 = Affine(0.01 * rng.standard_normal((hidden, outputs)), np.zeros(outputs))
        self.layers: list[Any] = [affine1, Sigmoid(), affine2]
        self.loss_layer = SoftmaxWithLoss()
        # Collected once: every backward writes into the arrays of grads.
        self.params: list[Any] = []
        self.grads: list[Any] = []
        for layer in self.layers:
            self.params += layer.params
            self.grads += layer.grads

    def predict(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def forward(self, x: Any, t: Any) -> Any:
        return self.loss_layer.forward(self.predict(x), t)

    def backward(self) -> None:
        dout = self.loss_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)


def main(folder: Path) -> None:
    x, t = data.spiral(seed=1984)
    network, optimizer = TwoLayerNet(2, 10, 3), SGD(lr=1.0)
    rng = np.random.default_rng(0)

    losses = []
    for _ in range(300):
        for batch in np.split(rng.permutation(len(x)), 10):
            losses.append(float(network.forward(x[batch], t[batch])))
            network.backward()
            optimizer.update(network.params, network.grads)
    scores = network.predict(x)
    print(f"loss {losses[0]:.4f} at the first step, {losses[-1]:.4f} at the last of {len(losses)}")
    print(f"accuracy {np.mean(scores.argmax(axis=1) == t):.4f}")

    # Two layers or one: with the same eps = 0 the loss and the gradient are the same.
    softmax, cross_entropy, both = Softmax(), CrossEntropyError(eps=0), SoftmaxWithLoss(eps=0)
    loss = cross_entropy.forward(softmax.forward(scores), t)
    dx = softmax.backward(cross_entropy.backward())
    print(f"Softmax, CrossEntropyError  loss {loss:.12f}")
    print(f"SoftmaxWithLoss             loss {both.forward(scores, t):.12f}")
    print(f"their gradients differ by at most {np.abs(dx - both.backward()).max():.1e}")

    figure = Figure(figsize=(9.5, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.reshape(losses, (300, 10)).mean(axis=1))
    left.set(xlabel="epoch", ylabel="mean loss of the epoch", ylim=(0, None))
    grid = np.linspace(-1.1, 1.1, 300)
    points = np.stack(np.meshgrid(grid, grid), axis=-1)
    classes = network.predict(points.reshape(-1, 2)).argmax(axis=1)
    right.contourf(grid, grid, classes.reshape(300, 300), levels=[-0.5, 0.5, 1.5, 2.5], alpha=0.3)
    right.scatter(x[:, 0], x[:, 1], c=t, s=12)
    right.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1], title="points, and the classes given to the plane")
    figure.savefig(folder / "volume2.png", dpi=144)
    print(folder / "volume2.png")
