"""Analytic against numerical gradients of a 784-50-10 network ("Deep Learning from Scratch", 4.4 and 5.7)."""

from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure

from fastnn import MLP, SoftmaxWithLoss, check_gradient, numerical_gradient, softmax
from fastnn.gradient import forward_passes


def main(folder: Path) -> None:
    # The books' loss is log(y + eps), while their gradient (y - t) / N is that of log(y).  Without eps the two belong
    # together, and what remains is the error of the central differences.
    network = MLP([784, 50, 10], loss=SoftmaxWithLoss(eps=0), seed=0)
    rng = np.random.default_rng(0)
    x, t = rng.random((5, 784)), rng.integers(0, 10, 5)
    print(network.summary(), "\n")
    check_gradient(network, x, t)

    start = perf_counter()
    for _ in range(100):
        network.gradient(x, t)
    analytic_seconds = (perf_counter() - start) / 100
    start = perf_counter()
    numerical = network.numerical_gradient(x, t)
    numerical_seconds = perf_counter() - start
    # The books' loop runs the whole network for every pass: 400 passes for 200 weights of W2 tell the time of all.
    start = perf_counter()
    numerical_gradient(lambda _: network.loss(x, t), network.params[2][:20])
    loop_seconds = (perf_counter() - start) / 400 * forward_passes(*network.params)
    print(f"\nanalytic gradient                        {1e3 * analytic_seconds:10.3f} ms")
    print(f"numerical, only what a change reaches    {1e3 * numerical_seconds:10.3f} ms")
    print(f"numerical, whole passes (400 timed)      {1e3 * loop_seconds:10.3f} ms")

    # Some course material applies softmax first and hands probabilities to the loss.
    scores = network.predict(x)
    of_scores, of_probabilities = SoftmaxWithLoss(), SoftmaxWithLoss(from_logits=False)
    of_scores.forward(scores, t)
    of_probabilities.forward(softmax(scores), t)
    difference = np.abs(of_scores.backward() - of_probabilities.backward()).max()
    print(f"\nSoftmaxWithLoss(from_logits=False): gradient differs by {difference:.1e}\n")

    # The error of a number is told in units of its parameter's largest gradient: some gradients cancel to almost 0.
    figure = Figure(figsize=(7, 6), layout="constrained")
    panels = figure.subplots(4, sharex=True)
    for name, a, n, axes in zip(network.names, network.gradient(x, t), numerical, panels, strict=True):
        errors = np.abs(a - n) / np.abs(a).max()
        print(f"{name}: the largest error of a number is {errors.max():.1e}")
        axes.hist(errors[errors > 0], np.logspace(-16, -6, 81).tolist())
        axes.axvline(1e-7, color="black", ls="--")
        axes.set(xscale="log", ylabel=name)
        axes.set_title(f"{a.size:,} numbers, the largest error {errors.max():.0e}", loc="left", size="medium")
    panels[-1].set_xlabel("|analytic - numerical| / largest |analytic|, where it is not 0; dashed: 1e-7")
    figure.align_ylabels()
    figure.savefig(folder / "gradients.png", dpi=144)
    print(folder / "gradients.png")
