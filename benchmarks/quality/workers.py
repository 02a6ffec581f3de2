"""The stages of a quality section that need a framework; each runs in its own process.

Results are files that are written whole or not at all, and samples are also kept batch by batch, so
an interrupted benchmark continues where it stopped.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks import data, runs, subjects
from benchmarks.training import Clock
from keras_diffusion.runtime.files import whole_file

PART = 128  # images in a file while sampling
COLUMNS, ROWS = 8, 8  # of the figure


def train_peer(subject, variant, task, tiny, cache, minutes, weights):
    """Trains a peer for some minutes after its first step, so that compiling does not count.

    Args:
        weights: path without suffix, of the weights and of a .json file with `parameters` and
            `images_seen`.
    """
    peer = subjects.make(subject, task, variant, tiny)
    images, _ = data.load(task, "train", tiny, cache)
    batch_size = min(subjects.BATCH_SIZES[task], len(images))
    clock = Clock(warm_up=1, min_steps=0, min_seconds=60 * minutes)
    peer.train(images, batch_size, clock)
    facts = {"parameters": peer.facts()["parameters"], "images_seen": clock.steps * batch_size}
    peer.save(weights)
    with whole_file(f"{weights}.json") as part:  # last: it marks the weights as complete
        Path(part).write_text(json.dumps(facts) + "\n")
    return facts


def sample_peer(subject, variant, task, tiny, weights, averaged, num, num_steps, images):
    """Samples `num` images of a trained peer into the file `images`.

    Args:
        averaged: bool, from its averaged weights or from its last ones.
    """
    peer = subjects.make(subject, task, variant, tiny)
    peer.load(weights)
    if not averaged:
        peer.use_last_weights()
    # Each part has its own seed, whichever were sampled before.
    sample_in_parts(
        images, num, lambda first, count: peer.sample(count, num_steps, seed=first), subject
    )
    return {}


def sample_ours(model, sets):
    """Samples images from an export, with the graph that `sample.py` calls.

    Args:
        model: folder of the SavedModel.
        sets: list of dicts: images (.npy to write; an existing file is kept), labels (.npy, a class
            per image), sampler, num_steps, seed, guidance (its three values by name).
    """
    import tensorflow as tf

    exported = tf.saved_model.load(model)
    for number, each in enumerate(sets, 1):
        labels = np.load(each["labels"])
        endpoint = getattr(exported, f"generate_{each['sampler']}")
        shared = {name: tf.constant(each[name]) for name in ("seed", "num_steps")}
        shared |= {name: tf.constant(v, tf.float32) for name, v in each["guidance"].items()}

        def sample(first, count, endpoint=endpoint, labels=labels, shared=shared):
            indices = tf.range(first, first + count)
            chosen = tf.constant(labels[first : first + count])
            return endpoint(indices=indices, labels=chosen, **shared).numpy()

        title = f"ours, {each['num_steps']} steps of {each['sampler']} ({number} of {len(sets)})"
        sample_in_parts(each["images"], len(labels), sample, title)
    return {}


def sample_in_parts(out, num, sample, title):
    """Samples images part by part, each kept in a file, and joins them in `out`.

    Args:
        out: .npy to write; an existing file is kept.
        num: int.
        sample: function (first, count) -> uint8 (count, H, W, C).
        title: for the lines of progress.
    """
    if Path(out).exists():
        return
    folder = Path(f"{out}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, num, PART):
        path = folder / f"{first:06d}.npy"
        if not path.exists():
            images = sample(first, min(PART, num - first))
            with whole_file(path) as part:
                np.save(part, images)
            runs.progress(f"{title}: {first + len(images)} of {num} images")
        parts.append(np.load(path))
    with whole_file(out) as part:
        np.save(part, np.concatenate(parts))
    shutil.rmtree(folder)


def score(task, tiny, cache, sizes, sets):
    """Scores sets of images with the classifier of a task, which is trained if it is missing.

    Args:
        sizes: ints, numbers of held-out images, for a baseline each.
        sets: list of dicts of `images` (.npy) and `labels` (.npy, or None).

    Returns:
        dict: `extractor` (facts), `baselines`, `scores` (of each set, see `score_set`).
    """
    from keras_diffusion.evaluation import classifier, scores

    real = {}
    for part in data.PARTS:
        real[f"{part}_images"], real[f"{part}_labels"] = data.load(task, part, tiny, cache)
    count, *shape = real["train_images"].shape
    settings = classifier.settings_for(shape, count, flip=task == "flowers")
    settings = classifier.TINY if tiny else settings
    trained = classifier.load_or_train(task, real, cache, settings, runs.progress)
    results = []
    for each in sets:
        features, probabilities = classifier.predict(trained.model, np.load(each["images"]))
        labels = np.load(each["labels"]) if each["labels"] else None
        results.append(score_set(trained, features, probabilities, labels))
    baselines = [scores.distance_baseline(trained.held_out, trained.gaussian, n) for n in sizes]
    return {"extractor": trained.facts, "baselines": baselines, "scores": results}


def score_set(trained, features, probabilities, labels=None):
    """Returns the figures of one set of images.

    Args:
        trained: `classifier.TrainedClassifier`.
        features, probabilities: (N, F) and (N, K), from the classifier.
        labels: (N,) requested classes, or None.

    Returns:
        dict of `num_images`, `distance`, `confident` (share), `class_distance` (to the class shares
        of the real images), and with labels `accuracy`.
    """
    from keras_diffusion.evaluation import scores

    shares = scores.class_shares(probabilities)
    figures = {
        "num_images": len(features),
        "distance": scores.frechet_distance(trained.gaussian, features),
        "confident": scores.confidence(probabilities)["sure"],
        "class_distance": scores.share_distance(shares, trained.shares),
    }
    if labels is not None:
        figures["accuracy"] = scores.accuracy(probabilities, labels)
    return figures


def plot(files, titles, out):
    """Writes a figure of the first images of two .npy files side by side."""
    from keras_diffusion.plotting import figures

    cells = [np.load(path)[: COLUMNS * ROWS] for path in files]
    figures.save(figures.image_table([cells], titles, width=5.0, columns=COLUMNS), out)
    return {}
