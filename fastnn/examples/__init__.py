"""Examples, one short file each: ``fastnn example NAME`` runs them, and their text is there to be read first."""

EXAMPLES = {
    "layers": "Affine, Relu, Affine and SoftmaxWithLoss by hand, on handwritten digits",
    "gradients": "a two-layer network's 39,760 analytic gradients against numerical ones",
    "regression": "y = 3 x0 + 2 x1 learnt from single samples; batch, stochastic, mini-batch and online descent",
    "graph": "backpropagation on computation graphs: two apples, and softmax with cross-entropy",
    "volume2": "lists of params and grads and an optimizer, on a spiral",
}
