"""The command."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from processes import python

import fastnn
from fastnn import cli, optable, progress

SHORT = ["compare", "--epochs", "2", "--batch", "200"]


@pytest.mark.demo
def test_compare(capsys):
    assert cli.main(SHORT) == 0
    text = capsys.readouterr().out
    for word in ("test accuracy", "largest relative difference", "training, ms", "ratio", "affine", "relu_backward"):
        assert word in text
    assert fastnn.get_backend() in text


@pytest.mark.demo
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_json_and_the_options(tmp_path, dtype):
    path = tmp_path / "report.json"
    backend = fastnn.backends()[-2]
    options = ["--hidden", "7", "--lr", "0.25", "--seed", "5", "--dtype", dtype, "--backend", backend]
    assert cli.main([*SHORT, *options, "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["within"] and report["largest relative difference"] <= report["promised"]
    assert report["compiled"]["backend"] == backend and report["reference"]["backend"] == "reference"
    assert len(report["compiled"]["losses"]) == 2 * 8
    assert report["arguments"]["hidden"] == 7 and report["arguments"]["lr"] == 0.25
    assert report["compiled"]["ops"]["affine"]["calls"] == 2 * 16
    assert report["reference"]["seconds"] > 0 and report["config"]["numpy"] == np.__version__
    assert 0 < report["compiled"]["accuracy"] <= 1
    again = tmp_path / "again.json"
    cli.main([*SHORT, *options, "--json", str(again)])
    assert json.loads(again.read_text())["compiled"]["losses"] == report["compiled"]["losses"]


@pytest.mark.demo
def test_the_page_and_the_limit(tmp_path, capsys):
    path = tmp_path / "report.html"
    assert cli.main([*SHORT, "--html", str(path), "--fail-below", "1e-9"]) == 0
    page = path.read_text(encoding="utf-8")
    for words in ("Affine.forward", "relu_with_mask", "<h2>Loss</h2>", "Speed-up by size", fastnn.get_backend()):
        assert words in page
    assert cli.main([*SHORT, "--fail-below", "1e9"]) == 1
    assert "fastnn compare: the whole is" in capsys.readouterr().err


def test_mnist_files(tmp_path, rng):
    path = tmp_path / "mnist.npz"
    x, t = rng.integers(0, 256, (90, 28, 28), np.uint8), rng.integers(0, 10, 90, np.uint8)
    np.savez(path, x_train=x, y_train=t, x_test=x[:9], y_test=t[:9])
    assert cli.main([*SHORT, "--data", str(path)]) == 0


@pytest.mark.demo
def test_a_disagreement_is_said_and_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setitem(optable.LOSS_CURVE, "float64", 0.0)
    assert cli.main(SHORT) == 1
    assert "The two runs disagree" in capsys.readouterr().out


def test_a_loss_curve_of_nan_beside_numbers_is_a_disagreement():
    differences = cli._relative_differences([1.0, 2.0, np.nan, 0.0, np.inf], [1.0, np.nan, np.nan, 0.0, np.inf])
    np.testing.assert_array_equal(differences, [0, np.inf, 0, 0, 0])


@pytest.mark.demo
def test_a_loss_of_nan_in_both_runs_is_nothing_to_compare(capsys):
    assert cli.main([*SHORT, "--lr", "1e300"]) == 1
    assert "The loss is no number from step" in capsys.readouterr().out


@pytest.mark.demo
@pytest.mark.skipif(sys.platform == "win32", reason="rich draws with other characters on a Windows console")
def test_bars_are_no_output(monkeypatch, capfd):
    monkeypatch.setattr(progress, "WAIT", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert cli.main(SHORT) == 0
    out, err = capfd.readouterr()
    assert "━" in err and "/16" in err and "loss" in err and "loss nan" not in out + err and "/16" not in out


@pytest.mark.demo
def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "mini_batches", interrupted)
    assert cli.main(SHORT) == 130
    assert capsys.readouterr().err.splitlines() == ["fastnn compare: interrupted"]


def test_a_json_file_that_cannot_be_written_is_said_first(tmp_path, capsys):
    assert cli.main([*SHORT, "--json", str(tmp_path / "nowhere" / "x.json")]) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as info:
        cli.main(["--version"])
    assert info.value.code == 0
    assert fastnn.__version__ in capsys.readouterr().out


BAD_OPTIONS = {
    "--epochs": ["0", "1.5", "²"],
    "--batch": ["-1"],
    "--hidden": ["x"],
    "--lr": ["nan", "-1", "0", "inf", "fast"],
    "--seed": ["-1"],
    "--dtype": ["int8"],
    "--backend": ["fastest", "reference"],
    "--fail-below": ["0", "much"],
}


@pytest.mark.parametrize("option", [[name, value] for name, values in BAD_OPTIONS.items() for value in values])
def test_bad_options_are_refused(option, capsys):
    with pytest.raises(SystemExit) as info:
        cli.main(["compare", *option])
    assert info.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_missing_data_is_one_line(tmp_path, capsys):
    assert cli.main([*SHORT, "--data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.splitlines() == [f"fastnn compare: {tmp_path / 'nowhere'} does not exist"]


@pytest.mark.parametrize(
    "command, missing",
    [
        (["compare"], "rich"),
        (["compare"], "sklearn"),
        (["example", "layers"], "sklearn"),
        (["example", "layers"], "matplotlib"),
    ],
)
def test_without_the_demo_extra_one_line_says_what_to_install(command, missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from fastnn.cli import main; sys.exit(main({command}))"
    run = python(code)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1 and 'pip install "fastnn-kernels[demo]"' in run.stderr


@pytest.mark.demo
@pytest.mark.parametrize("command", [["-m", "fastnn"], None])
def test_the_installed_command_runs(command, tmp_path):
    words = [sys.executable, *command] if command else [shutil.which("fastnn", path=str(Path(sys.executable).parent))]
    run = processes.run(*words, *SHORT, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "test accuracy" in run.stdout


def test_help_does_not_need_the_demo_extra():
    code = "import sys; sys.modules['rich'] = None; from fastnn.cli import main; main(['--help'])"
    run = python(code)
    assert run.returncode == 0 and "compare" in run.stdout
