"""Score a trained model:  python evaluate.py --model saved_models/NAME

How realistic its samples are, how much of the data they cover, and whether they are copies; each
score is compared with that of real, held-out images (docs/evaluation.md). TensorFlow is imported
after parsing.
"""

import sys
from pathlib import Path

from keras_diffusion.cli import edit_anomaly
from keras_diffusion.cli.edit_anomaly import METHODS, add_anomaly_flags, existing_folder
from keras_diffusion.cli.parsing import (
    MODEL_HELP,
    OneLineParser,
    folder,
    locate_model,
    one_of,
    split_commas,
    with_flag,
    within,
)
from keras_diffusion.config.fields import LARGEST_INT, flag
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.config.options import EXTRACTORS, MAX_STEPS, OPTIONS
from keras_diffusion.runtime import frameworks
from keras_diffusion.runtime.files import require_writable
from keras_diffusion.runtime.signals import exiting_at_once

INCEPTION_SIZE = 75  # pixels, the smallest that Inception takes
SAMPLERS = OPTIONS["sampler"].metadata["choices"]
ANOMALY_FLAGS = ("normal", "reference", "noise", "times", "draws")
SAMPLE_FLAGS = (
    "num", "samplers", "steps", "minutes", "extractor", "extractor_size", "cache", *Guidance.NAMES,
    "dataset", "folder", "data_dir", "train_split", "val_split",
)  # fmt: skip


def parser(prog="evaluate.py"):
    """Returns the parser."""
    flags = OneLineParser(
        prog=prog,
        description="Score the samples of a trained model, and compare them with real images.",
        allow_abbrev=False,
    )
    # fmt: off
    add = flags.add_argument
    add("--model", metavar="NAME or PATH", help=MODEL_HELP)
    add("--num", type=within(20, LARGEST_INT), metavar="N",
        help="samples for each sampler and number of steps; default: 5000, or as many as there "
        "are held-out images if these are fewer")
    add("--samplers", type=split_commas(one_of(SAMPLERS)), metavar="A,B",
        help="score all of these samplers; default: that of the model")
    add("--steps", type=split_commas(within(1, MAX_STEPS)), metavar="N,M",
        help="with each of these numbers of steps; default: that of the model")
    add("--minutes", type=within(0, 1_000_000, float), metavar="X",
        help="time limit: combinations that do not fit are left out, and listed")
    add("--extractor", default="classifier", metavar="NAME",
        help="feature extractor: classifier (a small one, trained on the data in a minute or two), "
        "inception (downloaded by Keras), or the path of a Keras model")
    add("--extractor-size", type=within(INCEPTION_SIZE, 299), metavar="N",
        help="size in pixels of the input of --extractor inception; default: 75, which also gives "
        "KID in the units of the keras.io example")
    add("--guidance-scale", type=float, metavar="S",
        help="scale of classifier-free guidance, 1: off; default: that of the model")
    add("--guidance-interval", nargs=2, type=float, metavar=("LOW", "HIGH"),
        help="times between which guidance is on, 0 (clean) to 1 (noise); default: those of the "
        "model")
    add("--guidance-rescale", type=float, metavar="SHARE",
        help="share of the contrast added by guidance that is removed again; default: that of the "
        "model")
    add("--seed", type=within(0, LARGEST_INT), default=0, metavar="N", help="seed of the samples")
    add("--batch-size", type=within(1, LARGEST_INT), default=64, metavar="N",
        help="images in a batch")
    data = flags.add_mutually_exclusive_group()
    data.add_argument("--dataset", metavar="NAME",
                      help="data set of the real images; default: that of the training")
    data.add_argument("--folder", metavar="DIR", help="folder of the real images, instead")
    add("--data-dir", metavar="DIR", help=OPTIONS["data_dir"].metadata["help"])
    add("--train-split", metavar="SPLIT",
        help="reference images, a slicing string of TensorFlow Datasets; default: those of the "
        "training")
    add("--val-split", metavar="SPLIT",
        help="held-out images, likewise; default: the validation images of the training")
    add("--out", type=folder, metavar="DIR",
        help="folder of the results; default: evaluations/NAME, NAME that of the model")
    add("--cache", type=folder, default=Path("evaluations/cache"), metavar="DIR",
        help="folder of classifiers and features, which later evaluations use again")
    add("--anomaly", nargs="+", type=existing_folder, metavar="FOLDER",
        help="instead of samples, score images for how unusual they are: how well the model tells "
        "abnormal ones from normal ones (docs/guide.md); sub-folders are classes")
    add_anomaly_flags(flags)
    # fmt: on
    return flags


def main(arguments=None, prog="evaluate.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    args = flags.parse_args(arguments)
    try:
        _check(args)
        (_find_anomalies if args.anomaly else _evaluate)(args, locate_model(args.model))
    except (ValueError, OSError) as error:
        flags.error(with_flag(error, {name: flag(name) for name in ("model", *Guidance.NAMES)}))
    except KeyboardInterrupt as error:
        print(f"\ninterrupted; {str(error) or 'no scores are written'}", file=sys.stderr)
        return 130
    return 0


def _check(args):
    """Raises ValueError for what can be checked before TensorFlow is imported."""
    defaults = parser()
    for name in SAMPLE_FLAGS if args.anomaly else ANOMALY_FLAGS:
        if getattr(args, name) != defaults.get_default(name):
            kind = "with" if args.anomaly else "without"
            raise ValueError(f"{flag(name)}: has no effect {kind} --anomaly.")
    if args.folder == "":
        raise ValueError("--folder: is empty. Give a value, or leave the option out.")
    if args.folder is not None and not Path(args.folder).exists():
        raise ValueError(f"--folder: {args.folder} does not exist.")
    if args.extractor not in EXTRACTORS and not Path(args.extractor).is_file():
        raise ValueError(
            f"--extractor: unknown {args.extractor!r}. Choose from: {', '.join(EXTRACTORS)}, or "
            "the path of a Keras model."
        )
    if args.extractor_size is not None and args.extractor != "inception":
        raise ValueError("--extractor-size: has no effect without --extractor inception.")
    Guidance(scale=2).changed(vars(args), num_classes=1)  # the scale of the model is not known yet


def _evaluate(args, model):
    frameworks.import_keras()
    with exiting_at_once():
        from keras_diffusion.evaluation import real_images
        from keras_diffusion.evaluation import run as evaluating

    out = args.out or Path("evaluations") / _name(model.resolve())
    for name, path in (("--out", out), ("--cache", args.cache)):
        require_writable(name, path)
    names = ("cache", "num", "samplers", "steps", "minutes", "extractor", "seed", "batch_size")
    settings = evaluating.Settings(
        out=out,
        guidance={name: getattr(args, name) for name in Guidance.NAMES},
        data={name: getattr(args, name) for name in real_images.OPTIONS},
        extractor_size=args.extractor_size or INCEPTION_SIZE,
        **{name: getattr(args, name) for name in names},
    )
    with frameworks.advising_less("--batch-size or --num"), frameworks.raising_os_errors():
        evaluating.run(model, settings)


def _find_anomalies(args, model):
    out = args.out or Path("evaluations") / _name(model.resolve()) / "anomaly"
    require_writable("--out", out)
    edit_anomaly.run(
        model,
        folders=args.anomaly,
        out=out,
        normal=args.normal,
        reference=args.reference,
        methods=tuple(args.noise or METHODS[:3]),
        contrasts=("raw", "normalised"),
        options=edit_anomaly.given_options(args),
        seed=args.seed,
        batch_size=args.batch_size,
    )


def _name(model):
    """Returns the name of the folder of results; that of a checkpoint alone is not unique."""
    run = f"{model.parents[1].name}-" if model.parent.name == "checkpoints" else ""
    return run + model.name.removesuffix(".keras")
