"""Trainings of studies that are runs of train.py: they go on where they were stopped."""

import keras

from keras_diffusion.saving import checkpoints
from keras_diffusion.training import run
from keras_diffusion.training.callbacks import TrainingStopped


def folder(name, kept):
    """Path of a run, beside the stages: what a stage has not finished is lost, a run is not."""
    return kept.folder / f"{name}-run"


def train(config, run_dir):
    """Trains as train.py does, from the last checkpoint if there is one.

    Returns:
        int, how many batches the diffusion model has seen.

    Raises:
        ValueError: the training has failed.
    """
    resume = run.has_checkpoint(run_dir)
    keras.utils.set_random_seed(config.seed)
    try:
        run.run(config, run_dir, run_dir / "export", resume=resume)
    except TrainingStopped as error:
        raise ValueError(f"the training has failed: {error}") from error
    _, model, _ = checkpoints.load(run_dir / "checkpoints")
    return int(model.optimizer.iterations.numpy())  # epochs do not say: time ends the last one
