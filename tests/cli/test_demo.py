"""The demo of the Makefile: what it trains can be recognised."""

import numpy as np
import pytest
from commands import run
from recognised_digits import recognised

import keras_diffusion as kd


@pytest.mark.slow
def test_a_classifier_recognises_the_digits_of_the_demo(tmp_path):
    run(
        "train.py",
        *["--dataset", "digits", "--epochs", "12", "--export-dir", "digits"],
        cwd=tmp_path,
    )
    labels = np.arange(80) % 10
    model = kd.load(tmp_path / "digits")
    accuracy, share = recognised(model.generate(80, labels=labels), labels)
    assert accuracy >= 0.97
    assert share >= 0.85
