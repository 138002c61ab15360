"""A training step: fastnn's layers and its Trainer beside the NumPy layers, PyTorch eager and the products alone."""

from functools import partial
from itertools import cycle

import numpy as np

import fastnn
from bench import measure, numpy_layers, ours
from bench.limits import figure
from bench.ours import LR
from fastnn.networks import LOSSES

# What the books' script loads: float32 images and one-hot targets, beside weights of float64.
BOOKS = "float64, images float32, one-hot"
# Sizes, batch, loss; then what is aimed at: the layers' speed over NumPy's by dtype; the speed of a single step of the
# Trainer over NumPy's and over PyTorch's, its time over that of the products; the same of a step amid many.
CASES = [
    (
        (784, 50, 10),
        100,
        "softmax",
        {"float32": 1.3, "float64": 1.15, BOOKS: 1.12},
        (1.6, 1.6, 1.15),
        (None, None, 1.05),
    ),
    ((64, 32, 10), 10, "softmax", {}, (2.5, 10, None), (5, 30, None)),
    ((2, 10, 1), 1, "identity", {}, (4, 25, None), (25, 250, None)),
]
OURS = "Trainer", "fit"
SAMPLES = 10_000  # of many steps


def cases():
    """Each case with its dtypes, the books' own with those of their script."""
    for case in CASES:
        yield from ((case, dtype) for dtype in ("float32", "float64", *(d for d in case[3] if d == BOOKS)))


def parameters(sizes, dtype):
    rng, dtype = np.random.default_rng(0), "float64" if dtype == BOOKS else dtype
    shapes = zip(sizes[:-1], sizes[1:], strict=True)
    return [(rng.standard_normal(s) * s[0] ** -0.5).astype(dtype) for s in shapes], [
        np.zeros(M, dtype) for M in sizes[1:]
    ]


def batch_of(sizes, batch, loss, dtype):
    """x and t."""
    if dtype == BOOKS:
        x, t = batch_of(sizes, batch, loss, "float32")
        return x, np.eye(sizes[-1])[t]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, sizes[0])).astype(dtype)
    if loss == "softmax":
        return x, rng.integers(0, sizes[-1], batch)
    return x, rng.standard_normal((batch, sizes[-1])).astype(dtype)


def by_hand(module, loss, Ws, bs, x, t):
    """A step as the books' scripts make it; gives the gradient of the first bias, on which all else has a part."""
    first, second = (module.Affine(W, b) for W, b in zip(Ws, bs, strict=True))
    chain, last = [first, module.Relu(), second], getattr(module, LOSSES[loss].__name__)()

    def step():
        numpy_layers.forward_backward(chain, last, x, t)
        for layer in (first, second):
            layer.W -= LR * layer.dW
            layer.b -= LR * layer.db
        return first.db

    return step


def by_torch(sizes, loss, Ws, bs, x, t):
    import torch
    from torch.nn import functional

    linear = [
        torch.nn.Linear(D, M, dtype=torch.from_numpy(x).dtype) for D, M in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    with torch.no_grad():
        for layer, W, b in zip(linear, Ws, bs, strict=True):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
    network = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1])
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    x, t = torch.from_numpy(x), torch.from_numpy(t)
    criterion = {"softmax": functional.cross_entropy, "identity": lambda y, t: 0.5 * functional.mse_loss(y, t)}[loss]

    def step():
        optimizer.zero_grad()
        criterion(network(x), t).backward()
        optimizer.step()
        return linear[0].bias.grad

    return step


def products(Ws, x):
    """The five that a step cannot do without, into memory that is reused."""
    h, y = np.dot(x, Ws[0]), np.dot(np.dot(x, Ws[0]), Ws[1])
    dh, dWs = np.dot(y, Ws[1].T), [np.empty_like(W) for W in Ws]

    def five():
        np.dot(x, Ws[0], out=h)
        np.dot(h, Ws[1], out=y)
        np.dot(h.T, y, out=dWs[1])
        np.dot(y, Ws[1].T, out=dh)
        np.dot(x.T, dh, out=dWs[0])

    return five


def products_of_copies(Ws, x, steps):
    """The same of batches that are first copied from so many, in a random order."""
    samples, batch = np.concatenate([x] * steps), x.copy()
    orders = cycle(np.random.default_rng(0).permutation(len(samples)).reshape(steps, len(x)))
    five = products(Ws, batch)

    def copied():
        np.take(samples, next(orders), axis=0, out=batch, mode="clip")
        five()

    return copied


def rows(peers, pace):
    """Seconds a step by contender, for each case and dtype."""
    for (sizes, batch, loss, *_), dtype in cases():
        x, t = batch_of(sizes, batch, loss, dtype)
        made, steps = [parameters(sizes, dtype) for _ in range(5)], SAMPLES // batch
        computed = made[0][0][0].dtype.name
        calls = {
            "layers": by_hand(fastnn, loss, *made[0], x, t),
            "Trainer": ours.step(sizes, loss, *made[1], x, t),
            "fit": partial(ours.fit(sizes, loss, *made[4], x, t, steps), shuffle=False),
            "NumPy layers": by_hand(numpy_layers, loss, *made[2], x, t),
        }
        if "PyTorch" in peers and dtype == computed:  # it has no products of two dtypes
            calls["PyTorch"] = by_torch(sizes, loss, *made[3], x, t)
        what = f"{'-'.join(map(str, sizes))}, batch {batch}, {dtype}"
        expected = calls["NumPy layers"]()
        for name, call in calls.items():
            measure.assert_equal(call(), expected, computed, f"{what}: {name}")
        x = x.astype(computed)
        calls |= {"fit": calls["fit"].func, "products": products(made[0][0], x)}
        calls["products of copies"] = products_of_copies(made[0][0], x, steps)
        seconds, processors = measure.times(calls, **pace)
        seconds["fit"] /= steps
        yield {"what": what, "seconds": seconds, "processors": processors}


def figures(found):
    """The same as figures beside their limits."""
    for ((_, _, _, layers, *of_ours), dtype), row in zip(cases(), found, strict=True):
        s, what = row["seconds"], row["what"]
        aims = [("layers", "NumPy layers", layers.get(dtype))]
        for contender, (over_numpy, over_torch, _) in zip(OURS, of_ours, strict=True):
            aims += [(contender, "NumPy layers", over_numpy), (contender, "PyTorch", over_torch)]
        for contender, other, limit in aims:
            if other in s:
                ratio = s[other] / s[contender]
                met = None if limit is None else ratio >= limit
                yield figure(f"{what}: {contender}, {other} over it", ratio, "", f">= {limit}" if limit else "", met)
        for contender, (*_, limit) in zip(OURS, of_ours, strict=True):
            if limit:
                ratio = s[contender] / s["products"]
                yield figure(f"{what}: {contender} over the products", ratio, "", f"<= {limit}", ratio <= limit)
        yield figure(f"{what}: fit over the products of copies", s["fit"] / s["products of copies"], "", "", None)
