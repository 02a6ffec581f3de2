"""The forward process, a training for each schedule, and the scores of their samples."""

import numpy as np

from studies import scoring
from studies.noise_schedules import forward, training
from studies.parts import set_precision

PLANNED = ("dataset", "batch_size", "learning_rate", "parts", "rounds", "curve_steps",
           "chain_steps", "tests", "test_every")  # fmt: skip


def measure(settings, stages, data_dir):
    """Returns the results, see `report.py`; images stay in the stages."""
    policy = set_precision(stages)
    real = scoring.real_images(settings.dataset, data_dir)
    images = real["train_images"]
    normality = stages.run("normality", lambda folder: forward.normality(images, settings))
    stages.run("forward", lambda folder: _forward(images[0], settings, folder))
    data = training.Data(real, settings)
    per_round = training.steps_per_round(data, settings, stages)
    steps = settings.parts * settings.rounds * per_round
    stages.log(f"{steps} steps of {settings.batch_size} images with each schedule")
    trainings = {
        name: training.Training(name, data, settings, stages, per_round).results()
        for name in settings.schedules
    }
    scores = stages.run("scores", lambda folder: _scores(real, settings, stages))
    return {
        "plan": {
            "schedules": list(settings.schedules),
            "train_images": len(images),
            "steps": steps,
            "epochs": steps / data.steps_per_epoch,
            "shown": list(settings.shown),
            **{name: getattr(settings, name) for name in PLANNED},
            "precision": policy,
        },
        "normality": normality,
        "trainings": trainings,
        **scores,
    }


def _forward(image, settings, folder):
    np.save(folder / "frames.npy", forward.frames(image, settings.schedules, settings.seed))
    return {}


def _scores(real, settings, stages):
    """Scores every set of images."""
    toy = settings.dataset == "digits"
    scorer = scoring.Scorer(real, stages.shared, tiny=toy, log=stages.log)

    def score(stage, file):
        images = stages.array(stage, file)
        return {**scorer.score(images), "frame": scoring.border_rms(images)}

    parts = range(1, settings.parts + 1)
    sizes = {"curve": settings.curve_pictures, "final": settings.final_pictures,
             "chain": settings.chain_pictures}  # fmt: skip
    return {
        "scores": {
            name: {
                "curve": [score(f"{name}-part{part}", "pictures.npy") for part in parts],
                "final": score(f"{name}-final", "pictures.npy"),
                "chain": score(f"{name}-final", "chain.npy"),
            }
            for name in settings.schedules
        },
        "floors": {kind: scorer.baseline(size) for kind, size in sizes.items()},
        "real_frame": scoring.border_rms(real["test_images"]),
        "classifier": {
            name: scorer.facts[name] for name in ("test_accuracy", "feature_width", "train_images")
        },
    }
