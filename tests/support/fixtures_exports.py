"""The SavedModel of the tests, and exports with one sampler instead of all."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest

from keras_diffusion import DiffusionModel, export_saved_model
from keras_diffusion.config.options import Config
from keras_diffusion.networks import unet
from keras_diffusion.saving import saved_model

SAMPLERS = ("ddpm", "dpmpp_2m")  # of the session's export
NUM_STEPS = 2


def awake_model(image_shape=(8, 8, 1), num_classes=10, seed=0):
    """An untrained `DiffusionModel` whose output is not zero, that reacts to its labels."""
    keras.utils.set_random_seed(seed)
    options = {"widths": (4,), "attention": (False,), "embedding_width": 8}
    network = unet(image_shape, num_classes=num_classes, **options)
    rng = np.random.default_rng(seed + 1)
    network.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in network.get_weights()])
    return DiffusionModel(network, schedule="linear")


def write_export(folder):
    """Returns (model, path of its SavedModel), as train.py writes it for the digits."""
    model = awake_model()
    options = {"num_steps": NUM_STEPS, "guidance_interval": (0.1, 0.8)}
    training = {"config": dataclasses.asdict(Config(**options))}
    path = export_saved_model(
        model,
        folder / "saved_models" / "tiny",
        samplers=SAMPLERS,
        guidance_scale=2.0,
        class_names=[f"digit {label}" for label in range(10)],
        training=training,
        **options,
    )
    return model, path


@contextlib.contextmanager
def one_sampler():
    """Exports that are written within have endpoints for `dpmpp_2m` alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "SAMPLERS", {"dpmpp_2m": saved_model.SAMPLERS["dpmpp_2m"]})
        yield
