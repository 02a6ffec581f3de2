"""A tiny training for the tests of runs: two convolutions, 40 images of two kinds."""

from types import SimpleNamespace

import keras
import numpy as np
from fixtures_models import SHAPE, tiny_network

from keras_diffusion import DiffusionModel, Muon
from keras_diffusion.config.options import Config
from keras_diffusion.data import TrainingData, pipeline
from keras_diffusion.runtime import distribution
from keras_diffusion.training.run import Run

BATCH = 8
STEPS = 5  # in an epoch


def tiny_model(seed=0, dropout=0.2, learning_rate=1e-2, **options):
    """A compiled model, always with the same weights."""
    keras.utils.set_random_seed(seed)
    model = DiffusionModel(tiny_network(num_classes=2, dropout=dropout), seed=seed, **options)
    model.compile(Muon(learning_rate, global_clipnorm=1.0))
    return model


def tiny_images(count=52):
    """(images, labels): bright ones and dark ones."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).integers(0, 56, (count, *SHAPE))
    return (noise + 200 * labels[:, None, None, None]).astype("uint8"), labels


def tiny_data():
    """`TrainingData` with 5 batches of 8 to train on and 12 images to validate with."""
    images, labels = tiny_images()
    train, validation = (
        {"image": images[part], "label": labels[part]} for part in (slice(40), slice(40, None))
    )
    source = SimpleNamespace(
        name="tiny", num_train=40, num_val=12, num_classes=2, class_names=("dark", "bright"),
        train_split="", val_split="", frames=1,
    )  # fmt: skip
    return TrainingData(
        source,
        SHAPE,
        STEPS,
        False,
        pipeline.batches_in_memory(train, BATCH, seed=0),
        pipeline.validation_batches(validation, BATCH),
    )


def tiny_config(**options):
    """A `Config` of 3 epochs; checkpoints at their ends only."""
    return Config(**{"batch_size": BATCH, "epochs": 3, "num_steps": 2, "warmup": 0.1, **options})


def tiny_run(folder, data=None, **options):
    """A `Run` of `tiny_config` in a folder, on one device."""
    votes = distribution.Votes(distribution.make_strategy("single"))
    return Run(tiny_config(**options), data or tiny_data(), folder, votes)


def state_of(model):
    """{name: array} of all that training changes: weights, EMA, optimizer, random states."""
    variables = [*model.network.variables, *model.ema_network.weights, model.skipped_steps]
    variables += model.optimizer.variables
    return {f"{number} {tuple(v.shape)}": v.numpy() for number, v in enumerate(variables)}


def assert_same_state(one, other):
    """Compares two results of `state_of`, bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
