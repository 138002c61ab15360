"""The computation graph: each node's rule, the books' examples, the fused ops held against nodes, and the drawings."""

import itertools
import re
import sys

import numpy as np
import pytest

from fastnn import ops
from fastnn.graph import (
    Add,
    Div,
    Exp,
    Graph,
    Log,
    MatMul,
    Mul,
    Repeat,
    Sub,
    Sum,
    affine,
    cross_entropy_error,
    softmax,
)
from fastnn.layers import Affine, Softmax, SoftmaxWithLoss

NODES = [
    *((node, [shape, shape]) for node in (Add(), Sub(), Mul(), Div()) for shape in ((), (3,), (2, 3), (2, 1, 3))),
    *((node, [shape]) for node in (Log(), Exp(), Sum()) for shape in ((), (3,), (2, 3), (2, 1, 3))),
    *((Sum(axis), [(2, 3, 4)]) for axis in (0, 1, 2, -1)),
    *((Repeat(5, axis), [(1, 3, 1)]) for axis in (0, 2, -1, -3)),
    *((Repeat(n), [(1,)]) for n in (1, 2)),
    *((MatMul(), shapes) for shapes in ([(2, 3), (3, 4)], [(1, 1), (1, 1)], [(5, 2), (2, 1)])),
]


def nodes(test):
    names = [f"{type(node).__name__}-{'-'.join(map(str, shapes))}" for node, shapes in NODES]
    return pytest.mark.parametrize("node, shapes", NODES, ids=names)(test)


def positive(rng, shape):
    return np.asarray(rng.uniform(0.5, 2, shape))


def central_difference(f, x, h=1e-5):
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


def assert_same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


@nodes
def test_gradients_of_nodes(rng, node, shapes):
    inputs = [positive(rng, shape) for shape in shapes]
    dout = rng.standard_normal(node.forward(*inputs).shape)
    gradients = node.backward(dout)
    assert isinstance(gradients, tuple) and len(gradients) == len(inputs)
    for i, gradient in enumerate(gradients):

        def loss(x, i=i):
            return np.sum(dout * node.forward(*inputs[:i], x, *inputs[i + 1 :]))

        expected = central_difference(loss, inputs[i])
        assert gradient.shape == inputs[i].shape
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


@nodes
def test_nodes_change_nothing_and_share_nothing(rng, node, shapes):
    inputs = [positive(rng, shape) for shape in shapes]
    kept = [x.copy() for x in inputs]
    out = node.forward(*inputs)
    dout = positive(rng, out.shape)
    kept_dout = dout.copy()
    first = [np.array(g) for g in node.backward(dout)]
    for before, after in zip([*kept, kept_dout], [*inputs, dout], strict=True):
        np.testing.assert_array_equal(after, before)
    results = [a for a in (out, *node.backward(dout)) if isinstance(a, np.ndarray)]
    for one, other in itertools.combinations([*results, *inputs, dout], 2):
        assert not np.shares_memory(one, other)
    for array in [*results, *inputs]:
        array[...] = np.nan
    for gradient, expected in zip(node.backward(dout), first, strict=True):
        np.testing.assert_array_equal(gradient, expected)


def test_the_rules_by_hand():
    for node, inputs, out, gradients in [
        (Add(), (3, 4), 7, (2, 2)),
        (Sub(), (3, 4), -1, (2, -2)),
        (Mul(), (3, 4), 12, (8, 6)),
        (Div(), (3, 4), 0.75, (0.5, -0.375)),
        (Log(), (4,), np.log(4), (0.5,)),
        (Exp(), (1,), np.e, (2 * np.e,)),
    ]:
        assert_same(node.forward(*inputs), out)
        assert_same(node.backward(2), gradients)
    total, repeat = Sum(axis=1), Repeat(2, axis=1)
    np.testing.assert_array_equal(total.forward([[1, 2], [3, 4]]), [[3], [7]])
    np.testing.assert_array_equal(total.backward([[5], [6]])[0], [[5, 5], [6, 6]])
    np.testing.assert_array_equal(repeat.forward([[5], [6]]), [[5, 5], [6, 6]])
    np.testing.assert_array_equal(repeat.backward([[1, 2], [3, 4]])[0], [[3], [7]])
    assert Sum().forward([[1, 2], [3, 4]]) == 10


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, np.float32, ">f8", int])
def test_everything_is_float64(dtype):
    x = np.ones((2, 2), dtype)
    for node in (Add(), Sub(), Mul(), Div(), MatMul()):
        assert node.forward(x, x).dtype == node.backward(x)[0].dtype == np.float64
    assert Graph().input(dtype(1) if callable(dtype) else x).value.dtype == np.float64


def apples(tax=1.1):
    g = Graph()
    apple, number, rate = g.input(100, name="apple"), g.input(2, name="number"), g.input(tax, name="tax")
    return g, g.apply(Mul(), g.apply(Mul(), apple, number), rate, name="price")


def test_two_apples():
    g, price = apples()
    assert price.value == pytest.approx(220)
    assert [edge.grad for edge in g.edges] == [None] * 5
    g.backward(price)
    assert_same([edge.grad for edge in g.edges], [2.2, 110, 200, 1.1, 1])
    assert [edge.name for edge in g.edges] == ["apple", "number", "tax", "", "price"]


def test_apples_and_oranges():
    g = Graph()
    apple, apples, orange, oranges, tax = inputs = [g.input(value) for value in (100, 2, 150, 3, 1.1)]
    fruit = g.apply(Add(), g.apply(Mul(), apple, apples), g.apply(Mul(), orange, oranges))
    price = g.apply(Mul(), fruit, tax)
    g.backward(price)
    assert_same(price.value, 715)
    assert_same([edge.grad for edge in inputs], [2.2, 110, 3.3, 165, 650])


def test_an_edge_used_more_than_once():
    g = Graph()
    x = g.input(3.0)
    square = g.apply(Mul(), x, x)
    y = g.apply(Add(), g.apply(Mul(), square, x), g.apply(Exp(), x))  # x**3 + exp(x)
    g.backward(y)
    assert_same(x.grad, 27 + np.exp(3))


def test_backward_again_and_from_elsewhere():
    g, price = apples()
    g.backward(price)
    first = [edge.grad for edge in g.edges]
    g.backward(price)
    assert [edge.grad for edge in g.edges] == first
    g.backward(g.edges[3])
    assert [edge.grad for edge in g.edges] == [2, 100, None, 1, None]
    extended = g.apply(Sub(), price, g.input(20))
    g.backward(extended)
    assert [edge.grad for edge in g.edges] == [*first, -1, 1]


def test_backward_starts_from_one_number_of_any_shape():
    g = Graph()
    x = g.input([[1, 2], [3, 4]])
    one = g.apply(Sum(axis=0), g.apply(Sum(axis=1), x))
    g.backward(one)
    np.testing.assert_array_equal(one.grad, [[1]])
    np.testing.assert_array_equal(x.grad, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"starts from a single number, but the edge has shape \(2, 2\)"):
        g.backward(x)
    np.testing.assert_array_equal(x.grad, np.ones((2, 2)))


def test_an_input_is_a_copy():
    x = np.array([1.0, 2.0])
    g = Graph()
    edge = g.input(x)
    y = g.apply(Sum(), g.apply(Log(), edge))
    x[:] = 7
    edge.value[:] = 7
    g.backward(y)
    np.testing.assert_array_equal(edge.grad, [1, 0.5])


@pytest.mark.parametrize("node", [Add(), Sub(), Mul(), Div()])
@pytest.mark.parametrize("shapes", [((2, 3), (1, 3)), ((3,), ()), ((3,), (3, 1))])
def test_unequal_shapes_are_refused(node, shapes):
    message = f"{type(node).__name__} needs inputs of one shape, not {shapes[0]} and {shapes[1]}: Repeat"
    with pytest.raises(ValueError, match=re.escape(message)):
        node.forward(*map(np.ones, shapes))


def test_shapes_that_do_not_fit_are_refused():
    for shapes in (((2, 3), (2, 3)), ((3,), (3, 2)), ((1, 2, 3), (3, 4)), ((2, 3), ())):
        with pytest.raises(ValueError, match=r"MatMul needs inputs of shapes \(N, D\) and \(D, M\), not "):
            MatMul().forward(*map(np.ones, shapes))
    for shape, axis in (((2, 3), 0), ((1, 3), 1), ((), 0), ((1,), 1), ((1,), -2)):
        with pytest.raises(ValueError, match=f"Repeat needs length 1 along axis {axis}, but the shape is "):
            Repeat(2, axis).forward(np.ones(shape))
    with pytest.raises(ValueError, match="n must be at least 0, not"):
        Repeat(-1)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        Sum(2).forward(np.ones((2, 3)))


def test_nodes_refuse_what_is_no_gradient():
    node = Log()
    with pytest.raises(RuntimeError, match="backward was called before forward"):
        node.backward(1)
    node.forward([1, 2])
    with pytest.raises(ValueError, match=r"dout has shape \(\), but forward gave \(2,\)"):
        node.backward(1)
    with pytest.raises(TypeError, match="an input must be an array of real numbers"):
        node.forward("a")
    np.testing.assert_array_equal(node.backward([1, 1])[0], [1, 0.5])


def test_graphs_refuse_what_is_not_theirs():
    g, price = apples()
    other, node = Graph(), Mul()
    x = other.input(1, name="x")
    with pytest.raises(ValueError, match="the edge 'price' belongs to another graph"):
        other.apply(node, x, price)
    with pytest.raises(ValueError, match="the edge 'x' belongs to another graph"):
        g.backward(x)
    with pytest.raises(TypeError, match="an edge is needed, not 2"):
        other.apply(node, x, 2)
    with pytest.raises(TypeError, match="a node is needed, such as Mul"):
        other.apply(Mul, x, x)
    with pytest.raises(ValueError, match="Mul needs inputs of one shape"):
        other.apply(node, x, other.input([1, 2]))
    other.apply(node, x, x)
    for graph in (g, other):
        with pytest.raises(ValueError, match="this Mul has run already: each place in a graph needs its own node"):
            graph.apply(node, *[graph.edges[0]] * 2)


@pytest.fixture
def batch(rng):
    x = 3 * rng.standard_normal((5, 4))
    return x, np.eye(4)[[0, 3, 1, 1, 2]]


def test_the_gradients_of_softmax_and_cross_entropy(batch):
    x, t = batch
    g = Graph()
    start = g.input(x)
    y = softmax(g, start)
    loss = cross_entropy_error(g, y, g.input(t), eps=0)
    g.backward(loss)
    assert_same(y.grad, -t / (y.value * 5))
    assert_same(start.grad, (y.value - t) / 5)
    (largest,) = (edge for edge in g.edges if edge.name == "max")
    np.testing.assert_allclose(largest.grad, 0, atol=1e-15)


@pytest.mark.parametrize("eps", [0, 1e-7, 0.1])
def test_fused_losses_are_the_graph(backend, batch, eps):
    x, t = batch
    g = Graph()
    start = g.input(x)
    y = softmax(g, start)
    loss = cross_entropy_error(g, y, t, eps=eps)
    g.backward(loss)
    for labels in (t, t.argmax(axis=1)):
        fused_loss, fused_y = ops.softmax_cross_entropy(x, labels, eps=eps)
        assert_same(fused_loss, loss.value)
        assert_same(fused_y, y.value)
        assert_same(ops.cross_entropy_error(y.value, labels, eps=eps), loss.value)
        assert_same(ops.cross_entropy_error_backward(y.value, labels, eps=eps), y.grad)
        if eps == 0:  # the combined gradient leaves the eps out, as the books do
            assert_same(ops.softmax_cross_entropy_backward(fused_y, labels), start.grad)
            layer = SoftmaxWithLoss(eps=eps)
            assert_same(layer.forward(x, labels), loss.value)
            assert_same(layer.backward(), start.grad)
    assert_same(ops.softmax_backward(y.grad, y.value), start.grad)


def test_the_default_eps_is_that_of_the_op(backend):
    g = Graph()
    y, t = np.array([[1.0, 0.0], [0.25, 0.75]]), np.array([[0, 1], [1, 0]])
    assert_same(ops.cross_entropy_error(y, t), cross_entropy_error(g, g.input(y), t).value)


@pytest.mark.parametrize("shift", [0, 1000, -1000])
def test_fused_softmax_is_the_graph(backend, rng, batch, shift):
    x, weights = batch[0] + shift, rng.standard_normal((5, 4))
    g = Graph()
    start = g.input(x)
    y = softmax(g, start)
    g.backward(g.apply(Sum(), g.apply(Mul(), y, g.input(weights))))
    layer = Softmax()
    for fused in (ops.softmax(x), layer.forward(x)):
        assert_same(fused, y.value)
    for fused in (ops.softmax_backward(weights, ops.softmax(x)), layer.backward(weights)):
        np.testing.assert_allclose(fused, start.grad, rtol=1e-12, atol=1e-14)


def test_affine_is_the_graph(backend, rng):
    x, W, b, weights = (rng.standard_normal(shape) for shape in ((5, 4), (4, 3), (1, 3), (5, 3)))
    g = Graph()
    inputs = [g.input(a) for a in (x, W, b)]
    out = affine(g, *inputs)
    g.backward(g.apply(Sum(), g.apply(Mul(), out, g.input(weights))))
    layer = Affine(W, b[0])
    assert_same(layer.forward(x), out.value)
    gradients = layer.backward(weights), layer.dW, layer.db[np.newaxis]
    for edge, gradient in zip(inputs, gradients, strict=True):
        assert_same(gradient, edge.grad)


def test_wrong_batches_are_refused(batch):
    g = Graph()
    for shape in ((3,), (), (0, 3), (2, 0), (2, 3, 4)):
        edge = g.input(np.ones(shape))
        for wire in (softmax, lambda g, y: cross_entropy_error(g, y, 1)):
            with pytest.raises(ValueError, match=r"must be rows of classes, of shape \(N, C\), but its shape is "):
                wire(g, edge)
    y = g.input(batch[0])
    with pytest.raises(ValueError, match=r"t has shape \(5,\), but y has shape \(5, 4\)"):
        cross_entropy_error(g, y, [0, 3, 1, 1, 2])
    with pytest.raises(ValueError, match="eps must be"):
        cross_entropy_error(g, y, batch[1], eps=-1)
    with pytest.raises(ValueError, match=r"Repeat needs length 1 along axis 0, but the shape is \(3,\)"):
        affine(g, y, g.input(np.ones((4, 3))), g.input(np.ones(3)))


def test_dot():
    g = Graph()
    x = g.input([[1, 2.5]], name='a "b" <c> \\N & 値')
    y = g.apply(Sum(), g.apply(Mul(), x, g.input(np.ones((1, 2)))), name="y")
    g.apply(Repeat(5, axis=0), x)
    g.input(np.ones((2, 3)))
    before = g.to_dot()
    g.backward(y)
    dot = g.to_dot()
    assert dot.startswith("digraph {\n") and dot.endswith("}\n")
    for text in (before, dot):
        for opening, closing in ("{}", "[]", "<>"):
            assert text.count(opening) == text.replace("->", "").count(closing)
        assert text.count('"') % 2 == 0 and "\\" not in text
        tags = re.findall(r"<(/?)(table|tr|td|font)\b", text)
        assert all(tags.count(("", tag)) == tags.count(("/", tag)) == tags.count(("", tag)) for _, tag in tags)
    assert "label=<a &quot;b&quot; &lt;c&gt; &#92;N &amp; 値>" in dot
    assert re.search(r'e0 .*">\[\[1, 2.5\]\]</font>.*<hr/>.*">\[\[1, 1\]\]</font>', dot)
    assert re.search(r'e3 .*">y = 3.5</font>.*<hr/>.*">1</font>', dot)
    assert re.search(r'e5 .*">2×3</font>.*<hr/>.*"> </font>', dot)
    assert re.search(r'e0 .*<hr/>.*"> </font>', before)
    for symbol in ("Σ", "×", "repeat"):
        assert f"[shape=circle, label=<{symbol}>]" in dot
    uses = re.findall(r"^  (e\d) -> (n\d)", dot, re.MULTILINE)
    assert sorted(uses) == [("e0", "n2"), ("e0", "n4"), ("e1", "n2"), ("e2", "n3")]
    assert Graph().to_dot().count("->") == 0


def graphs():
    yield apples()[0]
    g = Graph()
    x, W, b = (
        g.input(np.full(shape, 0.125), name=name) for name, shape in (("x", (2, 4)), ("W", (4, 3)), ("b", (1, 3)))
    )
    g.backward(cross_entropy_error(g, softmax(g, affine(g, x, W, b)), np.eye(3)[:2]))
    yield g
    g = Graph()
    x = g.input([-1 / 3, -2 / 3], name="a long name $x$")
    y = g.apply(Mul(), g.apply(Exp(), x), x)
    g.apply(Div(), g.apply(Mul(), y, y), x)
    g.apply(Sum(), g.apply(Repeat(3), g.input([1], name="one")))
    g.apply(Add(), y, g.input([1, 2], name="a name that makes its column wide"))
    g.input(3)
    yield g
    yield Graph()


@pytest.mark.parametrize("suffix, magic", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_drawing_is_written(tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    for i, g in enumerate(graphs()):
        path = tmp_path / f"{i}.{suffix}"
        g.draw(path)
        assert path.read_bytes().startswith(magic)
    apples()[0].draw(str(tmp_path / f"string.{suffix}"))
    assert (tmp_path / f"string.{suffix}").exists()


def test_nothing_in_a_drawing_overlaps(monkeypatch):
    figures = []
    figure = pytest.importorskip("matplotlib.figure")
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, dpi: figures.append(self))
    for g in graphs():
        g.draw("unused.png")
        (axes,) = figures[-1].axes
        figures[-1].draw_without_rendering()
        texts = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert all(figures[-1].bbox.count_contains([box.p0, box.p1]) == 2 for box in texts)
        circles = [patch for patch in axes.patches if hasattr(patch, "radius")]
        arrows = [patch.get_path() for patch in axes.patches if patch not in circles]
        lines = [axes.transData.transform(p) for path in arrows for p in path.to_polygons(closed_only=False)]
        centers = [axes.transData.transform(circle.center) for circle in circles]
        radius = circles[0].get_window_extent().width / 2 if circles else 0
        assert len(arrows) >= len(g.edges) - 1
        for one, other in itertools.combinations(texts, 2):
            assert not one.overlaps(other)
        for one, other in itertools.combinations(centers, 2):
            assert np.hypot(*(one - other)) > 2 * radius
        for line in lines:
            for begin, end in itertools.pairwise(line):
                points = begin + (end - begin) * np.linspace(0, 1, 200)[:, np.newaxis]
                assert not any(box.count_contains(points) for box in texts)
                assert all(np.hypot(*(points - center).T).min() > radius - 1 for center in centers)


def test_a_drawing_is_shown(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    apples()[0].draw()
    assert [len(figures) for figures in shown] == [1]
    pyplot.close("all")


def test_matplotlib_is_needed_only_for_drawing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    g, price = apples()
    g.backward(price)
    g.to_dot()
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):
        g.draw("unused.png")
