"""Backpropagation on computation graphs ("Deep Learning from Scratch", chapter 5 and appendix A)."""

from pathlib import Path

import numpy as np

from fastnn import SoftmaxWithLoss
from fastnn.data import one_hot
from fastnn.graph import Graph, Mul, cross_entropy_error, softmax


def main(folder: Path) -> None:
    apples(folder / "graph_apples.png")
    softmax_with_loss(folder / "graph_softmax.png")


def apples(path: Path) -> None:
    g = Graph()
    apple, number, tax = g.input(100, name="apple"), g.input(2, name="number"), g.input(1.1, name="tax")
    price = g.apply(Mul(), g.apply(Mul(), apple, number), tax, name="price")
    g.backward(price)

    print(f"{'':10}{'value':>8}{'gradient':>10}")
    for edge in (apple, number, tax, price):
        print(f"{edge.name:10}{edge.value:8.4g}{edge.grad:10.4g}")
    g.draw(path)
    print(path)


def softmax_with_loss(path: Path) -> None:
    N, C = 5, 3
    rng = np.random.default_rng(0)
    scores, t = rng.standard_normal((N, C)), one_hot(rng.integers(0, C, N), C)
    g = Graph()
    x = g.input(scores, name="x")
    y = softmax(g, x)
    loss = cross_entropy_error(g, y, t, eps=0)
    g.backward(loss)
    g.draw(path)

    fused = SoftmaxWithLoss(eps=0)
    fused_loss = fused.forward(scores, t)
    fused_gradient = fused.backward()
    print(f"\n{N} samples of {C} classes through softmax and cross-entropy, {len(g.edges)} edges; the first sample")
    for name, value in (
        ("gradient at y, graph", y.grad),
        ("          -t / (y N)", -t / (y.value * N)),
        ("gradient at x, graph", x.grad),
        ("         (y - t) / N", (y.value - t) / N),
        ("        fused kernel", fused_gradient),
    ):
        print(name, *(f"{number:10.6f}" for number in value[0]))
    print(f"loss: graph {loss.value:.12f}, fused kernel {fused_loss:.12f}")
    difference = max(abs(loss.value - fused_loss), np.abs(x.grad - fused_gradient).max())
    print(f"loss and gradient of all samples differ by at most {difference:.1e}")
    print(path)
