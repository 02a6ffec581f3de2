"""Trainings of studies that are runs of train.py and resume from their checkpoints."""

import keras

from keras_diffusion.saving import checkpoints
from keras_diffusion.training import run
from keras_diffusion.training.callbacks import TrainingStopped


def folder(name, stages):
    """Returns the folder of a run; beside the stages, since an unfinished stage is deleted."""
    return stages.folder / f"{name}-run"


def train(config, run_dir):
    """Trains as train.py does, from the last checkpoint if there is one.

    Returns:
        int, number of batches that the diffusion model was trained on.

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
    return int(model.step.numpy())  # --minutes ends within an epoch
