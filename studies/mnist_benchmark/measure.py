"""Two trainings, the scores of their samples, and the time of sampling."""

import time

import numpy as np

from studies import scoring
from studies.mnist_benchmark import NAMES, loops
from studies.mnist_benchmark.training import Training
from studies.parts import set_precision

TIMED = 32  # images whose generation is timed


def measure(settings, stages, data_dir):
    """Returns the results, see `report.py`; images stay in the stages."""
    policy = set_precision(stages)
    trainings, minutes, results = {}, settings.minutes, {}
    for name in NAMES:
        training = trainings[name] = Training(name, settings, stages, data_dir, minutes)
        rows = [row for part in training.run() for row in part["rows"]]
        stages.log(f"{name}: {rows[-1]['steps']} steps")
        minutes = minutes or rows[-1]["seconds"] / 60  # of the published epochs, for our preset
        final = stages.run(f"{name}-final", lambda folder, each=training: _generate(each, folder))
        results[name] = {"rows": rows, **_facts(training, rows[-1]), **final}
    timed = stages.run(
        "loops", lambda folder: loops.seconds(trainings["published"].model(), settings)
    )
    dataset = trainings["default"].config.dataset
    scores = stages.run("scores", lambda folder: _scores(dataset, settings, stages, data_dir))
    planned = ("epochs", "parts", "rounds_per_epoch", "pictures", "curve_steps", "loop_pictures")
    return {
        "plan": {
            "minutes": minutes,
            **{name: getattr(settings, name) for name in planned},
            "timed_pictures": TIMED,
            "precision": policy,
        },
        "trainings": results,
        "loops": timed,
        **scores,
    }


def _facts(training, last):
    """Facts of a training, from its last row."""
    config, data = training.config, training.data
    return {
        "images": last["steps"] * config.batch_size,
        "epochs": last["steps"] / data.steps_per_epoch,
        "epoch_seconds": last["seconds"] / last["steps"] * data.steps_per_epoch,
        "labels": data.source.num_classes > 0,
        "learning_rate": config.learning_rate,
        "prediction_type": config.prediction_type,
        "drawing": training.sampling(),
    }


def _generate(training, folder):
    """Generates the images that are scored, and times some, after tracing."""
    model, options = training.model(), training.sampling()
    np.save(folder / "pictures.npy", model.generate(**training.images(), **options))
    model.generate(TIMED, **options)
    start = time.monotonic()
    model.generate(TIMED, **options)
    seconds = (time.monotonic() - start) / TIMED
    return {"sample_seconds": seconds, "parameters": model.network.count_params()}


def _scores(dataset, settings, stages, data_dir):
    real = scoring.real_images(dataset, data_dir)
    scorer = scoring.Scorer(real, stages.shared, tiny=settings.toy, log=stages.log)

    def score(stage):
        return scorer.score(stages.array(stage, "pictures.npy"))

    parts = range(1, settings.parts + 1)
    return {
        "scores": {
            name: {
                "curve": [score(f"{name}-part{part}") for part in parts],
                "final": score(f"{name}-final"),
            }
            for name in NAMES
        },
        "floor": scorer.baseline(settings.pictures),
        "classifier": {"test_accuracy": scorer.facts["test_accuracy"]},
    }
