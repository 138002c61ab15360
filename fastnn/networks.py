"""Networks: layers one after the other, with a loss at the end."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import architecture, arguments, gradient, npz, ops
from fastnn.arguments import EPS, Array
from fastnn.layers import Affine, Layer, SoftmaxWithLoss
from fastnn.layers.base import HasMode, in_mode, is_training, set_training, takes_train_flg
from fastnn.reference import perceptron

__all__ = ["MLP", "Sequential", "load"]

# What MLP offers, by its names: layers that take each number by itself, and output activations with their losses.
_LAYERS = {layer.__name__: layer for layer in architecture.LAYERS.values()}
ACTIVATIONS = {name.lower(): layer for name, layer in _LAYERS.items() if layer.elementwise and not layer.parameters}
LOSSES = {
    name.removesuffix("WithLoss").lower(): layer
    for name, layer in _LAYERS.items()
    if layer.is_loss and name.endswith("WithLoss")
}
# Of these, what the op `mlp_gradient` knows; others take the path of layers.
KNOWN_ACTIVATIONS = {ACTIVATIONS[name]: name for name in perceptron.ACTIVATIONS}
KNOWN_LOSSES = {LOSSES[name]: name for name in perceptron.LOSSES}


class Sequential(HasMode):
    """
    Layers one after the other.

    Where they are `Affine` layers with one activation between them and a loss of this package, as in `MLP`, gradients
    are computed in a single call of `fastnn.ops.mlp_gradient`, and the layers keep nothing of it but their gradients.

    Parameters
    ----------
    layers : sequence of layers
        Each with `forward`, `backward`, `params` and `grads`.
    loss : layer, optional
        With ``forward(x, t)`` and ``backward()``; softmax with cross-entropy if not given.

    Attributes
    ----------
    layers : tuple of layers
    loss_layer : layer
    params, grads : list of ndarray
        Those of all layers, in order; ``grads[i]`` belongs to ``params[i]`` and is rewritten by every `gradient`.
    names : list of str
        What the parameters are called in files and tables: the layers' own names, ``W1, b1, W2, ...``, with numbers
        that count the layers which share a name.
    training : bool
        The mode, which is handed to all layers where it is set.  Whatever it is, `predict` and `accuracy` ask in
        evaluation mode, and `gradient`, `loss_and_gradient` and `numerical_gradient` are of training mode; none of them
        changes it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine, Relu, Sequential
    >>> last = Affine(np.ones((2, 3)), np.array([0.0, 1.0, 2.0]))
    >>> network = Sequential([Affine(np.eye(2), np.zeros(2)), Relu(), last])
    >>> x, t = np.array([[1.0, -1.0], [2.0, 3.0]]), np.array([2, 2])
    >>> network.predict(x)
    array([[1., 2., 3.],
           [5., 6., 7.]])
    >>> network.accuracy(x, t)
    1.0
    >>> network.names
    ['W1', 'b1', 'W2', 'b2']
    >>> for p, dp in zip(network.params, network.gradient(x, t)):
    ...     p -= 0.1 * dp
    """

    # Pickles of the first version lack it, which had no modes.
    _training = True
    # While a loss in training mode asks `predict`, which somebody's own may not hand on.
    _keeping = False

    def __init__(self, layers: Sequence[Any], loss: Any = None) -> None:
        self.layers = tuple(layers)
        self.loss_layer = SoftmaxWithLoss() if loss is None else loss
        for layer in (*self.layers, self.loss_layer):
            if isinstance(layer, type):
                raise TypeError(f"{layer.__name__} is a class of layers, not a layer: {layer.__name__}(...)")
        if getattr(loss, "from_logits", True) is False:
            raise ValueError(
                "loss takes probabilities (from_logits=False), but gives the gradient of logits: leave the softmax to "
                "it, or end with Softmax and CrossEntropyError"
            )
        self._plan = _Plan(self.layers)
        self._training = all(map(is_training, (*self.layers, self.loss_layer)))

    @property
    def training(self) -> bool:
        return self._training

    @training.setter
    def training(self, training: bool) -> None:
        self._training = training
        for layer in (*self.layers, self.loss_layer):
            set_training(layer, training)

    @property
    def params(self) -> list[Array]:
        params: list[Array] = []
        for layer in self.layers:
            params += layer.params
        return params

    @property
    def grads(self) -> list[Array]:
        return [g for layer in self.layers for g in layer.grads]

    @property
    def names(self) -> list[str]:
        names: list[str] = []
        last: dict[str, int] = {}  # by parameter, the highest number so far
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Layer) and len(layer.parameters) == len(layer.params):
                number = 1 + max((last.get(name, 0) for name in layer.parameters), default=0)
                last.update(dict.fromkeys(layer.parameters, number))
                names += [f"{name}{number}" for name in layer.parameters]
            else:
                names += [f"layer{i}.{k}" for k in range(len(layer.params))]
        return names

    def predict(self, x: np.typing.ArrayLike, train_flg: bool = False) -> Array:
        """
        The last layer's output, before the loss: logits for a classifier.

        Parameters
        ----------
        x : array_like
        train_flg : bool, optional
            False, as in the books, is evaluation mode: the layers keep nothing of it, and several threads may ask at
            once.  True is training mode, in which the network stays, so that `backward` of its layers can follow.
        """
        train_flg = train_flg or self._keeping
        if train_flg and not self.training:
            self.train()
        y: Any = x
        for layer in self.layers:
            if takes_train_flg(getattr(type(layer), "forward", None)):
                y = layer.forward(y, train_flg=train_flg)
            else:
                y = (layer if train_flg else in_mode(layer, False)).forward(y)
        return y

    def loss(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike, train_flg: bool | None = None) -> Any:
        """
        The loss on a batch.

        Parameters
        ----------
        x, t : array_like
        train_flg : bool, optional
            The mode, as for `predict`; if not given, the one that the network is in, so that `backward` of its layers
            can follow in training mode.
        """
        train_flg = self.training if train_flg is None else train_flg
        self._keeping = train_flg
        try:
            y = self.predict(x)
        finally:
            self._keeping = False
        layer = self.loss_layer
        if takes_train_flg(getattr(type(layer), "forward", None)):
            return layer.forward(y, t, train_flg=train_flg)
        return (layer if train_flg else in_mode(layer, False)).forward(y, t)

    def accuracy(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> float:
        """The share of samples, 0 to 1, that are put into their class, as the loss layer counts it."""
        if not hasattr(self.loss_layer, "accuracy"):
            raise TypeError(f"{type(self.loss_layer).__name__} has no classes, so no accuracy")
        return float(self.loss_layer.accuracy(self.predict(x), t))

    def gradient(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> list[Array]:
        """The gradients of the loss with respect to `params`, by backpropagation: the buffers in `grads`."""
        return self.loss_and_gradient(x, t)[1]

    def loss_and_gradient(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> tuple[Any, list[Array]]:
        """The loss in training mode and what `gradient` gives, at once; the mode is the same afterwards."""
        loss_name = KNOWN_LOSSES.get(type(self.loss_layer))
        if loss_name is not None and self._plan.suits(x, t, loss_name):
            plan, eps = self._plan, getattr(self.loss_layer, "eps", EPS)
            results = ops.mlp_gradient(
                x, t, *plan.params, activation=plan.activation, loss=loss_name, eps=eps, out=plan.grads
            )
            for layer in plan.affines:
                layer.grads_filled()
            return results[0], [*plan.grads]
        if self.training:
            return self._walk(x, t)
        self.train()
        try:
            return self._walk(x, t)
        finally:
            self.eval()

    def descent_arguments(self, x: Array, t: Array) -> tuple[list[Array], dict[str, Any]] | None:
        """
        The parameters and the options of `fastnn.ops.mlp_descent` that give what `loss_and_gradient` does.

        None where that does not ask `fastnn.ops.mlp_gradient` for batches of these samples, or where parameters cannot
        be changed in place one by one.
        """
        loss_name = KNOWN_LOSSES.get(type(self.loss_layer))
        own = type(self).loss_and_gradient is not Sequential.loss_and_gradient or "loss_and_gradient" in vars(self)
        if own or loss_name is None or not self._plan.suits(x, t, loss_name):
            return None
        if x.dtype != self._plan.dtype:  # each call would copy all samples, where a step copies its own
            return None
        plan, params = self._plan, self.params
        if not arguments.same_objects(params, plan.params) or not arguments.can_step_in_place(params, [*plan.grads]):
            return None
        if x.ndim < 2 or math.prod(x.shape[1:]) != len(params[0]):
            return None
        eps = getattr(self.loss_layer, "eps", EPS)
        return params, {"activation": plan.activation, "loss": loss_name, "eps": eps}

    def _walk(self, x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> tuple[Any, list[Array]]:
        """Forward and backward, layer by layer."""
        grads = self.grads
        loss = self.loss(x, t)
        dout = self.loss_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return loss, grads

    def numerical_gradient(
        self, x: np.typing.ArrayLike, t: np.typing.ArrayLike, *, h: float = 1e-4, show: bool = False
    ) -> list[Array]:
        """
        The same gradients by central differences, two values of the loss for every parameter.

        Only what a changed parameter reaches is computed again.  `show` shows a progress bar where it takes long.
        """
        return gradient.of_network(self.layers, self.loss_layer, arguments.numeric("x", x), t, h=h, show=show)

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the network to an .npz file: `params` under their `names`, and beside them what it is made of.

        Parameters
        ----------
        path : path-like
            A link is followed.  An old file keeps its mode, its owner and its other names.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            `path` is no regular file, but a pipe or a device.

        Notes
        -----
        An old file is replaced at once when the new one is complete: whoever reads it meanwhile has the old one, and so
        has everybody if the writing fails.  That cannot be for a file with several hard links, for one that is mounted,
        as in a container, and for one in a folder that may not be written: these are changed in place.
        """
        npz.write(path, dict(zip(self.names, map(np.asarray, self.params), strict=True)), self._architecture())

    def _architecture(self) -> str:
        kind = architecture.name_of(type(self), KINDS)
        return architecture.text_of(kind, self.layers, self.loss_layer, self.names)

    def load(self, path: str | os.PathLike[str]) -> None:
        """
        Read into `params`, in place, what `save` has written for such a network; `fastnn.load` makes one anew.

        Raises
        ------
        ValueError
            The file is damaged, holds anything but numbers, or is of a network with other layers, settings, shapes or
            another loss.  The error says what differs.
        TypeError
            The numbers of an array do not go into its parameter without loss, as those of float64 into float32.

        Notes
        -----
        Where it raises, nothing has changed.

        Of layers that are not fastnn's, the names of their classes are compared.  A file without an architecture, as
        the first ones were and `numpy.savez` writes, need only have all arrays, and no other.
        """
        file = npz.Archive(path)
        text = file.text
        if text is None:
            more = [name for name in file.names if name not in self.names]
            different = f"it has arrays {', '.join(more)} that are none of the network's" if more else ""
        else:
            with file.named():
                there = architecture.read(text)
            different = architecture.difference(there, architecture.read(self._architecture()))
        if different:
            raise ValueError(f"{path} is of another network: {different}")
        arrays = file.arrays(self.names)
        for name, p, array in zip(self.names, self.params, arrays, strict=True):
            if array.shape != p.shape:
                raise ValueError(f"{path}: {name} has shape {array.shape}, but the network's has shape {p.shape}")
            if not np.can_cast(array.dtype, p.dtype, "safe"):
                raise TypeError(f"{path}: {name} is of dtype {array.dtype}, but the network's of dtype {p.dtype}")
            if not p.flags.writeable:
                raise ValueError(f"{name} of the network is read-only")
        for p, array in zip(self.params, arrays, strict=True):
            p[...] = array

    def summary(self) -> str:
        """A table of the layers with the shape of what each gives for N samples and the number of its parameters."""
        rows = []
        shape: Any = None
        for layer in self.layers:
            shape = layer.output_shape(shape) if isinstance(layer, Layer) else None
            of_samples = ", ".join(map(str, ("N", *("?" if shape is None else shape))))
            rows.append((type(layer).__name__, f"({of_samples})", f"{sum(p.size for p in layer.params):,}"))
        total = f"{sum(p.size for p in self.params):,}"
        lines = [("layer", "output shape", "parameters"), *rows, (type(self.loss_layer).__name__, "()", "0")]
        return "\n".join(f"{a:<20}{b:<16}{c:>12}" for a, b, c in [*lines, ("in all", "", total)])


class _Plan:
    """What `fastnn.ops.mlp_gradient` needs of layers in a row, if they are a perceptron."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.affines, between = list(layers[::2]), {type(layer) for layer in layers[1::2]}
        known = [name for layer, name in KNOWN_ACTIVATIONS.items() if between <= {layer}]
        is_chain = len(layers) % 2 == 1 and all(type(layer) is Affine for layer in self.affines)
        different = len({id(layer) for layer in layers}) == len(layers)
        self.activation = known[0] if known and is_chain and different else ""
        self.params: list[Any] = []
        self.grads: tuple[Array, ...] = ()
        self.dtype: Any = None  # the parameters' common one, if they suit

    def suits(self, x: Any, t: Any, loss: str) -> bool:
        """Whether x, t and the parameters are what the op computes in the parameters' dtype and in place."""
        if not self.activation:
            return False
        params: list[Any] = []
        for layer in self.affines:
            params += layer.params
        if not arguments.same_objects(params, self.params):
            self._look_again(params)
        if self.dtype is None or type(x) is not np.ndarray:  # to NumPy, None is float64
            return False
        if x.dtype != self.dtype and not (x.dtype == np.float32 and self.dtype == np.float64):
            return False
        if not isinstance(t, (np.ndarray, np.generic)):
            return False
        if t.dtype == self.dtype or (t.dtype.kind in "iu" and t.ndim < x.ndim and loss != "identity"):
            return True
        return self.dtype == np.float64 and t.dtype.kind in "iuf" and t.dtype.itemsize <= 8  # to be widened

    def _look_again(self, params: list[Any]) -> None:
        """The parameters are other arrays: can the op write gradients for them?"""
        grads = tuple(g for layer in self.affines for g in layer.grads)
        self.params, self.grads = params, grads
        arrays = [*params, *grads]
        plain = all(type(a) is np.ndarray and a.flags.c_contiguous and a.dtype == arrays[0].dtype for a in arrays)
        vectors = all(np.ndim(b) == 1 for b in params[1::2])
        self.dtype = arrays[0].dtype if plain and vectors and arrays[0].dtype in (np.float32, np.float64) else None


class MLP(Sequential):
    """
    A multi-layer perceptron: Affine layers with an activation between them, and a loss.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, outputs: ``[784, 50, 10]`` is the books' two-layer network.
    activation : {"relu", "sigmoid", "tanh"}, optional
    loss : {"softmax", "sigmoid", "identity"} or layer, optional
        For classes, two classes or regression.
    init : {"he", "xavier"} or float, optional
        The standard deviation of the normally distributed weights: sqrt(2 / D) (He et al., 2015), sqrt(1 / D) (Glorot
        and Bengio, 2010, in the books' form) or a number.  Biases start at 0.
    seed : int, optional
        For the weights.
    dtype : dtype, optional
        Of the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import MLP
    >>> network = MLP([784, 50, 10], seed=0)
    >>> print(network.summary())
    layer               output shape      parameters
    Affine              (N, 50)               39,250
    Relu                (N, 50)                    0
    Affine              (N, 10)                  510
    SoftmaxWithLoss     ()                         0
    in all                                    39,760
    >>> network.predict(np.zeros((3, 784))).shape
    (3, 10)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        loss: Any = "softmax",
        init: str | float = "he",
        seed: int | None = None,
        dtype: np.typing.DTypeLike = np.float64,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least two positive numbers, not {list(sizes)}")
        arguments.one_of("activation", activation, tuple(ACTIVATIONS))
        if isinstance(loss, str):
            loss = LOSSES[arguments.one_of("loss", loss, tuple(LOSSES))]()
        if isinstance(init, str):
            variance = {"he": 2.0, "xavier": 1.0}[arguments.one_of("init", init, ("he", "xavier"))]
        else:
            arguments.number("init", init, least=0)
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"dtype must be one of floats, not {np.dtype(dtype)}")
        rng = np.random.default_rng(seed)
        chain: list[Any] = []
        for D, M in zip(sizes[:-1], sizes[1:], strict=True):
            scale = np.sqrt(variance / D) if isinstance(init, str) else init
            W = rng.standard_normal((D, M)) * scale
            chain += [Affine(W.astype(dtype), np.zeros(M, dtype)), ACTIVATIONS[activation]()]
        super().__init__(chain[:-1], loss)


KINDS: dict[str, type[Sequential]] = {f"fastnn.{kind.__name__}": kind for kind in (Sequential, MLP)}


def load(path: str | os.PathLike[str]) -> Sequential:
    """
    Build the network that `Sequential.save` has written.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    network : MLP or Sequential
        In training mode, as all begin.  Arrays that layers shared they share again.

    Raises
    ------
    ValueError
        The file is damaged, or holds anything but numbers; or its network cannot be built from it alone, since it has
        layers or a loss that are not fastnn's, or a parameter that is a view of another: then build the network in code
        and call `Sequential.load`.

    Notes
    -----
    The file holds arrays and, in ``architecture.json``, what is made of them: no pickle, so none can run code.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.npz")
    ...     fastnn.MLP([4, 5, 3], activation="tanh", seed=0).save(path)
    ...     network = fastnn.load(path)
    >>> print(network.summary())
    layer               output shape      parameters
    Affine              (N, 5)                    25
    Tanh                (N, 5)                     0
    Affine              (N, 3)                    18
    SoftmaxWithLoss     ()                         0
    in all                                        43
    """
    file = npz.Archive(path)
    text = file.text
    if text is None:
        raise ValueError(f"{path} does not say of what network its arrays are: {architecture.IN_CODE}")
    with file.named():
        there = architecture.read(text)
        kind = KINDS.get(there["network"])
        if kind is None:
            raise ValueError(f"its network is a {there['network']}, which is none of fastnn's: {architecture.IN_CODE}")
        names = architecture.arrays_of(there)
    arrays = dict(zip(names, file.arrays(names), strict=True))
    with file.named():
        *chain, loss = architecture.build(there, arrays)
        network = kind.__new__(kind)
        Sequential.__init__(network, chain, loss)
    return network
