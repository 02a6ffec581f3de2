"""Train a diffusion model:  python train.py --dataset oxford_flowers102

Flags are options of keras_diffusion/config/options.py; what is not given comes from the preset of
the data set in keras_diffusion/config/presets/. TensorFlow is imported after they are parsed.
"""

import argparse
import contextlib
import os
import re
import shlex
import sys
import time
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, folder, image_size
from keras_diffusion.config import options as configuration
from keras_diffusion.config.rules import CHOICES


def parser(prog="train.py"):
    """Returns the parser; the names of most flags are those of `Config`."""
    flags = OneLineParser(
        prog=prog,
        description="Train a diffusion model on images and export it for sample.py.",
        epilog="Every other option: --set key=value, see keras_diffusion/config/options.py.",
        allow_abbrev=False,
    )
    _add_data(flags)
    add = flags.add_argument
    add("--network", choices=CHOICES["network"], help="what is trained")
    add("--schedule", choices=CHOICES["schedule"], help="how much noise at which time")
    add("--prediction-type", choices=CHOICES["prediction_type"], help="of the network's output")
    add("--loss-weighting", choices=CHOICES["loss_weighting"], help="of noise levels")
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="how often all images are seen")
    length.add_argument("--minutes", type=float, help="train this long instead")
    add("--start-from", metavar="PATH", help="a run, or .keras file, to take the weights of")
    add("--batch-size", type=int, help="over all devices together")
    add("--accumulate", type=int, metavar="N", help="a batch in N parts, for less memory")
    add("--strategy", choices=CHOICES["strategy"], help="of tf.distribute, see docs/scaling.md")
    add("--remat", action="store_true", default=None, help="less memory for more time")
    add("--learning-rate", type=float, help="the peak; warmed up, then a half cosine")
    add("--precision", choices=CHOICES["precision"], help="auto: bfloat16 if the hardware has it")
    add("--seed", type=int, help="of weights, noise and order")
    add("--deterministic", action="store_true", default=None, help="the same bits, run for run")
    add("--checkpoint-minutes", type=float, help="between checkpoints within an epoch (10)")
    add("--score-every", type=int, metavar="N", help="score new pictures every N epochs")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any other option")
    add("--run-dir", type=folder, help="default: runs/NAME-DATE-TIME")
    add("--export-dir", type=folder, help="default: saved_models/NAME, NAME as in --run-dir")
    add("--resume", nargs="?", const="", metavar="RUN_DIR", help="go on; default: the newest run")
    add("--dry-run", action="store_true", help="print what would be done, and stop")
    return flags


def _add_data(flags):
    """Adds the flags about what is trained on."""
    add = flags.add_argument
    data = flags.add_mutually_exclusive_group()
    data.add_argument("--dataset", help="digits, or any image data set of tfds (mnist, ...)")
    data.add_argument("--folder", help="your own pictures; sub-folders are classes")
    data.add_argument("--image", nargs="?", const="flower", metavar="FILE",
                      help="one picture; default: the flower of scikit-learn")  # fmt: skip
    add("--data-dir", help="where tfds keeps its data")
    add("--image-size", type=image_size, metavar="N or HxW", help="in pixels")
    add("--crop-size", type=image_size, metavar="N or HxW", help="of the crops of one picture")
    add("--channels", type=int, choices=(1, 3, 4), help="default: as the images have")
    add("--train-split", help="tfds slicing string, such as train[:90%%]")
    add("--val-split", help="the same for validation")
    add("--balance", choices=CHOICES["balance"], help="classes: each equally likely")
    add("--horizontal-flip", action=argparse.BooleanOptionalAction, default=None,
        help="mirrored copies too")  # fmt: skip
    add("--limit", type=int, metavar="N", help="use only the first N training images")
    told = flags.add_mutually_exclusive_group()
    told.add_argument("--unconditional", action="store_true", default=None,
                      help="leave the labels out")  # fmt: skip
    told.add_argument("--text", action="store_true", default=None,
                      help="prompts of the names of the classes, instead of labels")  # fmt: skip
    add("--latent", action="store_true", default=None, help="diffusion on latents")
    add("--codec", metavar="PATH", help="with --latent: a run whose autoencoder is used again")


def newest_run(root="runs"):
    """Returns the run directory that was written to last."""
    stages = [*Path(root).glob("*/checkpoints"), *Path(root).glob("*/codec/checkpoints")]
    if not stages:
        raise FileNotFoundError(f"--resume: there is no run with a checkpoint in {root}/.")
    newest = max(stages, key=lambda path: path.stat().st_mtime)
    return Path(root) / newest.relative_to(root).parts[0]


def name_of(config):
    """Returns a name for the run of a Config: that of its data."""
    name = Path(config.image).stem if config.image else config.dataset
    name = Path(config.folder).resolve().name if config.folder else name
    return re.sub(r"[^\w.-]+", "-", name)  # a tfds variant has a slash


def main(arguments=None, prog="train.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    given = vars(flags.parse_args(arguments))
    run_dir, export_dir = given.pop("run_dir"), given.pop("export_dir")
    resume, dry_run = given.pop("resume"), given.pop("dry_run")
    try:
        configuration.add_settings(given, given.pop("set"))
        if resume is not None:
            if resume and run_dir:
                raise ValueError("--run-dir: --resume names the run already.")
            run_dir = Path(resume or run_dir or newest_run())
            config = configuration.resumed(run_dir, given)
        else:
            if given["image"] is not None:
                given["dataset"] = "one_image"  # the name of its preset
            elif given["dataset"] is None and given["folder"] is None:
                given["dataset"] = "digits"
            config = configuration.resolve(given["dataset"], given)
        run_dir = Path(run_dir or f"runs/{name_of(config)}-{time.strftime('%Y%m%d-%H%M%S')}")
        export_dir = export_dir or Path("saved_models") / run_dir.absolute().name
        return train(config, run_dir, export_dir, resume is not None, dry_run)
    except (ValueError, OSError) as error:
        flags.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("\ninterrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130


def train(config, run_dir, export_dir, resume, dry_run):
    """Runs a training; returns the exit code: 0, 1 if it failed, 130 or 143 after a signal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    from keras_diffusion.runtime.distribution import WorkerLost
    from keras_diffusion.runtime.signals import Interrupted
    from keras_diffusion.training import run
    from keras_diffusion.training.callbacks import TrainingStopped

    keras.utils.set_random_seed(config.seed)  # of the first weights, and of dropout
    try:
        run.run(config, run_dir, export_dir, resume=resume, dry_run=dry_run)
    except Interrupted as signal:
        with contextlib.suppress(OSError):  # whoever read it may have got the signal too
            print(f"{signal}; all is saved. Go on with:", file=sys.stderr)
            print(f"  python train.py --resume {shlex.quote(str(run_dir))}", file=sys.stderr)
        return 128 + signal.signum
    except (TrainingStopped, WorkerLost) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:  # on the disk
            raise OSError(f"{error.message}") from error
        raise ValueError(
            "out of memory: choose --accumulate 2, --remat, or a smaller --batch-size."
        ) from error
    return 0
