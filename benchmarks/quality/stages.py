"""The stages of the section that need a framework: each runs in a process of its own.

Every stage leaves its result under a name that stands for all its settings, whole or not at
all, and drawing leaves each batch; so a benchmark that was stopped goes on where it was.
"""

import json
import shutil
import time
from pathlib import Path

import filelock
import numpy as np

from benchmarks import data, subjects
from benchmarks.quality.making import tell
from keras_diffusion.runtime.files import whole_file

PART = 128  # pictures to a file while drawing
TELL_EVERY = 30  # seconds
LEAST_WIDTH = 500  # pixels of each half of a picture


def train_peer(peer, variant, task, tiny, cache, minutes, images_to_see, batch_size, weights):
    """Trains a peer for some minutes, counted from the end of its first step.

    So neither compiling nor loading is held against it, as they are against ours.

    Args:
        images_to_see: None, or how many images end it, instead of the minutes.
        weights: path without suffix; gets the weights, and the figures as WEIGHTS.json.

    Returns:
        dict of steps, images, seconds, parameters.
    """
    # Whoever was left training by a benchmark that was killed would take half of the machine.
    with filelock.FileLock(f"{weights}.lock", timeout=0):
        subject = subjects.make(peer, task, variant, tiny)
        images, _ = data.load(task, "train", tiny, cache)
        batch = min(batch_size, len(images))
        steps = images_to_see and -(-images_to_see // batch)
        clock = _Clock(60 * minutes, steps, peer)
        subject.train(images, batch_size, clock)
        facts = {
            "parameters": subject.parameters,
            "steps": clock.steps,
            "images": clock.steps * batch,
            "seconds": clock.seconds,
        }
        subject.save(weights)
        with whole_file(f"{weights}.json") as part:  # last: it says that the weights are whole
            Path(part).write_text(json.dumps(facts) + "\n")
    return facts


def images_seen(run_dir):
    """Returns `count`, of the images that a finished run has seen: time may end an epoch early."""
    from keras_diffusion.saving import checkpoints

    _, model, _ = checkpoints.load(Path(run_dir) / "checkpoints")
    config = json.loads((Path(run_dir) / "config.json").read_text())["config"]
    return {"count": int(model.optimizer.iterations.numpy()) * config["batch_size"]}


class _Clock:
    """A `should_stop`: after some seconds from the first step's end, or after some steps.

    Args:
        limit: seconds.
        last: None, or the step that ends it, instead of the seconds.
        name: for the lines of progress.
    """

    def __init__(self, limit, last, name):
        self.steps, self.seconds = 0, 0.0
        self._limit, self._last, self._name = limit, last, name
        self._began = self._told = None

    def __call__(self, step):
        now = time.monotonic()
        if self._began is None:
            self._began = self._told = now
        self.steps, self.seconds = step, now - self._began
        if now - self._told >= TELL_EVERY:
            self._told = now
            end = f"step {self._last}" if self._last else f"{self._limit / 60:g} minutes"
            tell(f"{self._name}: step {step} after {self.seconds / 60:.1f} minutes, up to {end}")
        return step >= self._last if self._last else self.seconds >= self._limit


def sample_peer(peer, variant, task, tiny, weights, averaged, num, num_steps, seed, images):
    """Draws `num` pictures of a trained peer into the file `images`.

    Args:
        averaged: whether with the average of its weights, or with those that it ended with.
    """
    subject = subjects.make(peer, task, variant, tiny)
    subject.load(weights)
    if not averaged:
        subject.forget_average()

    def draw(first, count):
        # Another seed for each part: a part that is made later is not one that was made before.
        return subject.sample(count, num_steps, seed=1_000_003 * seed + first)

    draw_parts(images, num, draw, peer)
    return {}


def sample_ours(model, sets):
    """Draws pictures of an exported model, by the graph that `sample.py` calls.

    Args:
        model: folder of the SavedModel.
        sets: list of dicts: images (.npy to write), labels (.npy, a class for each picture),
            sampler, num_steps, seed, guidance_scale, guidance_interval, guidance_rescale. What is
            there is kept.

    Returns:
        dict of `parameters`, of the network that draws.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(model)
    for number, each in enumerate(sets, 1):
        labels = np.load(each["labels"])
        draw = _drawing(tf, loaded, each, labels)
        name = f"ours, {each['num_steps']} steps of {each['sampler']}, seed {each['seed']}"
        draw_parts(each["images"], len(labels), draw, f"{name} ({number} of {len(sets)})")
    return {"parameters": sum(int(np.prod(v.shape)) for v in loaded.variables)}


def _drawing(tf, loaded, each, labels):
    """Returns the function (first, count) -> images of one set."""
    endpoint = getattr(loaded, f"generate_{each['sampler']}")
    numbers = np.int32(each["seed"]), np.int32(each["num_steps"])
    names = ("guidance_scale", "guidance_interval", "guidance_rescale")
    guidance = [np.float32(each[name]) for name in names]

    def draw(first, count):
        indices = np.arange(first, first + count, dtype="int32")
        inputs = numbers[0], indices, numbers[1], labels[indices], *guidance
        return endpoint(*map(tf.constant, inputs)).numpy()

    return draw


def draw_parts(out, num, draw, name):
    """Draws pictures part by part, each part a file, and joins them in `out`.

    Args:
        out: .npy to write; if it is there, nothing is done.
        num: int.
        draw: function (first, count) -> uint8 (count, H, W, C).
        name: for the lines of progress.
    """
    if Path(out).exists():
        return
    folder = Path(f"{out}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    began = told = time.monotonic()
    parts = []
    for first in range(0, num, PART):
        path = folder / f"{first:06d}.npy"
        if not path.exists():
            images = draw(first, min(PART, num - first))
            with whole_file(path) as part:
                np.save(part, images)
        parts.append(np.load(path))
        done = first + len(parts[-1])
        if time.monotonic() - told >= TELL_EVERY or done == num:
            told = time.monotonic()
            tell(f"{name}: {done} of {num} pictures, {(told - began) / 60:.1f} minutes")
    with whole_file(out) as part:
        np.save(part, np.concatenate(parts))
    shutil.rmtree(folder)


def score(task, tiny, cache, sizes, sets):
    """Scores sets of pictures, and real ones, by the extractor of a task; trains it if need be.

    Args:
        sizes: ints, of sets, for a floor each.
        sets: list of dicts of `images` (.npy) and `labels` (.npy, or None).

    Returns:
        dict: `extractor` (facts), `floors`, `scores` (for each set, see `scored`).
    """
    from keras_diffusion.evaluation import classifier, scores

    real = _real(task, tiny, cache)
    images = real["train_images"]
    settings = classifier.settings_for(images.shape[1:], len(images), flip=task == "flowers")
    settings = classifier.TINY if tiny else settings
    trained = classifier.load_or_train(task, real, cache, settings, tell)
    found = []
    for each in sets:
        labels = np.load(each["labels"]) if each["labels"] else None
        predictions = classifier.predict(trained.model, np.load(each["images"]))
        found.append(scored(trained, *predictions, labels))
    floors = [scores.distance_baseline(trained.held_out, trained.gaussian, size) for size in sizes]
    return {"extractor": trained.facts, "floors": floors, "scores": found}


def scored(trained, features, probabilities, labels=None):
    """Returns the figures of one set of pictures, by a classifier.

    Args:
        trained: `classifier.TrainedClassifier`.
        features, probabilities: (N, F) and (N, K), as from `classifier.predict`.
        labels: (N,) classes that were asked for, None where none were.

    Returns:
        dict of `num_images`, `distance`, `sure`, `confidence`, `class_shares`, `class_distance`
        (to those of the real pictures), and with labels `accuracy`.
    """
    from keras_diffusion.evaluation import scores

    shares, sureness = scores.class_shares(probabilities), scores.confidence(probabilities)
    figures = {
        "num_images": len(features),
        "distance": scores.frechet_distance(trained.gaussian, features),
        "sure": sureness["sure"],
        "confidence": sureness["mean"],
        "class_shares": [round(float(share), 4) for share in shares],
        "class_distance": scores.share_distance(shares, trained.shares),
    }
    if labels is not None:
        figures["accuracy"] = scores.accuracy(probabilities, labels)
    return figures


def _real(task, tiny, cache):
    real = {}
    for part in data.PARTS:
        real[f"{part}_images"], real[f"{part}_labels"] = data.load(task, part, tiny, cache)
    return real


def picture(left, right, titles, caption, out, columns=8, rows=8):
    """Writes a picture of the first pictures of two sets side by side: not selected.

    Args:
        left, right: .npy files of uint8 (N, H, W, C).
        titles: of the two sides.
        caption: under both.
        out: PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 6.2), facecolor="white")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.89, bottom=0.065, wspace=0.03)
    for axes, path, title in zip(figure.subplots(1, 2), (left, right), titles, strict=True):
        sheet = _sheet(np.load(path)[: columns * rows], columns)
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, fontsize=11)
        axes.axis("off")
    figure.text(0.5, 0.02, caption, ha="center", fontsize=10)
    whole = -(-LEAST_WIDTH // sheet.shape[1])  # pixels for each of the sheet's: no fraction
    dots = whole * sheet.shape[1] / (axes.get_position().width * figure.get_figwidth())
    with whole_file(out) as part:
        figure.savefig(part, format="png", dpi=dots)
    return {}


def _sheet(images, columns):
    """uint8 (N, H, W, C) -> one array of rows of `columns`, white lines between."""
    gap = max(1, images.shape[1] // 16)
    padded = np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    missing = -len(images) % columns
    padded = np.pad(padded, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    count, height, width, channels = padded.shape
    grid = padded.reshape(count // columns, columns, height, width, channels)
    sheet = grid.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, channels)
    return sheet[..., 0] if channels == 1 else sheet
