"""Score a trained model:  python evaluate.py --model saved_models/NAME

How real its pictures are, how much of the data they cover, whether they are copies; beside each
score what real, held-out pictures get (docs/evaluation.md). TensorFlow is imported after the
flags are parsed.
"""

import argparse
import os
import sys
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, folder, listed, within
from keras_diffusion.config.options import flag
from keras_diffusion.config.rules import CHOICES, GUIDANCE, LARGEST_INT

EXTRACTORS = ("classifier", "inception")
INCEPTION_SIZE = 75  # pixels, the least that it takes


def sampler(text):
    """Parses the name of a sampler."""
    if text not in CHOICES["sampler"]:
        choices = ", ".join(sorted(CHOICES["sampler"]))
        raise argparse.ArgumentTypeError(f"unknown {text!r}. Choose from: {choices}.")
    return text


def parser(prog="evaluate.py"):
    """Returns the parser."""
    flags = OneLineParser(
        prog=prog,
        description="Score the pictures of a trained model against real ones.",
        allow_abbrev=False,
    )
    add = flags.add_argument
    add("--model", help="an export, a run directory or a .keras file; default: the newest export")
    add("--num", type=within(20, LARGEST_INT), help="pictures; default: 5000, or all held-out ones")
    add("--samplers", type=listed(sampler), metavar="A,B", help="default: the model's own")
    add("--steps", type=listed(within(1, 1000)), metavar="N,M", help="of the samplers")
    add("--minutes", type=within(0, 1_000_000, float), help="leave out what does not fit")
    add("--extractor", default="classifier", help="classifier, inception, or a Keras model's path")
    add("--extractor-size", type=within(INCEPTION_SIZE, 299), help="pixels, for inception (75)")
    add("--guidance-scale", type=within(0, 100, float), help="default: the model's own")
    add("--guidance-interval", nargs=2, type=within(0, 1, float), metavar=("LOW", "HIGH"))
    add("--guidance-rescale", type=within(0, 1, float), metavar="SHARE")
    add("--seed", type=within(0, LARGEST_INT), default=0, help="of the pictures that are drawn")
    add("--batch-size", type=within(1, LARGEST_INT), default=64, help="pictures at once")
    data = flags.add_mutually_exclusive_group()
    data.add_argument("--dataset", help="of the real pictures; default: what it was trained on")
    data.add_argument("--folder", help="the same, of your own pictures")
    add("--data-dir", help="where tfds keeps its data")
    add("--train-split", help="tfds slicing string of the reference")
    add("--val-split", help="the same, of the held-out pictures")
    add("--out", type=folder, help="folder of the results; default: evaluations/NAME")
    add("--cache", type=folder, default=Path("evaluations/cache"),
        help="folder of classifiers and features")  # fmt: skip
    return flags


def main(arguments=None, prog="evaluate.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    given = flags.parse_args(arguments)
    try:
        _check(given)
        return evaluate(given)
    except (ValueError, OSError) as error:
        flags.error(" ".join(str(error).split()))
    except KeyboardInterrupt as error:
        done = str(error) or "no scores are written"
        print(f"\ninterrupted; {done}", file=sys.stderr)
        return 130


def _check(given):
    """Raises ValueError for what can be told before TensorFlow is imported."""
    for name in ("model", "folder"):
        path = getattr(given, name)
        if path == "":
            raise ValueError(f"{flag(name)}: is empty; give a value or leave the flag out.")
        if path is not None and not Path(path).exists():
            raise ValueError(f"{flag(name)}: {path} does not exist.")
    if given.extractor not in EXTRACTORS and not Path(given.extractor).is_file():
        raise ValueError(
            f"--extractor: unknown {given.extractor!r}. Choose from: {', '.join(EXTRACTORS)}, or "
            "the path of a Keras model."
        )
    if given.extractor_size is not None and given.extractor != "inception":
        raise ValueError("--extractor-size: is for --extractor inception.")
    if given.guidance_interval and given.guidance_interval[0] > given.guidance_interval[1]:
        raise ValueError("--guidance-interval: LOW is above HIGH.")
    for name in GUIDANCE[1:]:
        if getattr(given, name) is not None and given.guidance_scale == 1:
            raise ValueError(f"{flag(name)}: changes nothing at --guidance-scale 1; give another.")


def evaluate(given):
    """Runs an evaluation; returns 0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    from keras_diffusion.evaluation import real_images
    from keras_diffusion.evaluation import run as evaluating
    from keras_diffusion.saving import loading

    try:
        model = Path(given.model or loading.newest())
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    print(f"model: {model}", flush=True)
    names = ("cache", "num", "samplers", "steps", "minutes", "extractor", "seed", "batch_size")
    try:
        evaluating.run(
            model,
            out=given.out or Path("evaluations") / _name(model.resolve()),
            guidance={name: getattr(given, name) for name in GUIDANCE},
            where={name: getattr(given, name) for name in real_images.WHERE},
            extractor_size=given.extractor_size or INCEPTION_SIZE,
            **{name: getattr(given, name) for name in names},
        )
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ValueError("out of memory: choose a smaller --batch-size or --num.") from error
    return 0


def _name(model):
    """Of the folder of results: a checkpoint's name alone could be that of any run."""
    run = f"{model.parents[1].name}-" if model.parent.name == "checkpoints" else ""
    return run + model.name.removesuffix(".keras")
