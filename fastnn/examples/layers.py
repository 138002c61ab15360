"""The layers by hand: forward, backward, ``W -= lr dW`` ("Deep Learning from Scratch", sections 5.5 to 5.7)."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fastnn import Affine, Relu, SoftmaxWithLoss, data


def main(folder: Path) -> None:
    digits = data.digits()
    rng = np.random.default_rng(0)
    affine1 = Affine(0.1 * rng.standard_normal((64, 100)), np.zeros(100))
    relu = Relu()
    affine2 = Affine(0.1 * rng.standard_normal((100, 10)), np.zeros(10))
    last = SoftmaxWithLoss()
    lr = 0.5

    losses = []
    for step in range(2000):
        batch = rng.choice(len(digits.x_train), 100)
        x, t = digits.x_train[batch], digits.t_train[batch]

        a1 = affine1.forward(x)
        z1 = relu.forward(a1)
        a2 = affine2.forward(z1)
        loss = last.forward(a2, t)

        da2 = last.backward()
        dz1 = affine2.backward(da2)
        da1 = relu.backward(dz1)
        affine1.backward(da1)

        for affine in (affine1, affine2):
            affine.W -= lr * affine.dW
            affine.b -= lr * affine.db

        losses.append(float(loss))
        if step % 500 == 0:
            print(f"step {step:4}  loss {loss:.4f}")
    print(f"last step  loss {loss:.4f}")

    for name, x, t in (
        ("training", digits.x_train, digits.t_train),
        ("test", digits.x_test, digits.t_test),
    ):
        y = affine2.forward(relu.forward(affine1.forward(x)))
        print(f"{name} accuracy {np.mean(y.argmax(axis=1) == t):.4f}")

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(losses, color="lightsteelblue", lw=0.7, label="100 digits of a step")
    axes.semilogy(range(25, 1976), np.convolve(losses, np.full(50, 1 / 50), "valid"), label="mean of 50 steps")
    axes.set(xlabel="step", ylabel="loss", title="Affine - Relu - Affine - SoftmaxWithLoss")
    axes.legend()
    figure.savefig(folder / "layers.png", dpi=144)
    print(folder / "layers.png")
