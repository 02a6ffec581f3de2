"""What the study measures: the forward process, five trainings, scores of their pictures."""

import keras
import numpy as np

from keras_diffusion.runtime import precision
from studies import scoring
from studies.noise_schedules import forward, training


def measure(settings, kept, data_dir):
    """Returns the results, see `report.py`; pictures are left in the stages.

    Args:
        settings: `Settings`.
        kept: `kept.Kept`.
        data_dir: where tfds keeps its data.
    """
    policy, reason = precision.policy("auto")
    keras.config.set_dtype_policy(policy)
    kept.tell(f"precision: {policy} ({reason})")
    real = scoring.real_images(settings.dataset, data_dir)
    normality = kept.stage(
        "normality", lambda folder: forward.normality(real["train_images"], settings)
    )
    kept.stage("forward", lambda folder: _forward(real["train_images"][0], settings, folder))
    data = training.Data(real, settings)
    steps = training.steps_of_a_round(data, settings, kept)
    in_all = settings.parts * settings.rounds * steps
    kept.tell(f"{in_all} steps of {settings.batch_size} images with each schedule")
    trainings = {
        name: training.Training(name, data, settings, kept, steps).run()
        for name in settings.schedules
    }
    scored = kept.stage("scores", lambda folder: _scores(real, settings, kept))
    return {
        "plan": {
            "schedules": list(settings.schedules),
            "dataset": settings.dataset,
            "train_images": len(real["train_images"]),
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "steps": in_all,
            "epochs": in_all / data.steps_per_epoch,
            "parts": settings.parts,
            "rounds": settings.rounds,
            "shown": list(settings.shown),
            "curve_steps": settings.curve_steps,
            "chain_steps": settings.chain_steps,
            "tests": settings.tests,
            "test_every": settings.test_every,
            "precision": policy,
        },
        "normality": normality,
        "trainings": trainings,
        **scored,
    }


def _forward(image, settings, folder):
    np.save(folder / "frames.npy", forward.pictures(image, settings.schedules, settings.seed))
    return {}


def _scores(real, settings, kept):
    """Scores every set of pictures."""
    judge = scoring.Judge(real, kept.shared, tiny=settings.dataset == "digits", tell=kept.tell)

    def scored(name, file):
        images = kept.array(name, file)
        return {**judge.score(images), "frame": scoring.frame_noise(images)}

    parts = range(1, settings.parts + 1)
    found = {
        name: {
            "curve": [scored(f"{name}-part{part}", "pictures.npy") for part in parts],
            "final": scored(f"{name}-final", "pictures.npy"),
            "chain": scored(f"{name}-final", "chain.npy"),
        }
        for name in settings.schedules
    }
    sizes = settings.curve_pictures, settings.final_pictures, settings.chain_pictures
    floors = {
        kind: judge.floor(size)
        for kind, size in zip(("curve", "final", "chain"), sizes, strict=True)
    }
    known = ("test_accuracy", "feature_width", "train_images")
    return {
        "scores": found,
        "floors": floors,
        "real_frame": scoring.frame_noise(real["test_images"]),
        "classifier": {key: judge.facts[key] for key in known},
    }
