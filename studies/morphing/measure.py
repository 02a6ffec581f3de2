"""What the study measures, stage after stage."""

import keras
import numpy as np

from keras_diffusion.runtime import precision
from studies import scoring
from studies.morphing import SCHEDULES, limits, pace, pictures, restoration
from studies.morphing.sampling import GRIDS, UPDATES, Way
from studies.morphing.training import Training

SHOWN = 12  # pictures of each way that are kept
PLANNED = ("widths", "expansion", "batch_size", "learning_rate", "pictures", "curve_steps",
           "num_steps", "few_steps", "restored", "fitted", "components", "dimensions")  # fmt: skip


def measure(settings, kept, data_dir):
    """Returns the results, see `report.py`; pictures are left in the stages.

    Args:
        settings: `Settings`.
        kept: `kept.Kept`.
        data_dir: where tfds keeps its data.
    """
    digits, garments = pictures.load(settings, data_dir)
    toy = settings.dataset == "digits"
    judge = scoring.Judge(digits, kept.shared, tiny=toy, tell=kept.tell)
    policy, reason = precision.policy("auto")
    keras.config.set_dtype_policy(policy)  # after the judge, who looks in float32
    kept.tell(f"precision: {policy} ({reason})")
    batches = pictures.Batches(digits, garments, settings)
    ends = pace.ends(batches, settings, kept)
    kept.tell(f"{ends[-1]} epochs of {settings.epoch_steps} batches in each training")
    starts = garments["test_images"][: 2 * settings.pictures]
    shared = batches, starts, judge, settings, kept, ends

    morphing = [Training(schedule, True, *shared) for schedule in SCHEDULES]
    trainings = {training.name: training.run() for training in morphing}
    ways = {training.name: _ways(training) for training in morphing}
    better = min(morphing, key=lambda training: best_way(ways[training.name])["distance"])
    noise = Training(better.schedule, False, *shared)
    trainings[noise.name], ways[noise.name] = noise.run(), _ways(noise)
    best = {each.name: _best(each, best_way(ways[each.name])) for each in (*morphing, noise)}
    real = digits["test_images"][: settings.pictures]
    return {
        "plan": {
            "epochs": ends[-1],
            "ends": ends,
            "epoch_images": settings.epoch_steps * settings.batch_size,
            "precision": policy,
            **{name: getattr(settings, name) for name in PLANNED},
        },
        "classifier": {
            "test_accuracy": judge.facts["test_accuracy"],
            "floor": judge.floor(len(real))["mean"],
            "sure": judge.score(real)["sure"],
        },
        "trainings": trainings,
        "ways": ways,
        "morphing": better.name,
        "noise": noise.name,
        "best": best,
        "restored": {training.name: _restored(training, digits, garments) for training in morphing},
        "limits": limits.measure(better, _as_way(best[better.name]), garments),
    }


def best_way(ways):
    """Returns the way of the lowest distance, of those of most steps."""
    most = max(way["num_steps"] for way in ways)
    return min((way for way in ways if way["num_steps"] == most), key=lambda way: way["distance"])


def _as_way(found):
    return Way(found["num_steps"], found["grid"], found["update"])


def _ways(training):
    """Scores every way of sampling a training: a list of dicts, a `Way` and its score in one."""
    settings = training.settings
    updates = UPDATES if training.morphing else UPDATES[:1]  # only a garment can be known
    ways = [Way(1)] + [
        Way(num_steps, grid, update)
        for grid in GRIDS
        for update in updates
        for num_steps in (settings.few_steps, settings.num_steps)
    ]

    def make(folder):
        morpher = training.morpher()
        x = training.starts(morpher)
        found, shown = [], []
        for way in ways:
            images = morpher.pictures(x, way)
            shown.append(images[:SHOWN])
            found.append({**vars(way), **training.judge.score(images)})
        np.save(folder / "starts.npy", morpher.decode(x[:SHOWN]))
        np.save(folder / "pictures.npy", np.stack(shown))
        return {"ways": found}

    return training.kept.stage(f"{training.name}-ways", make)["ways"]


def _best(training, found):
    """Scores a way that was chosen by its score, from starting points that had no part in that.

    The lowest of many distances is too low, the more so the more there are: there are eight ways
    with garments, two with noise.

    Args:
        training: `Training`.
        found: of `best_way`.

    Returns:
        dict, the `Way` and its score in one.
    """
    way = _as_way(found)

    def make(folder):
        morpher = training.morpher()
        images = morpher.pictures(training.starts(morpher, chosen=True), way)
        return {**vars(way), **training.judge.score(images)}

    return training.kept.stage(f"{training.name}-best", make)


def _restored(training, digits, garments):
    settings = training.settings
    rows = slice(settings.restored)

    def make(folder):
        return restoration.restore(
            training.morpher(),
            training.judge,
            digits["test_images"][rows],
            digits["test_labels"][rows],
            garments["test_images"][rows],
            settings.restore_steps,
            folder,
        )

    return training.kept.stage(f"{training.name}-restored", make)
