"""Train a diffusion model:  python train.py --dataset oxford_flowers102

The flags are options of keras_diffusion/config/options.py; the preset of the data set in
keras_diffusion/config/presets/ decides the others. TensorFlow is imported after parsing.
"""

import contextlib
import re
import shlex
import sys
import time
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, add_options, folder, parse_options
from keras_diffusion.config.resolve import resolve, resumed
from keras_diffusion.runtime import frameworks
from keras_diffusion.runtime.signals import Interrupted, exiting_at_once


def parser(prog="train.py"):
    """Returns the parser."""
    flags = OneLineParser(
        prog=prog,
        description="Train a diffusion model on images, and export it.",
        epilog="Defaults are those of the preset of the data set. docs/cli.md lists all options.",
        allow_abbrev=False,
    )
    add_options(flags)
    add = flags.add_argument
    # fmt: off
    add("--run-dir", type=folder, metavar="DIR",
        help="folder of the run; default: runs/NAME-DATE-TIME, NAME that of the data")
    add("--export-dir", type=folder, metavar="DIR",
        help="folder of the SavedModel; default: saved_models/NAME, NAME as in --run-dir")
    add("--resume", nargs="?", const="", metavar="RUN_DIR",
        help="resume a run exactly; without RUN_DIR the newest one. A finished run only writes its "
        "figures and its export again")
    add("--dry-run", action="store_true",
        help="print configuration, data, parameters, FLOPs and memory, and stop")
    # fmt: on
    return flags


def main(arguments=None, prog="train.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    args = flags.parse_args(arguments)
    try:
        options = parse_options(args)
        if args.resume is None:
            config = resolve(_preset_name(options), options)
            run_dir = args.run_dir or Path(f"runs/{_name(config)}-{time.strftime('%Y%m%d-%H%M%S')}")
        elif args.resume and args.run_dir:
            raise ValueError("--run-dir: --resume names the run already. Give only one of them.")
        else:
            run_dir = Path(args.resume or args.run_dir or newest_run())
            config = resumed(run_dir, options)
        export_dir = args.export_dir or Path("saved_models") / run_dir.absolute().name
        return _train(config, run_dir, export_dir, args, prog)
    except (ValueError, OSError) as error:
        flags.error(error)
    except KeyboardInterrupt:
        print("\ninterrupted; --resume continues from the last checkpoint", file=sys.stderr)
        return 130


def _preset_name(options):
    if "image" in options:
        return "one_image"
    return options.get("dataset", None if "folder" in options else "digits")


def _name(config):
    """Returns a name for a run: that of its data."""
    name = Path(config.image).stem if config.image else config.dataset
    name = Path(config.folder).resolve().name if config.folder else name
    return re.sub(r"[^\w.-]+", "-", name)  # a variant of a data set has a slash


def newest_run(root="runs"):
    """Returns the run directory that was written to last."""
    folders = [*Path(root).glob("*/checkpoints"), *Path(root).glob("*/codec/checkpoints")]
    if not folders:
        raise FileNotFoundError(f"--resume: there is no run with a checkpoint in {root}/.")
    newest = max(folders, key=lambda path: path.stat().st_mtime)
    return Path(root) / newest.relative_to(root).parts[0]


def _train(config, run_dir, export_dir, args, prog):
    """Runs a training; returns the exit code: 0, 1 if it failed, 130 or 143 after a signal."""
    keras = frameworks.import_keras()
    with exiting_at_once():
        import tensorflow as tf

        from keras_diffusion.runtime.distribution import WorkerLost
        from keras_diffusion.training import run
        from keras_diffusion.training.callbacks import TrainingStopped

    keras.utils.set_random_seed(config.seed)  # of initial weights and dropout
    resume = args.resume is not None
    try:
        exported = run.run(config, run_dir, export_dir, resume=resume, dry_run=args.dry_run)
    except Interrupted as signal:
        with contextlib.suppress(OSError):  # the reader of stderr may have got the signal, too
            print(f"{signal}; everything is saved. Resume with:", file=sys.stderr)
            folder_name = shlex.quote(str(run_dir))
            print(f"  {_command(prog, 'train')} --resume {folder_name}", file=sys.stderr)
        return 128 + signal.signum
    except (TrainingStopped, WorkerLost) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:  # on the disk
            raise OSError(f"{error.message}") from error
        raise ValueError(
            "out of memory: choose --accumulate 2, --remat, or a smaller --batch-size."
        ) from error
    if exported:
        print(f"next\n  {_command(prog, 'sample')} --model {shlex.quote(str(export_dir))}")
        if not config.image:
            print(f"  {_command(prog, 'evaluate')} --model {shlex.quote(str(export_dir))}")
    return 0


def _command(prog, name):
    """Returns how a user calls another command, who has called this one by `prog`."""
    return f"python {name}.py" if prog.endswith(".py") else f"keras-diffusion {name}"
