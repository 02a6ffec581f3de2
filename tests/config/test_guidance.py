"""Guidance checks its three values and converts them from and to options."""

import numpy as np
import pytest

from keras_diffusion.config.guidance import Guidance


@pytest.mark.parametrize(
    "name, value",
    [
        ("scale", -0.1),
        ("scale", 100.5),
        ("scale", float("nan")),
        ("scale", True),
        ("scale", "2"),
        ("interval", (0.6, 0.5)),
        ("interval", (-0.1, 1)),
        ("interval", (0, 1.1)),
        ("interval", (0, 0.5, 1)),
        ("interval", 0.5),
        ("rescale", 1.1),
        ("rescale", -0.1),
    ],
)
def test_values_out_of_bounds_are_rejected(name, value):
    with pytest.raises(ValueError, match=f"^guidance_{name}: "):
        Guidance(**{name: value})


def test_options_and_back():
    options = {"guidance_scale": np.float32(2), "guidance_interval": [0, 0.5], "seed": 1}
    guidance = Guidance.from_options({**options, "guidance_rescale": None})
    assert guidance == Guidance(2.0, (0.0, 0.5), 0.0)
    assert Guidance.from_options(guidance.options()) == guidance


@pytest.mark.parametrize("values", [{"scale": 2}, {"interval": (0, 0.5)}, {"rescale": 0.5}])
def test_a_model_without_labels_is_not_guided(values):
    Guidance().check_labels(num_classes=0)
    Guidance(**values).check_labels(num_classes=10)
    with pytest.raises(ValueError, match="^guidance_"):
        Guidance(**values).check_labels(num_classes=0)
