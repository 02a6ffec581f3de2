"""What the study measures: two trainings, scores of their pictures, seconds of sampling."""

import time

import keras
import numpy as np

from keras_diffusion.runtime import precision
from studies import scoring
from studies.mnist_benchmark import NAMES, loops, training

DRAWN = 32  # pictures that are timed


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
    trainings, minutes, found = {}, settings.minutes, {}
    for name in NAMES:
        trained = training.Training(name, settings, kept, data_dir, minutes)
        rows = trained.run()
        minutes = minutes or rows[-1]["seconds"] / 60  # ours gets what the epochs took
        trainings[name] = trained
        found[name] = {"rows": rows, **_facts(trained, rows)}
        found[name].update(
            kept.stage(f"{name}-final", lambda folder, trained=trained: _draw(trained, folder))
        )
    loop = kept.stage(
        "loops", lambda folder: loops.seconds(trainings["published"].model(), settings)
    )
    dataset = trainings["default"].config.dataset
    scored = kept.stage("scores", lambda folder: _scores(dataset, settings, kept, data_dir))
    return {
        "plan": {
            "minutes": minutes,
            "epochs": settings.epochs,
            "parts": settings.parts,
            "rounds_per_epoch": settings.rounds_per_epoch,
            "timed_pictures": DRAWN,
            "pictures": settings.pictures,
            "curve_steps": settings.curve_steps,
            "loop_pictures": settings.loop_pictures,
            "precision": policy,
        },
        "trainings": found,
        "loops": loop,
        **scored,
    }


def _facts(trained, rows):
    config, data = trained.config, trained.data
    trained.kept.tell(f"{trained.name}: {rows[-1]['steps']} steps")
    last, steps = rows[-1], data.steps_per_epoch
    return {
        "images": last["steps"] * config.batch_size,
        "epochs": last["steps"] / steps,
        "epoch_seconds": last["seconds"] / last["steps"] * steps,
        "labels": data.source.num_classes > 0,
        "learning_rate": config.learning_rate,
        "prediction_type": config.prediction_type,
        "drawing": trained.drawing(),
    }


def _draw(trained, folder):
    """Draws the pictures that are scored, and times the first of them, once they are traced."""
    model, options = trained.model(), trained.drawing()
    np.save(folder / "pictures.npy", model.generate(**trained.scored(), **options))
    model.generate(DRAWN, **options)
    began = time.monotonic()
    model.generate(DRAWN, **options)
    seconds = (time.monotonic() - began) / DRAWN
    return {"sample_seconds": seconds, "parameters": model.network.count_params()}


def _scores(dataset, settings, kept, data_dir):
    real = scoring.real_images(dataset, data_dir)
    judge = scoring.Judge(real, kept.shared, tiny=settings.toy, tell=kept.tell)
    parts = range(1, settings.parts + 1)
    found = {
        name: {
            "curve": [judge.score(kept.array(f"{name}-part{i}", "pictures.npy")) for i in parts],
            "final": judge.score(kept.array(f"{name}-final", "pictures.npy")),
        }
        for name in NAMES
    }
    return {
        "scores": found,
        "floor": judge.floor(settings.pictures),
        "classifier": {"test_accuracy": judge.facts["test_accuracy"]},
    }
