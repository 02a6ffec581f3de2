"""`edit.py anomaly`: what is unusual in images; what it shares with `evaluate.py --anomaly`."""

import argparse
from pathlib import Path

from keras_diffusion.cli.parsing import (
    MODEL_HELP,
    folder,
    locate_model,
    one_of,
    split_commas,
    within,
)
from keras_diffusion.diffusion.noise import ANOMALY_METHODS as METHODS
from keras_diffusion.runtime import frameworks


def existing_folder(text):
    """Parses the path of a folder."""
    if not text or not Path(text).is_dir():
        what = "is not a folder" if text and Path(text).exists() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text!r} {what}. Give a folder of images.")
    return Path(text)


def add_commands(command):
    """Adds the command; command(name, function, help) returns its parser."""
    # fmt: off
    sub = command("anomaly", None, "find what is unusual in images, with a model of normal ones")
    sub.set_defaults(main=find)
    add = sub.add_argument
    add("folders", nargs="+", type=existing_folder, metavar="FOLDER",
        help="folders of images; sub-folders are classes")
    add("--model", metavar="NAME or PATH", help=MODEL_HELP)
    add_anomaly_flags(sub)
    add("--seed", type=within(0, 2**31 - 1), default=0, metavar="N", help="seed of the noise")
    add("--batch-size", type=within(1, 100_000), default=64, metavar="N",
        help="results that are computed at once; has no effect on them")
    add("--out", type=folder, default=Path("edits"), metavar="DIR",
        help="folder of the results: scores.csv, anomaly.png with examples, maps/ with image, map "
        "and overlay of each image")
    # fmt: on


def add_anomaly_flags(parser):
    """Adds the flags that `edit.py anomaly` and `evaluate.py --anomaly` share."""
    # fmt: off
    add = parser.add_argument
    add("--normal", metavar="NAME",
        help="class of normal images; the area under the ROC curve then says how well the scores "
        "separate all others from it; default: normal, good or healthy, if there is one")
    add("--reference", type=existing_folder, metavar="DIR",
        help="normal images that all are compared with, 20 or more; default: images of the "
        "training")
    add("--noise", type=split_commas(one_of(METHODS)), metavar="A,B",
        help="what is added to the images: gaussian, coarse or simplex noise; or inversion, which "
        "turns images into noise and back; default: gaussian, in an evaluation the first three")
    add("--times", type=split_commas(within(0.001, 1, float)), metavar="T,T",
        help="how much is added, from 0 (nothing) to 1 (noise alone); default: 0.1,0.6")
    add("--draws", type=within(1, 1000), metavar="N", help="draws of the noise; default: 4")
    # fmt: on


def given_options(options):
    """Returns the arguments of `anomaly_map` that flags give.

    Raises:
        ValueError: a number of draws for inversion, which draws none.
    """
    if options.draws and options.noise == ["inversion"]:
        raise ValueError("--draws: no effect with --noise inversion. Leave one of them out.")
    given = {"times": options.times, "num_draws": options.draws}
    return {name: value for name, value in given.items() if value is not None}


def find(options):
    """Runs `edit.py anomaly`; returns 0."""
    given = given_options(options)
    run(
        locate_model(options.model),
        folders=options.folders,
        out=options.out,
        normal=options.normal,
        reference=options.reference,
        methods=tuple(options.noise or METHODS[:1]),
        options=given,
        seed=options.seed,
        batch_size=options.batch_size,
    )
    return 0


def run(path, **settings):
    """Runs `evaluation.anomaly.run` with a model and the fields of its `Settings`."""
    frameworks.import_keras()
    from keras_diffusion.evaluation import anomaly
    from keras_diffusion.evaluation.run import load_image_model

    model = load_image_model(path)
    with frameworks.advising_less(), frameworks.raising_os_errors():
        anomaly.run(model, anomaly.Settings(**settings))
