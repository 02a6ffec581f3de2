"""The SavedModel of the tests, and exports with one sampler instead of all."""

import contextlib
import dataclasses

import keras
import pytest
from fixtures_models import tiny_network

from keras_diffusion import DiffusionModel, export_saved_model
from keras_diffusion.config.options import Config
from keras_diffusion.saving import saved_model

SAMPLERS = ("ddpm", "dpmpp_2m")  # of the session's export
NUM_STEPS = 2


def write_export(folder):
    """Returns (model, path of its SavedModel), as train.py writes it for the digits."""
    keras.utils.set_random_seed(0)
    model = DiffusionModel(tiny_network((8, 8, 1), num_classes=10), schedule="linear")
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
