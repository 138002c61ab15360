"""fastnn profile: scripts in both volumes' styles, in processes of their own."""

import html
import json
import os
import sys
from types import SimpleNamespace

import books
import processes
import pytest

from fastnn import cli, reports, scripts

OF_ANOTHER_KIND = """

class Sigmoid:  # it is left as it is
    def forward(self, x):
        self.out = np.tanh(x)
        return self.out

    def backward(self, dout):
        return dout * (1 - self.out**2)
"""
LAYERS = {
    1: books.FUNCTIONS + books.VOLUME_1 + OF_ANOTHER_KIND,
    2: books.FUNCTIONS + books.VOLUME_2 + OF_ANOTHER_KIND,
}

TRAINING = """
import sys

x, t = np.random.rand(500, 784), np.random.randint(0, 10, 500)
hidden = Affine(0.01 * np.random.randn(784, 50), np.zeros(50))
last = Affine(0.01 * np.random.randn(50, 10), np.zeros(10))
network, loss = [hidden, Relu(), last], SoftmaxWithLoss()
for step in range(int(sys.argv[1])):
    batch = np.random.choice(500, 100)
    y = x[batch]
    for layer in network:
        y = layer.forward(y)
    value, dout = loss.forward(y, t[batch]), loss.backward()
    for layer in reversed(network):
        dout = layer.backward(dout)
    for layer in network:
        UPDATE
print(f"loss {value:.6f}")
"""
VOLUMES = {
    1: "if hasattr(layer, 'W'): layer.W[...] -= 0.1 * layer.dW; layer.b[...] -= 0.1 * layer.db",
    2: "[p.__isub__(0.1 * g) for p, g in zip(layer.params, layer.grads)]",
}
CLOCK = """
import time
begin = time.perf_counter()
"""
STOPPED = """
with open(sys.argv[2], "a") as file:
    print(time.perf_counter() - begin, file=file)
"""


def script(tmp_path, text, name="train.py"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.fixture(autouse=True, scope="module")
def working_folder(tmp_path_factory):
    """One that is soon copied."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("here"))
    yield
    os.chdir(before)


def training(volume):
    return TRAINING.replace("UPDATE", VOLUMES[volume])


def test_a_two_layer_network_adds_up(tmp_path, capfd, monkeypatch):
    if sys.platform != "win32":  # whose clock of this kind is coarse; it does not run while other processes do
        monkeypatch.setattr(scripts, "_CHILD", f"import time; time.perf_counter = time.process_time; {scripts._CHILD}")
    path = script(tmp_path, CLOCK + LAYERS[1] + training(1) + STOPPED)
    report = scripts.profile_script(path, ["400", str(tmp_path / "clock")])
    assert capfd.readouterr().out.count("loss ") == 1
    own = [float(line) for line in (tmp_path / "clock").read_text().splitlines()]
    for run, seconds in zip(report.runs, own, strict=True):
        assert run.in_lines + sum(run.parts.values()) + run.trying == pytest.approx(seconds, rel=0.03)
        assert run.trying > 0
        assert min(run.parts.values()) >= 0
    first, second = report.runs
    assert 0 < first.products < first.in_lines
    calls = {(line.layer, line.shape): line.calls for line in first.lines}
    assert calls == {(line.layer, line.shape): line.calls for line in second.lines}
    # The first call of a kind is no line's.
    for name in ("Affine.forward", "Affine.backward", "Relu.forward", "SoftmaxWithLoss.backward"):
        assert 397 <= sum(n for (layer, _), n in calls.items() if layer == name) / (2 if "Affine" in name else 1) < 400
    inside = {(op.layer, op.op, op.shape): op.calls for op in second.inside}
    assert 397 <= inside["Affine.backward", "affine_backward", (100, 50)] < 400 and first.inside == []
    for row in report.rows:
        assert sum(op.seconds[0] for op in report.inside(row)) <= 1.1 * row.seconds[1]
    assert len(first.losses) == len(second.losses) >= 397 and max(report.loss_differences[:100]) < 1e-9
    assert {run.name for run in report.runs} == {"as it stands", report.config["backend"]}


@pytest.mark.parametrize("volume", VOLUMES)
def test_both_volumes_with_layers_in_a_module(tmp_path, volume, capfd):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "layers.py").write_text(LAYERS[volume])
    text = "import numpy as np\nfrom common.layers import *\n" + training(volume)
    report = scripts.profile_script(script(tmp_path, text), ["5"])
    out, err = capfd.readouterr()
    assert out.startswith("loss ") and err == ""
    assert {row.name for row in report.rows} == {
        f"{layer}.{way}" for layer in ("Affine", "Relu", "SoftmaxWithLoss") for way in ("forward", "backward")
    }
    assert all(row.ratio for row in report.rows)
    assert not any("Sigmoid" in note for note in report.notes)  # it was not called
    assert report.runs[0].losses == pytest.approx(report.runs[1].losses, rel=1e-12)


def test_the_remainder_says_what_it_is(tmp_path):
    text = """
import gzip, pickle
import numpy as np
class Sigmoid:
    def __init__(self):
        self.out = None
    def forward(self, x):
        self.out = np.tanh(x)
        return self.out
    def backward(self, dout):
        return dout * (1 - self.out**2)
from pathlib import Path
folder = Path(__file__).parent
np.save(folder / "x.npy", np.ones((300, 300)))
x = np.load(folder / "x.npy")
with gzip.open(folder / "x.gz", "wb") as file:
    pickle.dump(x, file)
with gzip.open(folder / "x.gz") as file:
    x = pickle.load(file)
for _ in range(5):
    x = np.einsum("ij,jk->ik", np.matmul(np.dot(x, x), x), x) / 1e9
import wave
Sigmoid().forward(x)
"""
    report = scripts.profile_script(script(tmp_path, text))
    assert report.rows == []
    for run in report.runs:
        assert list(run.parts) == ["matrix products", "loading data", "imports", "left as they are", reports.REST]
        assert min(run.parts.values()) > 0
    assert report.notes[0] == "fastnn served no call: the two runs are the same."
    assert report.notes[1] == "__main__.Sigmoid.forward: is like no op of fastnn's."


SMALL = """
import threading
import numpy as np
def sigmoid(x):
    return 1 / (1 + np.exp(-x))
def relu(x):
    return np.maximum(0, x)
def mean_squared_error(y, t):
    return 0.5 * np.mean((y - t) ** 2)
class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr
    def update(self, params, grads):
        for key in params:
            params[key] -= self.lr * grads[key]
class Relu:
    def __init__(self):
        import later
    def forward(self, x):
        self.mask = x <= 0
        return np.where(self.mask, 0, x)
params = {"W": np.ones((4, 3))}
for _ in range(4):
    y = sigmoid(np.random.randn(5, 4).dot(params["W"]))
    mean_squared_error(y, np.zeros((5, 3)))
    SGD().update(params, {"W": np.ones((4, 3))})
thread = threading.Thread(target=lambda: [relu(np.ones(9)) for _ in range(9)])
thread.start()
thread.join()
for _ in range(2):
    relu(np.ones(3))
    Relu().forward(np.ones(3))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The report on SMALL, and its rows by name."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "later.py").write_text("import numpy as np\ndef softmax(x):\n    return np.exp(x) / np.exp(x).sum()\n")
    report = scripts.profile_script(script(folder, SMALL))
    return report, {row.name: row for row in report.rows}


def test_functions_and_optimizers(small):
    report, rows = small
    assert rows.keys() == {"sigmoid", "mean_squared_error", "SGD.update", "relu", "Relu.forward"}
    for name, op in {"sigmoid": "sigmoid", "mean_squared_error": "mean_squared_error", "SGD.update": "sgd"}.items():
        assert rows[name].calls == 3 and [op.op for op in report.inside(rows[name])] == [op]
    assert len(report.runs[0].losses) == 3 and max(report.loss_differences) < 1e-12


def test_what_runs_in_other_threads_is_not_counted(small):
    _, rows = small
    assert (rows["relu"].calls, rows["relu"].shapes) == (2, ((3,),))


def test_a_layer_that_imports(small):
    _, rows = small
    assert rows["Relu.forward"].calls == 1 and rows["Relu.forward"].ratio


# ---------------------------------------------------------------- the command


def test_the_command_writes_its_reports(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # long times fold names in a narrow table
    name = "&amp.py" if sys.platform == "win32" else "<b>&amp.py"
    path = script(tmp_path, LAYERS[2] + training(2), name)
    files = [str(tmp_path / name) for name in ("report.json", "report.html")]
    assert cli.main(["profile", "--json", files[0], "--html", files[1], "--fail-below", "1e-9", path, "5"]) == 0
    out = capfd.readouterr().out
    for word in (f"Profile of {name}", "Affine.forward", "everything else", "the whole", "blas core"):
        assert word in out
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["version"] == 1 and len(found["runs"]) == 2 and found["speed-up"] > 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Profile of {html.escape(name)}" in page and name not in page


@pytest.mark.parametrize("option", ["--html", "--html=page.html", "--json", "--fail-below"])
def test_options_after_the_script_are_the_scripts(tmp_path, capsys, monkeypatch, option):
    given = []

    def profiled(path, argv):
        given.extend(argv)
        return SimpleNamespace(table=lambda: "")

    monkeypatch.setattr(scripts, "profile_script", profiled)
    path = script(tmp_path, "")
    assert cli.main(["profile", path, "--epochs", "3", option]) == 0
    assert given == ["--epochs", "3", option]
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"fastnn profile: {option} stands after the script")
    assert cli.main(["profile", path, "--epochs", "3", "page.html"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["profile", "run"])
def test_the_usage_shows_what_comes_first(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert f"usage: fastnn {command} [options] script [the script's arguments]" in capsys.readouterr().out


def test_fail_below(tmp_path, capfd):
    path = script(tmp_path, LAYERS[2] + training(2))
    assert cli.main(["profile", "--fail-below", "1e9", path, "3"]) == 1
    err = capfd.readouterr().err
    assert "fastnn profile: the whole is" in err and "fastnn profile: Relu.forward is" in err


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "def fall():\n    raise KeyError('gone')\nfall()",
            ["KeyError: 'gone'", "in fall", "exit code 1, as it stands"],
        ),
        ("import sys\nsys.exit(3)", ["exit code 3, as it stands"]),
        ("import os\nos._exit(0)", ["exit code 0 before its figures could be taken, as it stands"]),
        (
            "print('heard')\nopen(__file__ + '.made', 'x')",
            ["heard", "FileExistsError", "exit code 1, with fastnn's layers"],
        ),
        ("x = (", ["SyntaxError", "exit code 1, as it stands"]),
    ],
)
def test_scripts_that_fail(tmp_path, text, said):
    command = "-P", "-m", "fastnn", "profile", script(tmp_path, text)
    run = processes.run(sys.executable, *command, input="words")
    assert run.returncode == 2
    for words in said:
        assert words in run.stderr
    assert "fastnn profile: " in run.stderr.splitlines()[-1]


def test_a_script_that_is_not_there(tmp_path, capsys):
    assert cli.main(["profile", str(tmp_path / "gone.py")]) == 2
    assert "gone.py is no file" in capsys.readouterr().err
    assert cli.main(["profile", "--html", str(tmp_path / "nowhere" / "x.html"), __file__]) == 2
    assert "--html: " in capsys.readouterr().err


# ---------------------------------------------------------------- two runs that are alike


def profiled(folder, text, **options):
    """What the command printed of a script in a folder, and the notes of its report."""
    command = sys.executable, "-m", "fastnn", "profile", "--json", "report.json", script(folder, text)
    paths = os.pathsep.join(path for path in sys.path if path)
    run = processes.run(*command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, **options)
    assert run.returncode == 0, run.stderr
    return run, json.loads((folder / "report.json").read_text())["notes"]


@pytest.mark.parametrize(
    "reads",
    [
        "words = [input('asked: '), sys.stdin.read()]",
        "words = os.read(0, 100).decode().splitlines() + ['']",
        "words = open(0).read().splitlines() + ['']",
        "words = subprocess.run([sys.executable, '-c', 'print(input())'], stdout=subprocess.PIPE, text=True)\n"
        "words = words.stdout.splitlines() + ['']",
    ],
)
def test_both_runs_have_the_same_input(tmp_path, reads):
    text = f"import os, subprocess, sys\n{reads}\nassert words == ['5', ''], words\nprint('heard', *words)\n"
    run, notes = profiled(tmp_path, text, input="5\n")
    assert run.stdout.count("heard 5") == 1 and not run.stderr
    assert "Both runs were given the same standard input." in notes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_what_is_typed_is_kept_for_the_second_run(tmp_path):
    keyboard, terminal = os.openpty()
    os.write(keyboard, b"5\nmore\n")
    text = "import sys\nwords = input(), sys.stdin.readline()\nassert words == ('5', 'more\\n'), words\n"
    run = processes.run(sys.executable, "-m", "fastnn", "profile", script(tmp_path, text), cwd=tmp_path, stdin=terminal)
    os.close(keyboard)
    os.close(terminal)
    assert run.returncode == 0 and "the same standard input" in run.stdout


def test_a_script_that_makes_folders(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log").write_text("before\n")
    run, notes = profiled(tmp_path, MAKES)
    assert not run.stderr and any("a copy of the working folder" in note for note in notes)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"data", "made", "beside", "train.py", "report.json"}
    assert (tmp_path / "data" / "log").read_text() == "before\na line\n"


MAKES = """
import os, pathlib
os.mkdir("made")
pathlib.Path(__file__).with_name("beside").mkdir()
with open("data/log", "a") as file:
    print("a line", file=file)
assert pathlib.Path("data/log").read_text() == "before\\na line\\n", pathlib.Path("data/log").read_text()
"""
APPENDS = """
for name in "large", "small":
    with open(f"{name}/file", "a") as file:
        file.write("+")
"""


def test_what_is_not_copied_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name in ("large/file", "large/another", "small/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    script(tmp_path, APPENDS)
    monkeypatch.setattr(scripts, "COPIED_FILES", 3)
    report = scripts.profile_script("train.py")
    note = f"small, train.py in {tmp_path} was not copied: the second run finds there what the first has left."
    assert note in report.notes and note in capfd.readouterr().err
    assert (tmp_path / "large" / "file").read_text() == "large/file+"
    assert (tmp_path / "small" / "file").read_text() == "small/file++"

    def refuses(*args, **kwargs):
        raise OSError("no room")

    monkeypatch.setattr(scripts.shutil, "copytree", refuses)
    report = scripts.profile_script("train.py")
    assert any(note.startswith(f"{tmp_path} was not copied (no room)") for note in report.notes)


@pytest.mark.parametrize(
    ("draws", "names"),
    [
        ("", "np.random"),
        ("random.random(); np.random.default_rng().random(3)", "default_rng and np.random and random"),
        (
            "from numpy.random import default_rng; default_rng(None); np.random.seed(); np.random.rand(3)",
            "default_rng and np.random",
        ),
        ("np.random.seed(3); random.seed(4); np.random.rand(3); random.random(); np.random.default_rng(5)", ""),
    ],
)
def test_who_draws_without_a_seed(tmp_path, draws, names):
    text = (
        f"import random, numpy as np\n{draws}\nopen({str(tmp_path / 'drawn')!r}, 'a').write(f'{{np.random.rand()}} ')"
    )
    notes = scripts.profile_script(script(tmp_path, text)).notes
    first, second = (tmp_path / "drawn").read_text().split()
    assert first == second
    said = f"It draws from {names} without a seed: both runs were given one."
    assert [note for note in notes if "without a seed" in note] == ([said] if names else [])
