"""Computation graphs: nodes that know one rule of differentiation each, and softmax and losses built from them alone.

Made for looking inside, not for speed: every step that a fused kernel does at once has its value and its gradient here.
Everything is computed in float64.  The nodes and their rules are those of "Deep Learning from Scratch", chapter 5 and
appendix A, and volume 2, section 1.3.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import arguments, pictures

__all__ = [
    *("Add", "Div", "Edge", "Exp", "Graph", "Log", "MatMul", "Mul", "Node", "Repeat", "Sub", "Sum"),
    *("affine", "cross_entropy_error", "softmax"),
]


class Node:
    """
    One operation.  A subclass has a `symbol`, ``compute(*inputs)`` and ``gradients(dout, *inputs)``.

    Attributes
    ----------
    symbol : str
        What a drawing shows.
    inputs, out
        What the last `forward` was given and what came out, in memory of the node's own; None before.
    """

    symbol: str
    compute: Callable[..., Any]
    gradients: Callable[..., tuple[Any, ...]]
    inputs: Any = None
    out: Any = None

    def forward(self, *inputs: np.typing.ArrayLike) -> Any:
        """The output, in float64; ValueError if the shapes of the inputs do not fit."""
        floats = [_floats("an input", x) for x in inputs]
        self.check(*floats)
        self.out = self.compute(*floats)
        self.inputs = floats
        return self.out.copy()

    def backward(self, dout: np.typing.ArrayLike) -> tuple[Any, ...]:
        """The gradient of each input, from the gradient `dout` of the output, which must have the output's shape."""
        if self.inputs is None:
            raise RuntimeError("backward was called before forward")
        gradient = _floats("dout", dout)
        if gradient.shape != self.out.shape:
            raise ValueError(f"dout has shape {gradient.shape}, but forward gave {self.out.shape}")
        return self.gradients(gradient, *self.inputs)

    def check(self, *inputs: Any) -> None:
        """Refuse inputs that do not fit: here, inputs of different shapes."""
        shapes = [x.shape for x in inputs]
        if len(set(shapes)) > 1:
            given = " and ".join(map(str, shapes))
            raise ValueError(f"{type(self).__name__} needs inputs of one shape, not {given}: Repeat can stretch one")


class Add(Node):
    """``x + y``: hands the gradient on to both."""

    symbol = "+"

    def compute(self, x: Any, y: Any) -> Any:
        return x + y

    def gradients(self, dout: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return dout, dout.copy()


class Sub(Node):
    """``x - y``: hands the gradient on, to `y` with its sign changed."""

    symbol = "−"

    def compute(self, x: Any, y: Any) -> Any:
        return x - y

    def gradients(self, dout: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return dout, -dout


class Mul(Node):
    """``x y``: multiplies the gradient by the other factor."""

    symbol = "×"

    def compute(self, x: Any, y: Any) -> Any:
        return x * y

    def gradients(self, dout: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return dout * y, dout * x


class Div(Node):
    """``x / y``, with the derivatives ``1 / y`` and ``-x / y**2``."""

    symbol = "/"

    def compute(self, x: Any, y: Any) -> Any:
        return x / y

    def gradients(self, dout: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return dout / y, -dout * x / y**2


class Log(Node):
    """``log(x)``, with the derivative ``1 / x``."""

    symbol = "log"

    def compute(self, x: Any) -> Any:
        return np.log(x)

    def gradients(self, dout: Any, x: Any) -> tuple[Any, ...]:
        return (dout / x,)


class Exp(Node):
    """``y = exp(x)``, with the derivative ``y``."""

    symbol = "exp"

    def compute(self, x: Any) -> Any:
        return np.exp(x)

    def gradients(self, dout: Any, x: Any) -> tuple[Any, ...]:
        return (dout * self.out,)


class Sum(Node):
    """The sum over `axis`, which stays with length 1, or over everything, a number; repeats the gradient."""

    symbol = "Σ"

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis

    def compute(self, x: Any) -> Any:
        return np.sum(x, axis=self.axis, keepdims=self.axis is not None)

    def gradients(self, dout: Any, x: Any) -> tuple[Any, ...]:
        return (dout * np.ones_like(x),)


class Repeat(Node):
    """`n` copies along `axis`, whose length must be 1; sums the gradient over them."""

    symbol = "repeat"

    def __init__(self, n: int, axis: int = 0) -> None:
        self.n = arguments.whole_number("n", n, 0, np.iinfo(np.intp).max)
        self.axis = axis

    def compute(self, x: Any) -> Any:
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != 1:
            raise ValueError(f"Repeat needs length 1 along axis {self.axis}, but the shape is {x.shape}")
        return np.repeat(x, self.n, axis=self.axis)

    def gradients(self, dout: Any, x: Any) -> tuple[Any, ...]:
        return (np.sum(dout, axis=self.axis, keepdims=True),)


class MatMul(Node):
    """``x W`` of shapes (N, D) and (D, M), with the gradients ``dout W^T`` and ``x^T dout``."""

    symbol = "@"

    def check(self, *inputs: Any) -> None:
        if [x.ndim for x in inputs] != [2, 2] or inputs[0].shape[1] != inputs[1].shape[0]:
            shapes = " and ".join(str(x.shape) for x in inputs)
            raise ValueError(f"MatMul needs inputs of shapes (N, D) and (D, M), not {shapes}")

    def compute(self, x: Any, W: Any) -> Any:
        return x @ W

    def gradients(self, dout: Any, x: Any, W: Any) -> tuple[Any, ...]:
        return dout @ W.T, x.T @ dout


@dataclass(eq=False)
class Edge:
    """
    An input of a graph, or the output of one of its nodes.

    Attributes
    ----------
    value : NumPy scalar or ndarray
    grad : like `value`, or None
        Derivative of the edge that `Graph.backward` started from; None before that, or if it does not depend on this.
    name : str
    """

    value: Any
    grad: Any = field(default=None, init=False)
    name: str
    graph: Graph = field(repr=False)
    node: Node | None = field(default=None, repr=False)
    sources: tuple[Edge, ...] = field(default=(), repr=False)


class Graph:
    """
    A computation graph, computed while it is wired.  Its `edges` are in the order of computation.

    Examples
    --------
    >>> g = Graph()
    >>> apple, number = g.input(100, name="apple"), g.input(2, name="number")
    >>> price = g.apply(Mul(), apple, number, name="price")
    >>> g.backward(price)
    >>> float(price.value), float(apple.grad), float(number.grad)
    (200.0, 2.0, 100.0)
    """

    def __init__(self) -> None:
        self.edges: list[Edge] = []

    def input(self, value: np.typing.ArrayLike, *, name: str = "") -> Edge:
        """An edge that holds a float64 copy of `value`."""
        return self._append(Edge(_floats("value", value), name, self))

    def apply(self, node: Node, *inputs: Edge, name: str = "") -> Edge:
        """
        Run `node` on edges of this graph.

        Parameters
        ----------
        node : Node
            One that has not run yet, since it keeps what its gradient needs.
        *inputs : Edge
        name : str, optional

        Returns
        -------
        edge : Edge
            The output of `node`.

        Raises
        ------
        TypeError
            Not a node, or not an edge.
        ValueError
            A node that has run, an edge of another graph, or shapes that do not fit.
        """
        if not isinstance(node, Node):
            raise TypeError(f"a node is needed, such as Mul(), not {node!r}")
        if node.inputs is not None:
            raise ValueError(f"this {type(node).__name__} has run already: each place in a graph needs its own node")
        for edge in inputs:
            self._own(edge)
        return self._append(Edge(node.forward(*(e.value for e in inputs)), name, self, node, inputs))

    def backward(self, edge: Edge) -> None:
        """
        Set `grad` of every edge that `edge` was computed from.

        Starts with 1 at `edge`, which must hold a single number (ValueError), and adds up the gradients where an edge
        is used more than once.
        """
        self._own(edge)
        if edge.value.size != 1:
            raise ValueError(f"backward starts from a single number, but the edge has shape {edge.value.shape}")
        for each in self.edges:
            each.grad = None
        edge.grad = np.ones_like(edge.value)[()]
        for each in reversed(self.edges):
            if each.node is not None and each.grad is not None:
                for source, grad in zip(each.sources, each.node.backward(each.grad), strict=True):
                    source.grad = grad if source.grad is None else source.grad + grad

    def to_dot(self) -> str:
        """The graph in Graphviz's DOT language, with values above the lines and gradients below."""
        lines = ["digraph {", "  rankdir=LR", "  edge [arrowhead=none]"]
        for i, edge in enumerate(self.edges):
            shape = "circle" if edge.node else "plaintext"
            lines.append(f"  n{i} [shape={shape}, label=<{_escape(_symbol(edge))}>]")
            # The labels of an edge are a node too: a table of two rows, whose rule is a piece of the line.
            rows = (f'<tr><td><font color="{c}">{_escape(s)}</font></td></tr>' for s, c in _labels(edge))
            lines.append(f'  e{i} [shape=plain, label=<<table border="0">{"<hr/>".join(rows)}</table>>]')
            lines.append(f"  n{i} -> e{i}")
            lines += [f"  e{self.edges.index(source)} -> n{i} [arrowhead=normal]" for source in edge.sources]
        return "\n".join([*lines, "}\n"])

    def draw(self, path: str | os.PathLike[str] | None = None) -> None:
        """
        Draw the graph from left to right, with values above the lines and gradients below; needs matplotlib.

        With a `path`, the picture is written there, in the format of the suffix; without, it is shown.
        """
        pictures.draw(lambda figure: _paint(self.edges, figure), path)

    def _append(self, edge: Edge) -> Edge:
        self.edges.append(edge)
        return edge

    def _own(self, edge: Edge) -> None:
        if not isinstance(edge, Edge):
            raise TypeError(f"an edge is needed, not {edge!r}: Graph.input makes one of a value")
        if edge.graph is not self:
            raise ValueError(f"the edge {edge.name!r} belongs to another graph")


def affine(g: Graph, x: Edge, W: Edge, b: Edge) -> Edge:
    """
    ``x W + b`` from nodes, with `x` of shape (N, D), `W` of (D, M) and `b` a row, (1, M), that is repeated N times.

    See Also
    --------
    fastnn.layers.Affine
    """
    product = g.apply(MatMul(), x, W)
    return g.apply(Add(), product, g.apply(Repeat(len(x.value)), b), name="a")


def softmax(g: Graph, x: Edge) -> Edge:
    """
    Softmax of the rows of `x` from nodes: ``y_i = exp(x_i - max(x)) / sum_j exp(x_j - max(x))``, shape (N, C).

    The maximum enters as a constant.  Its gradient is 0 but for rounding: shifting a row leaves its softmax unchanged.

    See Also
    --------
    fastnn.ops.softmax
    """
    _, C = _mini_batch("x", x)
    largest = g.input(x.value.max(axis=1, keepdims=True), name="max")
    e = g.apply(Exp(), g.apply(Sub(), x, g.apply(Repeat(C, axis=1), largest)))
    return g.apply(Div(), e, g.apply(Repeat(C, axis=1), g.apply(Sum(axis=1), e)), name="y")


def cross_entropy_error(g: Graph, y: Edge, t: Edge | np.typing.ArrayLike, *, eps: float = 1e-7) -> Edge:
    """
    Cross-entropy from nodes, a single number: ``L = -(1/N) sum_n sum_i t[n, i] log(y[n, i] + eps)``.

    `y` and the one-hot or soft targets `t` have shape (N, C).  Unlike the fused op, ``eps=0`` needs every `y` above 0.

    See Also
    --------
    fastnn.ops.cross_entropy_error
    """
    N, C = _mini_batch("y", y)
    if not isinstance(t, Edge):
        t = g.input(t, name="t")
    arguments.same_shape("t", t.value, "y", y.value)
    constant = g.input(np.full((N, C), arguments.epsilon(eps)), name=f"eps {eps:g}")
    terms = g.apply(Mul(), t, g.apply(Log(), g.apply(Add(), y, constant)))
    return g.apply(Mul(), g.apply(Sum(), terms), g.input(-1 / N, name="-1/N"), name="L")


def _floats(name: str, value: np.typing.ArrayLike) -> Any:
    """A copy of `value`, of float64; a NumPy scalar of a single number."""
    array = arguments.numeric(name, value)
    return array.astype(np.result_type(array, np.float64))[()]


def _mini_batch(name: str, edge: Edge) -> tuple[int, int]:
    if edge.value.ndim != 2 or edge.value.size == 0:
        raise ValueError(f"{name} must be rows of classes, of shape (N, C), but its shape is {edge.value.shape}")
    return edge.value.shape


# Drawing.  An edge leaves its node on a level line that bears its labels, and forks after that.

FONT, RADIUS, GAP, ROW = 10, 20, 40, 56  # points


def _escape(text: str) -> str:
    return html.escape(text).replace("\\", "&#92;") or " "


def _symbol(edge: Edge) -> str:
    return edge.node.symbol if edge.node else edge.name


def _labels(edge: Edge) -> tuple[tuple[str, str], ...]:
    """The text above the edge and the one below, each with its colour."""
    name = f"{edge.name} = " if edge.node and edge.name else ""
    return (name + _short(edge.value), "#1f5fa8"), ("" if edge.grad is None else _short(edge.grad), "#c0392b")


def _short(value: Any) -> str:
    if value.size > 4:
        return "×".join(map(str, value.shape))
    return f"{value:.4g}" if value.ndim == 0 else f"[{', '.join(map(_short, value))}]"


def _width(*texts: str) -> float:
    return 0.65 * FONT * max(map(len, texts)) + 10


def _half(edge: Edge) -> float:
    return RADIUS if edge.node else _width(edge.name) / 2


def _layout(edges: list[Edge], uses: dict[Edge, list[tuple[Edge, float]]]) -> tuple[dict[Edge, int], list[Any]]:
    """The column where each edge begins, and for each column the rows of the edges that begin there or pass through."""
    column: dict[Edge, int] = {}
    for edge in edges:
        column[edge] = 1 + max((column[source] for source in edge.sources), default=-1)
    for edge in edges:
        if edge.node is None:  # right before its first use
            column[edge] = min((column[user] for user, _ in uses[edge]), default=1) - 1
    rows: list[dict[Edge, float]] = [{} for _ in range(max(column.values(), default=-1) + 2)]
    for c in reversed(range(len(rows) - 1)):
        # Each edge wishes to be level with what comes of it in the next column; the wishes are then moved apart.
        wishes = {}
        for edge in edges:
            ahead = [rows[c + 1][user] + port / 2 for user, port in uses[edge] if column[user] == c + 1]
            if column[edge] <= c and edge in rows[c + 1]:
                ahead.append(rows[c + 1][edge])
            if ahead or column[edge] == c:
                wishes[edge] = sum(ahead) / max(len(ahead), 1)
        row = -np.inf
        for edge in sorted(wishes, key=wishes.__getitem__):
            rows[c][edge] = row = max(wishes[edge], row + 1)
        shift = float(np.mean([rows[c][edge] - wish for edge, wish in wishes.items()]))
        rows[c] = {edge: row - shift for edge, row in rows[c].items()}
    return column, rows[:-1]


def _paint(edges: list[Edge], figure: Any) -> None:
    from matplotlib.patches import Circle, FancyArrowPatch
    from matplotlib.path import Path

    uses: dict[Edge, list[tuple[Edge, float]]] = {edge: [] for edge in edges}
    for edge in edges:
        for i, source in enumerate(edge.sources):
            uses[source].append((edge, i - (len(edge.sources) - 1) / 2))
    column, rows = _layout(edges, uses)

    left, middle, right = [], [], []  # of each column: where it begins, where its labels begin, where it ends
    width: float = GAP / 2
    for c in range(len(rows)):
        here = [edge for edge in edges if column[edge] == c]
        left.append(width)
        middle.append(left[c] + 2 * max(map(_half, here)))
        right.append(middle[c] + max(_width(*(text for text, _ in _labels(edge))) for edge in here))
        width = right[c] + GAP
    heights = [-ROW * row for places in rows for row in places.values()] or [0.0]
    low, high = min(heights) - ROW / 2, max(heights) + ROW / 2
    figure.set_size_inches(width / 72, (high - low) / 72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(low, high), aspect="equal")
    axes.set_axis_off()

    def center(edge: Edge) -> tuple[float, float]:
        c = column[edge]
        return (left[c] + middle[c]) / 2, -ROW * rows[c][edge]

    for edge in edges:
        c, (x, y) = column[edge], center(edge)
        axes.text(x, y, _symbol(edge), size=FONT, ha="center", va="center", parse_math=False)
        if edge.node:
            axes.add_patch(Circle((x, y), RADIUS, fill=False))
        for (text, color), (va, up) in zip(_labels(edge), (("bottom", 3), ("top", -3)), strict=True):
            place = (middle[c] + right[c]) / 2, y + up
            axes.text(*place, text, size=FONT, color=color, ha="center", va=va, parse_math=False)
        lines = [] if uses[edge] else [[(right[c] + GAP / 2, y)]]
        for user, port in uses[edge]:
            passing = [(end[k], -ROW * rows[k][edge]) for k in range(c + 1, column[user]) for end in (left, right)]
            x_user, y_user = center(user)
            tip = x_user - RADIUS * np.cos(port), y_user - RADIUS * np.sin(port)
            lines.append([(right[c], y), *passing, (left[column[user]] - 8, tip[1]), tip])
        for line in lines:
            path = Path([(x + _half(edge), y), *line])
            axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=10, color="black"))
