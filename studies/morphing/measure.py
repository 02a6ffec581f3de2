"""Three trainings, the scores of several sampling methods, restoration, and limits."""

import numpy as np

from studies import scoring
from studies.morphing import SCHEDULES, data, limits, restoration
from studies.morphing.sampling import GRIDS, UPDATES, Method
from studies.morphing.training import Training, part_ends
from studies.parts import set_precision

SHOWN = 12  # images of each method that are kept
PLANNED = ("widths", "expansion", "batch_size", "learning_rate", "pictures", "curve_steps",
           "num_steps", "few_steps", "restored", "fitted", "components", "dimensions")  # fmt: skip


def measure(settings, stages, data_dir):
    """Returns the results, see `report.py`; images stay in the stages."""
    digits, garments = data.load(settings, data_dir)
    toy = settings.dataset == "digits"
    scorer = scoring.Scorer(digits, stages.shared, tiny=toy, log=stages.log)
    policy = set_precision(stages)  # after the classifier, which computes in float32
    batches = data.Batches(digits, garments, settings)
    ends = part_ends(batches, settings, stages)
    stages.log(f"{ends[-1]} epochs of {settings.epoch_steps} batches in each training")
    starts = garments["test_images"][: 2 * settings.pictures]
    shared = batches, starts, scorer, settings, stages, ends

    morphing = [Training(schedule, True, *shared) for schedule in SCHEDULES]
    trainings = {training.name: training.results() for training in morphing}
    ways = {training.name: _score_methods(training) for training in morphing}
    better = min(morphing, key=lambda each: best_row(ways[each.name])["distance"])
    noise = Training(better.schedule, False, *shared)
    trainings[noise.name], ways[noise.name] = noise.results(), _score_methods(noise)
    best = {each.name: _score_again(each, ways[each.name]) for each in (*morphing, noise)}
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
            "test_accuracy": scorer.facts["test_accuracy"],
            "floor": scorer.baseline(len(real))["mean"],
            "sure": scorer.score(real)["sure"],
        },
        "trainings": trainings,
        "ways": ways,
        "morphing": better.name,
        "noise": noise.name,
        "best": best,
        "restored": {training.name: _restore(training, digits, garments) for training in morphing},
        "limits": limits.Limits(better, Method.of(best[better.name]), garments).results(),
    }


def best_row(rows):
    """Returns the row of the lowest distance, of those of most steps."""
    most = max(row["num_steps"] for row in rows)
    return min((row for row in rows if row["num_steps"] == most), key=lambda row: row["distance"])


def _score_methods(training):
    """Scores every method of sampling: a list of dicts, a `Method` and its score in one."""
    settings = training.settings
    updates = UPDATES if training.morphing else UPDATES[:1]  # noise is never a known endpoint
    methods = [Method(1)] + [
        Method(num_steps, grid, update)
        for grid in GRIDS
        for update in updates
        for num_steps in (settings.few_steps, settings.num_steps)
    ]

    def compute(folder):
        morpher = training.morpher()
        x = training.starts(morpher)
        rows, shown = [], []
        for method in methods:
            images = morpher.generate(x, method)
            shown.append(images[:SHOWN])
            rows.append({**vars(method), **training.scorer.score(images)})
        np.save(folder / "starts.npy", morpher.decode(x[:SHOWN]))
        np.save(folder / "pictures.npy", np.stack(shown))
        return {"ways": rows}

    return training.stages.run(f"{training.name}-ways", compute)["ways"]


def _score_again(training, rows):
    """Scores the best method again, from starting points that were not used to choose it.

    The lowest of several distances is biased downwards, the more so the more there are: eight
    methods with garments, two with noise.

    Returns:
        dict, the `Method` and its score in one.
    """
    method = Method.of(best_row(rows))

    def compute(folder):
        morpher = training.morpher()
        images = morpher.generate(training.starts(morpher, again=True), method)
        return {**vars(method), **training.scorer.score(images)}

    return training.stages.run(f"{training.name}-best", compute)


def _restore(training, digits, garments):
    settings = training.settings
    rows = slice(settings.restored)
    images = digits["test_images"][rows], digits["test_labels"][rows], garments["test_images"][rows]

    def compute(folder):
        morpher = training.morpher()
        return restoration.restore(
            morpher, training.scorer, *images, settings.restore_steps, folder
        )

    return training.stages.run(f"{training.name}-restored", compute)
