"""An evaluation, from a trained model to a folder of scores, tables and figures."""

import dataclasses
import json
import time
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.evaluation import memorisation, real_images, references, tables
from keras_diffusion.evaluation.sampler_settings import (
    SamplerSetting,
    TimedGenerator,
    network_calls,
)
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime import console
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.saving import export_folder, loading, model_card

MAX_IMAGES = 5000  # for each sampler setting, unless more are asked for
MAX_COMPARED = 2000  # images that are compared with all training images
PAIRS = 10  # closest pairs that are shown
FIGURES = ("samplers.png", "samples.png", "memorisation.png", "closest.png")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to evaluate, and how.

    Attributes:
        out: folder for the results.
        cache: folder for classifiers and features of real images.
        num: images for each sampler setting; None: 5000, or all held-out ones if these are fewer.
        samplers, steps: lists; None: the model's own.
        minutes: None, or a time limit; settings that do not fit are left out. The comparison with
            training images is not counted.
        extractor, extractor_size: see `references.prepare`.
        guidance: dict of `Guidance.NAMES`; None values: the model's own.
        data: dict of `real_images.OPTIONS`; None values: those of the training.
        seed: int; all settings get the same noise and labels.
        batch_size: images generated at once.
    """

    out: Path
    cache: Path = real_images.CACHE
    num: int | None = None
    samplers: list | None = None
    steps: list | None = None
    minutes: float | None = None
    extractor: str = "classifier"
    extractor_size: int = 75
    guidance: dict = dataclasses.field(default_factory=dict)
    data: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64


def run(model, settings):
    """Generates images with every sampler and number of steps, scores them, writes the results.

    Args:
        model: path, see `loading.load`.
        settings: `Settings`.

    Returns:
        dict, as in scores.json.

    Raises:
        ValueError, OSError: what cannot be used or written, on one line.
        KeyboardInterrupt: Ctrl-C; its message says where the scores so far are, if any.
    """
    deadline = None if settings.minutes is None else time.monotonic() + 60 * settings.minutes
    loaded = load_image_model(model)
    guidance = loaded.guidance.changed(settings.guidance, loaded.num_classes)
    sampler_settings = choose_sampler_settings(loaded, settings, guidance)
    real = real_images.load(loaded, settings.data)
    print(tables.facts_line({"data": real.facts}), flush=True)
    reference = _prepare_reference(settings, real, loaded.num_classes > 0)
    num = settings.num or min(MAX_IMAGES, len(reference.held_out))
    _warn(num, reference)
    labels = real.labels(num, settings.seed) if loaded.num_classes else None
    options = {"guidance": guidance, "seed": settings.seed, "batch_size": settings.batch_size}
    record = {
        "model": str(model),
        "data": real.facts,
        "extractor": reference.extractor.facts,
        "image_shape": loaded.image_shape,
        "num": num,
        "guidance": guidance.options() if loaded.num_classes else {},
        "seed": settings.seed,
        "baseline": reference.baseline(num),
        "cells": [],
        "left_out": [],
    }
    generator = TimedGenerator(loaded, labels, num=num, **options)
    evaluation = Evaluation(generator, reference, record, Path(settings.out), deadline)
    evaluation.out.mkdir(parents=True, exist_ok=True)
    try:
        evaluation.score_all(sampler_settings)
        evaluation.report(real)
        update_card(model, record)
    except KeyboardInterrupt as error:
        if record["cells"]:
            raise KeyboardInterrupt(f"the scores so far are in {evaluation.out}/") from error
        raise
    return record


def choose_sampler_settings(model, settings, guidance):
    """Returns all pairs of a sampler and a number of steps, the cheapest first."""
    samplers = settings.samplers or [model.sampler]
    for sampler in samplers:
        if sampler not in model.samplers:
            choices = ", ".join(model.samplers)
            raise ValueError(f"--samplers: the model has no {sampler!r}. Choose from: {choices}.")
    pairs = [
        SamplerSetting(sampler, steps, network_calls(sampler, model.schedule, steps, guidance))
        for sampler in dict.fromkeys(samplers)
        for steps in dict.fromkeys(settings.steps or [model.num_steps])
    ]
    return sorted(pairs, key=lambda setting: setting.network_calls)


def _prepare_reference(settings, real, accuracy):
    try:
        return references.prepare(
            settings.extractor,
            real,
            settings.cache,
            size=settings.extractor_size,
            accuracy=accuracy,
            progress_bar=progress_bar,
        )
    except (ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--extractor: {error}") from error


def _warn(num, reference):
    """Prints what is wrong with a number of images."""
    width = reference.train.shape[1]
    if num > len(reference.held_out):
        print(f"the baseline is of {len(reference.held_out):,} held-out images; there are no more")
    if num < width:
        print(f"{num:,} images are few for {width:,} features: FID is too large, use KID")


@dataclasses.dataclass
class Scored:
    """The images of one sampler setting: their row of the table, pixels and features."""

    setting: SamplerSetting
    row: dict
    images: np.ndarray
    features: np.ndarray


class Evaluation:
    """Scores sampler settings one after the other, and reports on them.

    Args:
        generator: `TimedGenerator`.
        reference: `references.Reference`.
        record: dict as in scores.json; gets the scores.
        out: folder for the results.
        deadline: None, or the time (of `time.monotonic`) when scoring ends.

    Attributes:
        best: `Scored` of the model's own setting; else the one of the lowest FID.
    """

    def __init__(self, generator, reference, record, out, deadline=None):
        self.generator = generator
        self.reference = reference
        self.record = record
        self.out = out
        self.deadline = deadline
        self.best = None

    def score_all(self, settings):
        """Scores all settings that fit into the time limit; fills in "cells" and "left_out".

        Raises:
            ValueError: not even the first one fits.
        """
        if self._is_late(0.0):
            raise ValueError(
                "--minutes: over before the first image was generated. Features of the real images "
                "are kept in --cache: the same command has more time now."
            )
        scoring = 0.0 if self.deadline is None else self._seconds_of_extractor()
        for number, setting in enumerate(settings):
            seconds = [self.generator.seconds_for(each) + scoring for each in settings[number:]]
            if self._is_late(seconds[0]):
                self.record["left_out"] = [str(each) for each in settings[number:]]
                break
            total = f"; about {console.duration(sum(seconds))} in all" if seconds[1:] else ""
            place = f"{number + 1} of {len(settings)}"
            print(f"{setting} ({place}), about {console.duration(seconds[0])}{total}", flush=True)
            scored, scoring = self._score(setting)
            self.record["cells"].append(scored.row)
            self._keep_best(scored)
            if number == 0:
                for name in FIGURES:  # of an earlier evaluation
                    (self.out / name).unlink(missing_ok=True)
            self._write()
        if self.best is None:
            raise ValueError(
                f"--minutes: {settings[0]} alone would take about {console.duration(seconds[0])}. "
                "Choose a smaller --num, or fewer --steps."
            )

    def _is_late(self, seconds):
        return self.deadline is not None and time.monotonic() + seconds > self.deadline

    def _seconds_of_extractor(self):
        """Returns how long the extractor will take for all images, measured on one batch."""
        batch = self.reference.extractor.batch
        example = np.zeros((batch, *self.record["image_shape"]), "uint8")
        self.reference.extract(example)  # traces
        began = time.monotonic()
        self.reference.extract(example)
        return (time.monotonic() - began) / batch * self.generator.num

    def _score(self, setting):
        """Returns (`Scored`, seconds of scoring)."""
        num = self.generator.num
        generated, seconds = self.generator.generate(setting, progress_bar(num))
        began = time.monotonic()
        features, probabilities = self.reference.extract(generated, progress_bar(num))
        row = {**dataclasses.asdict(setting), "seconds_per_image": seconds / num}
        row.update(self.reference.score(features, probabilities, self.generator.labels))
        return Scored(setting, row, generated, features), time.monotonic() - began

    def _keep_best(self, scored):
        def rank(each):
            model, setting = self.generator.model, each.setting
            is_own = (setting.sampler, setting.num_steps) == (model.sampler, model.num_steps)
            return (not is_own, each.row["fid"])

        self.best = min([self.best or scored, scored], key=rank)

    def report(self, real):
        """Plots the figures, compares the best images with `RealImages`, prints the scores."""
        record, out = self.record, self.out
        if len(record["cells"]) > 1:
            figures.sampler_report(record["cells"], record["baseline"], out / "samplers.png")
        images.save_png(out / "samples.png", images.grid(self.best.images[:64]))
        print("searching for the nearest training images", flush=True)
        record["memorisation"] = self._compare_with_training(real)
        self._write()
        print("", tables.table(record), "", tables.facts_line(record), *_remarks(record), sep="\n")
        print(f"wrote {out}/: scores.json, scores.csv, scores.md and figures")

    def _compare_with_training(self, real):
        """Compares generated and held-out images with the training images; plots both figures."""
        best, training = self.best, real.arrays["train_images"]
        held_out = real.arrays["test_images"][:MAX_COMPARED]
        generated = best.images[:MAX_COMPARED]
        find = memorisation.nearest_or_mirrored if real.flip else memorisation.nearest
        spaces = {
            "pixels": [find(each, training) for each in (generated, held_out)],
            "features": [
                memorisation.nearest(each[:MAX_COMPARED], self.reference.train)
                for each in (best.features, self.reference.held_out)
            ],
        }
        figures.memorisation(spaces, self.out / "memorisation.png")
        rows = {}
        for space, (of_generated, of_held_out) in spaces.items():
            for name, pixels, nearest in (
                ("generated", generated, of_generated),
                ("held out", held_out, of_held_out),
            ):
                closest = np.argsort(nearest.distances, kind="stable")[:PAIRS]
                pair = (pixels[closest], nearest.matches(training)[closest])
                rows[f"{name}, by {space}"] = pair
        figures.closest_pairs(rows, self.out / "closest.png")
        return {
            "sampler": best.setting.sampler,
            "num_steps": best.setting.num_steps,
            "images": len(generated),
            "held_out": len(held_out),
            "spaces": {
                space: memorisation.compare(*(nearest.distances for nearest in both))
                for space, both in spaces.items()
            },
        }

    def _write(self):
        """Writes the scores so far, each file whole."""
        record, out = self.record, self.out
        with whole_file(out / "scores.json") as part:
            Path(part).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        with whole_file(out / "scores.csv") as part:
            tables.write_csv(record, part)
        with whole_file(out / "scores.md") as part:
            Path(part).write_text(_page(record), encoding="utf-8")


def load_image_model(path):
    """Returns the `LoadedModel` of single images at a path, or raises ValueError for --model."""
    try:
        model = loading.load(path)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    if model.frames > 1:
        raise ValueError(f"--model: {path} is of clips. Choose a model of single images.")
    return model


def _page(record):
    """Returns the scores as Markdown."""
    facts = [tables.facts_line(record), *_remarks(record)]
    return "\n\n".join([tables.table(record, markdown=True), *facts]) + "\n"


def update_card(model, record):
    """Writes the scores into the model card of an export; says so, or why not.

    Args:
        model: path or name, see `loading.load`; of a run or a .keras file there is no card.
        record: dict as in scores.json.
    """
    path, _ = export_folder.locate(model)
    if not (path / "saved_model.pb").exists():
        return
    card = path / model_card.CARD_FILE
    if export_folder.read(path).shipped:
        print(f"{card} stays as it is: the model comes with keras_diffusion")
        return
    page = _page({name: value for name, value in record.items() if name != "model"})  # has a path
    try:
        written = model_card.write(path, scores=page)
    except OSError as error:
        print(f"{card} cannot be written: {error}")
        return
    print(f"wrote {card}" if written else f"{card} stays as it is: it has no generated part")


def _remarks(record):
    """Returns lines on copies of training images, and on settings that were left out."""
    spaces = record.get("memorisation", {}).get("spaces", {})
    lines = [memorisation.in_words(space, comparison) for space, comparison in spaces.items()]
    if record["left_out"]:
        lines.append(f"left out because of --minutes: {', '.join(record['left_out'])}")
    return lines


def progress_bar(total):
    """Returns a function that shows how many of `total` images are done."""
    if not console.is_watched():  # a pipe or a file gets whole lines
        return lambda *_: None
    return keras.utils.Progbar(total, unit_name="image", interval=0.1).update
