"""Scripts in other people's styles print the same under python, fastnn run and fastnn profile, and are served."""

import json
import os
import sys
from pathlib import Path

import processes
import pytest

SCRIPTS = sorted((Path(__file__).parent / "styles").glob("*.py"))
# What fastnn serves of each, and what it leaves.
SERVED = {
    "volume1": ("Relu.forward Relu.backward Affine.forward Affine.backward SoftmaxWithLoss.forward "
                "SoftmaxWithLoss.backward SGD.update Momentum.update AdaGrad.update Adam.update softmax"),
    "volume2": ("Sigmoid.forward Sigmoid.backward Affine.forward Affine.backward SoftmaxWithLoss.forward "
                "SoftmaxWithLoss.backward SGD.update clip_grads"),
    "caches": "affine_forward affine_backward relu_forward relu_backward softmax_loss sgd sgd_momentum rmsprop adam "
    "relu_backward_by_product",
    "dictionaries": "sigmoid relu relu_backward sigmoid_backward update_parameters update_parameters_with_adam",
    "classes": ("Activation_ReLU.forward Activation_ReLU.backward Activation_Softmax.forward Layer_Dense.forward "
                "Layer_Dense.backward Linear.forward Linear.backward Sigmoid.__call__ Sigmoid.backward "
                "Activation_Softmax_Loss_CategoricalCrossentropy.backward"),
    "functions": "sigmoid sigmoid_prime relu relu_prime tanh softmax cross_entropy mse",
}  # fmt: skip


def run(tmp_path, *words):
    paths = os.pathsep.join(path for path in sys.path if path)
    done = processes.run(sys.executable, *words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_prints_the_same(script, tmp_path):
    expected, _ = run(tmp_path, str(script))
    printed, report = run(tmp_path, "-m", "fastnn", "run", str(script))
    assert printed == expected
    served = report[: report.index("Left as they are")] if "Left as they are" in report else report
    for name in SERVED[script.stem].split():
        assert f"__main__.{name}:" in served
    printed, _ = run(tmp_path, "-m", "fastnn", "profile", "--json", "report.json", str(script))
    assert printed.startswith(expected)
    found = json.loads((tmp_path / "report.json").read_text())
    lines = {line["layer"] for line in found["runs"][1]["lines"]}
    assert lines >= set(SERVED[script.stem].split()) - {"softmax", "sigmoid", "cross_entropy"}  # within others
