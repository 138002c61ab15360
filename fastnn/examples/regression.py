"""y = 3 x0 + 2 x1 learnt by 10 hidden units, sample by sample; the four kinds of gradient descent side by side."""

from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure

from fastnn import MLP, SGD, IdentityWithLoss, SigmoidWithLoss, SoftmaxWithLoss, Trainer, data


def trainer(seed: int) -> Trainer:
    # He's initialisation, the standard one for ReLU.
    network = MLP([2, 10, 1], activation="relu", init="he", loss=IdentityWithLoss(), seed=seed)
    return Trainer(network, SGD(lr=0.07), seed=seed)


def main(folder: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)

    print("half the mean squared error of 100,000 samples, before and after 1,000 steps of one sample")
    for seed in range(10):
        x, y = data.regression(100_000, seed=seed)
        online = trainer(seed)
        before = online.network.loss(x, y)
        online.fit_samples(zip(x, y, strict=True), steps=1000)
        print(f"seed {seed}  {before:7.3f}  {online.network.loss(x, y):.1e}")
    left.semilogy(online.losses, ".", ms=3)
    left.set(title="1,000 single samples", xlabel="step", ylabel="loss of the sample", ylim=(1e-6, 30))

    # Online descent takes samples as they come; the others take the same 1,000 in random orders, or all at once.
    print("\ndescent     samples a step  steps  seconds     loss")
    kinds = {"batch": (1000, 1000), "mini-batch": (50, 50), "stochastic": (1, 1), "online": (1, 1)}
    for name, (batch_size, epochs) in kinds.items():
        each, start = trainer(0), perf_counter()
        if name == "online":
            each.fit_samples(zip(x, y, strict=True), steps=1000)
        else:
            each.fit(x[:1000], y[:1000], batch_size=batch_size, epochs=epochs)
        seconds = perf_counter() - start
        print(f"{name:<12}{batch_size:14,}{len(each.losses):7,}{seconds:9.3f}{each.network.loss(x, y):9.1e}")
        right.semilogy(np.convolve(each.losses, np.full(50, 0.02), "valid"), label=name)
    right.set(title="Four kinds of descent", xlabel="step", ylabel="mean loss of 50 steps")
    right.legend()

    # With the loss that belongs to the output's activation, the gradient is (y - t) / N.
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((5, 3)), rng.integers(0, 3, 5)
    a, t = scores[:, :1], (labels[:, np.newaxis] == 0) * 1.0
    print("\ntask         activation  loss                       value  |dx - (y - t) / N|")
    last: IdentityWithLoss | SigmoidWithLoss | SoftmaxWithLoss
    for words, last, inputs, targets in (
        ("regression   identity    half mean squared error", IdentityWithLoss(), a, t),
        ("two classes  sigmoid     cross-entropy          ", SigmoidWithLoss(), a, t),
        ("classes      softmax     cross-entropy          ", SoftmaxWithLoss(), scores, data.one_hot(labels)),
    ):
        loss = last.forward(inputs, targets)
        difference = np.abs(last.backward() - (last.y - targets) / len(inputs)).max()
        print(f"{words}  {loss:7.4f}  {difference:.1e}")

    figure.savefig(folder / "regression.png", dpi=144)
    print(folder / "regression.png")
