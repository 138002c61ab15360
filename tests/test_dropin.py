"""fastnn in place of somebody else's layers: their scripts, in both volumes' styles, run without an edit."""

import os
import sys
import textwrap
import types

import books
import numpy as np
import processes
import pytest

import fastnn
from fastnn import dropin, functions, layers, optimizers, trials
from fastnn.trials.base import difference

FUNCTIONS = (
    books.FUNCTIONS
    + """
def mean_squared_error(y, t):  # no mean
    return 0.5 * np.sum((y - t) ** 2)


def relu_grad(x):  # 1 at 0
    return (x >= 0) * 1.0
"""
)
OF_THEIRS = "from shared.functions import *\n\n"
LAYERS_1 = (
    books.VOLUME_1
    + """

class Dropout:
    def forward(self, x):
        return x
"""
)

OPTIMIZER = """
    class SGD:
        def __init__(self, lr=0.01):
            self.lr = lr

        def update(self, params, grads):
            for i in range(len(params)):
                params[i] -= self.lr * grads[i]
"""

TRAINING_1 = """
    import sys
    import numpy as np
    from shared.layers import *
    from shared.layers import Affine as Linear

    rng = np.random.RandomState(int(sys.argv[1]))
    x, t = rng.randn(60, 8), rng.randint(0, 4, 60)
    layers = [Affine(rng.randn(8, 12) * 0.3, np.zeros(12)), Relu(), Linear(rng.randn(12, 4) * 0.3, np.zeros(4))]
    last = SoftmaxWithLoss()
    for step in range(200):
        y = x
        for layer in layers:
            y = layer.forward(y)
        print("loss", repr(float(last.forward(y, t))))
        dout = last.backward()
        for layer in layers[::-1]:
            dout = layer.backward(dout)
        for layer in (layers[0], layers[2]):
            layer.W -= 0.2 * layer.dW
            layer.b -= 0.2 * layer.db
    print("class", type(layers[0]).__module__, type(layers[2]).__module__, __name__, sys.argv[1:])
"""

TRAINING_2 = """
    import numpy as np
    from shared.layers2 import Affine, Sigmoid, SoftmaxWithLoss
    from shared.optimizer import SGD

    rng = np.random.RandomState(0)
    x, t = rng.randn(40, 3, 5), rng.randint(0, 5, (40, 3))
    W, b = rng.randn(5, 5), np.zeros(5)
    layers = [Affine(W, b), Sigmoid(), Affine(W, np.zeros(5))]  # a shared weight
    last = SoftmaxWithLoss()
    params, grads = [], []
    for layer in layers:
        params += layer.params
        grads += layer.grads

    def without_duplicates(params, grads):
        params, grads = params[:], grads[:]
        for i in range(len(params)):
            for j in range(len(params) - 1, i, -1):
                if params[i] is params[j]:
                    grads[i] = grads[i] + grads[j]
                    del params[j], grads[j]
        return params, grads

    optimizer = SGD(lr=0.5)
    for step in range(100):
        y = x
        for layer in layers:
            y = layer.forward(y)
        print("loss", repr(float(last.forward(y.reshape(120, 5), t.reshape(120)))))
        dout = last.backward().reshape(40, 3, 5)
        for layer in layers[::-1]:
            dout = layer.backward(dout)
        optimizer.update(*without_duplicates(params, grads))
    print("class", type(layers[0]).__module__, type(optimizer).__module__)
"""

GRADIENT_CHECK = """
    import numpy as np

    def softmax(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    class Relu:
        def forward(self, x, train=True):  # takes one argument more
            self.mask = x <= 0
            return np.where(self.mask, 0, x)

        def backward(self, dout):
            return np.where(self.mask, 0, dout)

    class Affine:
        def __init__(self, W, b):
            self.W, self.b = W, b

        def forward(self, x):
            self.x = x
            return np.dot(x, self.W) + self.b

        def backward(self, dout):
            self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
            return np.dot(dout, self.W.T)

    class SoftmaxWithLoss:
        def forward(self, d, y):  # another order: targets first
            self.d, self.y = d, softmax(y)
            return -np.sum(d * np.log(self.y + 1e-7)) / len(d)

        def backward(self, dout=1):
            return (self.y - self.d) / len(self.d)

    rng = np.random.RandomState(0)
    x, d = rng.randn(5, 4), np.eye(3)[rng.randint(0, 3, 5)]
    layers = [Affine(rng.randn(4, 6), np.zeros(6)), Relu(), Affine(rng.randn(6, 3), np.zeros(3))]
    last = SoftmaxWithLoss()

    def loss():
        y = x
        for layer in layers:
            y = layer.forward(y)
        return last.forward(d, y)

    print("loss", repr(float(loss())))
    dout = last.backward()
    for layer in layers[::-1]:
        dout = layer.backward(dout)
    W = layers[0].W
    for i, j in np.ndindex(W.shape):
        kept, h = W[i, j], 1e-4
        W[i, j] = kept + h
        above = loss()
        W[i, j] = kept - h
        below = loss()
        W[i, j] = kept
        assert abs((above - below) / (2 * h) - layers[0].dW[i, j]) < 1e-5
    print("class", type(layers[0]).__module__, type(layers[1]).__module__, type(last).__module__)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shared").mkdir()
    files = {
        "shared/__init__.py": "",
        "shared/functions.py": FUNCTIONS,
        "shared/layers.py": OF_THEIRS + LAYERS_1,
        "shared/layers2.py": OF_THEIRS + books.VOLUME_2,
        "shared/optimizer.py": OPTIMIZER,
        "volume1.py": TRAINING_1,
        "volume2.py": TRAINING_2,
        "one_file.py": GRADIENT_CHECK,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def started(folder, *words):
    run = processes.run(sys.executable, *words, cwd=folder, env=environment())
    return run.returncode, run.stdout, run.stderr


def environment():
    # the folder that this fastnn was imported from, wherever the scripts run
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def losses(stdout):
    return np.array([float(line.split()[1]) for line in stdout.splitlines() if line.startswith("loss")])


def classes(stdout):
    return stdout.splitlines()[-1].split()[1:]


def assert_the_same_curve(folder, *words):
    code, before, errors = started(folder, *words)
    assert code == 0, errors
    code, after, report = started(folder, "-m", "fastnn", "run", *words)
    assert code == 0, report
    np.testing.assert_allclose(losses(after), losses(before), rtol=1e-9)
    assert len(losses(after)) >= 1
    return before, after, report


def test_a_training_in_the_style_of_volume_1(folder):
    before, after, report = assert_the_same_curve(folder, "volume1.py", "7")
    assert classes(before) == ["shared.layers", "shared.layers", "__main__", "['7']"]
    assert classes(after) == ["fastnn.layers.affine", "fastnn.layers.affine", "__main__", "['7']"]
    for name in ("shared.layers.Relu", "shared.layers.Affine", "shared.layers.SoftmaxWithLoss"):
        assert f"{name}: replaced" in report
    for name in ("sigmoid", "softmax", "cross_entropy_error"):
        assert f"shared.functions.{name}: replaced" in report
    assert "shared.functions.mean_squared_error: the value with numbers differs from fastnn's" in report
    assert "shared.functions.relu_grad: x of shape (4,) differs from fastnn's by up to 1" in report
    assert "Dropout" not in report


def test_a_training_in_the_style_of_volume_2_with_a_shared_weight(folder):
    before, after, report = assert_the_same_curve(folder, "volume2.py")
    assert classes(before) == ["shared.layers2", "shared.optimizer"]
    assert classes(after) == ["fastnn.dropin", "fastnn.optimizers"]  # the affine map of volume 2's last axis
    assert "shared.optimizer.SGD: replaced" in report


def test_a_gradient_check_in_one_file_with_an_incompatible_relu(folder):
    before, after, report = assert_the_same_curve(folder, "one_file.py")
    assert classes(before) == ["__main__"] * 3
    assert classes(after) == ["fastnn.dropin", "__main__", "__main__"]  # keeps all axes but the last
    assert "__main__.Affine: replaced" in report and "__main__.softmax: " in report
    assert "__main__.Relu: forward takes (x, train), fastnn's (x, train_flg)" in report
    assert "__main__.SoftmaxWithLoss: forward takes (d, y), fastnn's (x, t, train_flg)" in report


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import sys; sys.exit(3)", 3),
        ("raise SystemExit", 0),
        ("import sys; sys.exit('no such thing')", 1),
        ("def f():\n    return 1 / 0\nf()", 1),
        ("x = (", 1),
        ("raise KeyboardInterrupt", None),  # it ends by a signal
    ],
)
def test_exit_codes_and_errors_are_the_scripts(tmp_path, text, code):
    (tmp_path / "s.py").write_text(text)
    expected = started(tmp_path, "s.py")
    result = started(tmp_path, "-m", "fastnn", "run", "--quiet", "s.py")
    assert result == expected and code in (None, result[0])


def test_the_script_sees_what_it_would_see(tmp_path):
    (tmp_path / "beside.py").write_text("value = 5")
    (tmp_path / "s.py").write_text(
        "import sys, os, beside, pickle\nclass C: pass\n"
        "print(sys.argv, __name__, __file__, __doc__, sys.path[0], os.getcwd(), beside.value)\n"
        "print(beside.__loader__.get_source('beside'))\n"
        "print(sys.modules['__main__'].C is C, type(pickle.loads(pickle.dumps(C()))) is C, sorted(globals())[-3:])\n"
    )
    expected = started(tmp_path, "s.py", "a", "--b", "c")
    assert started(tmp_path, "-m", "fastnn", "run", "--quiet", "s.py", "a", "--b", "c") == expected
    assert expected[0] == 0


def test_a_missing_script_is_said(tmp_path):
    code, _, errors = started(tmp_path, "-m", "fastnn", "run", "nowhere.py")
    assert code == 2 and "nowhere.py" in errors and "Traceback" not in errors


# ---------------------------------------------------------------- patch


@pytest.fixture
def module():
    made = types.ModuleType("somebodys")
    exec(FUNCTIONS + LAYERS_1, made.__dict__)
    other = types.ModuleType("elsewhere")
    other.ReLU = made.Relu
    sys.modules |= {"somebodys": made, "elsewhere": other}
    yield made
    dropin.unpatch()
    del sys.modules["somebodys"], sys.modules["elsewhere"]


def test_patch_finds_every_name_and_undoes_it(module):
    theirs, elsewhere = module.Relu, sys.modules["elsewhere"]
    done = dropin.patch("somebodys")
    assert module.Relu is elsewhere.ReLU is fastnn.Relu
    assert {f.name for f in done.replaced} >= {"Relu", "Affine", "SoftmaxWithLoss", "softmax", "sigmoid"}
    assert {f.name for f in done.left} == {"mean_squared_error", "relu_grad"}
    dropin.unpatch()
    assert module.Relu is elsewhere.ReLU is theirs
    with dropin.patch(module, only=["Relu"]) as done:
        assert module.Relu is fastnn.Relu and module.Affine is not fastnn.Affine
        assert [str(f) for f in done.findings] == ["somebodys.Relu: replaced"]
    assert module.Relu is elsewhere.ReLU is theirs
    assert not [f for f in dropin.patch(fastnn).findings]


def test_what_was_assigned_meanwhile_is_kept(module):
    done = dropin.patch(module, only=["Relu"])
    module.Relu = "mine"
    done.undo()
    assert module.Relu == "mine"


def test_bad_arguments(module):
    with pytest.raises(ValueError, match="only has Dropout, which fastnn has not"):
        dropin.patch(module, only=["Dropout"])
    with pytest.raises(ValueError, match="dialect must be"):
        dropin.patch(module, dialect=3)
    with pytest.raises(ModuleNotFoundError):
        dropin.patch("no_such_module")


def left(source, name, **kwargs):
    made = types.ModuleType("theirs")
    exec(textwrap.dedent(source), made.__dict__)
    with dropin.patch(made, **kwargs) as done:
        [finding] = [f for f in done.findings if f.name == name]
        return finding.reason


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("Relu = 3", "Relu", "is no class"),
        ("def Relu(x): return x", "Relu", "is no class"),
        ("class softmax: pass", "softmax", "is a class"),
        ("def softmax(x, axis=-1): return x", "softmax", "takes (x, axis), fastnn's (x)"),
        ("def softmax(*x): return x", "softmax", "takes * or keyword-only arguments"),
        ("def cross_entropy_error(d, y): return 0", "cross_entropy_error", "takes (d, y), fastnn's (y, t)"),
        ("class Relu:\n  def forward(self, x): return x", "Relu", "has no method backward"),
        ("class Relu:\n  def half(self): pass", "Relu", "has a method half, which fastnn's has not"),
        (
            "class SGD:\n  def __init__(self, lr=0.1): pass\n  def update(self, params, grads): pass",
            "SGD",
            "has lr=0.1, fastnn's 0.01",
        ),
        ("def sigmoid(x): return x", "sigmoid", "differs from fastnn's"),
        ("def sigmoid(x): return undefined", "sigmoid", "could not be tried: NameError"),
        ("def sigmoid(x): return [1.0]", "sigmoid", "has shape (1,), fastnn's (4,)"),
    ],
)
def test_what_is_something_else_is_left(source, name, reason):
    assert reason in left(source, name)


def test_without_trying_the_signature_decides():
    assert left("def sigmoid(x): return x", "sigmoid", verify=False) == ""


def test_trying_leaves_the_global_generator_alone():
    state = np.random.get_state()[1:3]  # noqa: NPY002
    reason = left("import numpy as np\ndef sigmoid(x): return np.random.rand(*x.shape)", "sigmoid")
    assert "differs" in reason
    np.testing.assert_equal(np.random.get_state()[1:3], state)  # noqa: NPY002


def test_a_dialect_can_be_given(module):
    x, W, b = np.ones((2, 1, 4)), np.ones((4, 3)), np.zeros(3)
    for dialect, shape in (("auto", (2, 3)), (1, (2, 3)), (2, (2, 1, 3))):
        with dropin.patch(module, only=["Affine"], dialect=dialect, verify=False):
            assert module.Affine(W, b).forward(x).shape == shape


# ---------------------------------------------------------------- trials

every_name = pytest.mark.parametrize("name", dropin.OURS)


def test_ours_are_all_that_the_books_have():
    assert set(dropin.OURS) == {*layers.__all__, *functions.__all__, *optimizers.__all__, "numerical_gradient"}


@every_name
def test_everything_can_be_tried_and_is_like_itself(name):
    ours = dropin.OURS[name]
    assert difference(dropin.TRIALS[name], ours, ours) == ""


@every_name
def test_every_trial_finds_what_differs(name):
    ours = dropin.OURS[name]
    if not isinstance(ours, type):
        wrong = [lambda *args: ours(*args) + 1]
    else:
        wrong = [worse(ours, method) for method in dropin.methods(ours)]
        if issubclass(ours, layers.Layer):
            wrong += [worse_gradient(ours, i) for i in range(len(ours.parameters))]
    for theirs in wrong:
        for trial in dropin.TRIALS[name]:
            assert difference([trial], theirs, ours), (theirs, trial)


def worse(ours, method):
    """A class whose method gives something else, or that of an optimizer changes the parameters in another way."""

    def changed(self, *args):
        result = getattr(ours, method)(self, *args)
        if result is not None:
            return result + 1
        for p in args[0].values() if isinstance(args[0], dict) else args[0]:
            p += 1
        return None

    return type("Worse", (ours,), {method: changed})


def worse_gradient(ours, i):
    """A class with another gradient of its i-th parameter."""

    def backward(self, dout):
        dx = super(theirs, self).backward(dout)
        self.grads[i][...] += 1
        return dx

    theirs = type("Worse", (ours,), {"backward": backward})
    return theirs


class ForLabels(layers.SoftmaxWithLoss):
    """As the books write it, and wrong for one-hot targets."""

    def forward(self, x, t):
        return super().forward(x, t if t.ndim == 1 else t[:, ::-1])


class OfSamples(layers.SigmoidWithLoss):
    """As volume 2 writes it: a logit for each sample."""

    def forward(self, x, t):
        self.t, self.y = t, 1 / (1 + np.exp(-x))
        return fastnn.cross_entropy_error(np.c_[1 - self.y, self.y], t)


class ForLists(optimizers.SGD):
    """As volume 2 writes it, and wrong for dicts."""

    def update(self, params, grads):
        if isinstance(params, list):
            super().update(params, grads)


@pytest.mark.parametrize(
    "name, theirs, reason",
    [
        ("SoftmaxWithLoss", ForLabels, "forward with one-hot targets differs"),
        ("SigmoidWithLoss", OfSamples, ""),
        ("SGD", ForLists, "a parameter differs"),
        ("Affine", dropin._LastAxisAffine, "forward of (6, 1, 4) has shape (6, 1, 3), fastnn's (6, 3)"),
    ],
)
def test_every_kind_of_argument_is_tried(name, theirs, reason):
    found = difference(dropin.TRIALS[name], theirs, dropin.OURS[name])
    assert found.startswith(reason) if reason else not found


def test_what_no_trial_knows_is_named():
    class Unknown(layers.Layer):
        parameters = ("W",)

    def unheard(a, b, c):
        """Neither of x alone, nor with a target."""

    def new_error(y, t):
        """A loss that no op is like."""

    for ours, name in (
        (Unknown, "Unknown"),
        (unheard, "unheard"),
        (new_error, "new_error"),
        (type("Other", (), {}), "Other"),
    ):
        with pytest.raises(LookupError, match=f"{name} has no trial: none of .*fastnn.trials.losses"):
            trials.of(ours)


def test_what_declares_enough_needs_no_trial_of_its_own():
    class Tripled(layers.Relu):
        elementwise = True

        def forward(self, x, train_flg=True):
            return 3 * super().forward(x, train_flg)

    def tripled(x, *, out=None):
        return 3 * x

    for ours, theirs in ((Tripled, layers.Relu), (tripled, functions.identity_function)):
        assert difference(trials.of(ours), ours, ours) == ""
        assert "differs from fastnn's" in difference(trials.of(ours), theirs, ours)
