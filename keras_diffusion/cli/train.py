"""Train a diffusion model:  python train.py --dataset oxford_flowers102

The flags are options of keras_diffusion/config/options.py; the preset of the data set in
keras_diffusion/config/presets/ decides the others. TensorFlow is imported after parsing.
"""

import contextlib
import importlib
import itertools
import os
import re
import sys
import time
import unicodedata
from pathlib import Path

from keras_diffusion.cli.parsing import OneLineParser, add_options, folder, parse_options
from keras_diffusion.config.resolve import resolve, resumed
from keras_diffusion.runtime import frameworks
from keras_diffusion.runtime.console import shell_path
from keras_diffusion.runtime.signals import Interrupted, exiting_at_once

TIME = "%Y%m%d-%H%M%S"
MAX_NAME = 50  # characters, which may be 4 bytes each; file systems take 255


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
        help="folder of the SavedModel; default: in saved_models/, named as the folder of the run")
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
            run_dir = args.run_dir or Path("runs", f"{_name(config)}-{time.strftime(TIME)}")
        elif args.resume and args.run_dir:
            raise ValueError("--run-dir: --resume names the run already. Give only one of them.")
        else:
            run_dir = Path(args.resume or args.run_dir or newest_run())
            config = resumed(run_dir, options)
        frameworks.import_keras()
        with exiting_at_once():
            importlib.import_module("keras_diffusion.training.run")
        is_named = args.resume is not None or args.run_dir or args.dry_run
        with contextlib.nullcontext(run_dir) if is_named else _claimed(run_dir) as run_dir:
            name = Path(os.path.abspath(run_dir)).name or "model"
            export_dir = args.export_dir or Path("saved_models", name)
            return _train(config, run_dir, export_dir, args, prog)
    except (ValueError, OSError) as error:
        flags.error(error)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing has been written", file=sys.stderr)
        return 130


def _preset_name(options):
    if "image" in options:
        return "one_image"
    return options.get("dataset", None if "folder" in options else "digits")


def _name(config):
    """Returns a name for a run: that of its data."""
    name = Path(config.image).stem if config.image else config.dataset
    name = Path(config.folder).resolve().name if config.folder else name
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name))  # variants have a slash
    return name.strip("-.")[:MAX_NAME] or "images"


@contextlib.contextmanager
def _claimed(run_dir):
    """Creates the folder of a new run, with a number in its name if another run has it already.

    Yields its path; removes it if it is still empty at the end.
    """
    root = run_dir.parent
    had_root, path = root.exists(), run_dir
    for number in itertools.count(2):
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            path = run_dir.with_name(f"{run_dir.name}-{number}")
        except OSError as error:
            raise OSError(
                f"--run-dir: {path} cannot be created ({error.strerror}). Choose another folder."
            ) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()
            if not had_root:
                root.rmdir()


def newest_run(root="runs"):
    """Returns the run directory that was written to last."""
    folders = [*Path(root).glob("*/checkpoints"), *Path(root).glob("*/codec/checkpoints")]
    if not folders:
        raise FileNotFoundError(
            f"--resume: there is no run with a checkpoint in {Path(root).absolute()}/. Change to "
            "the folder of the training, or name a run."
        )
    newest = max(folders, key=lambda path: path.stat().st_mtime)
    return Path(root) / newest.relative_to(root).parts[0]


def _train(config, run_dir, export_dir, args, prog):
    """Runs a training; returns the exit code: 0, 1 if it failed, 130 or 143 after a signal."""
    import keras
    import tensorflow as tf

    from keras_diffusion.runtime.distribution import WorkerLost
    from keras_diffusion.training import run
    from keras_diffusion.training.callbacks import TrainingStopped

    keras.utils.set_random_seed(config.seed)  # of initial weights and dropout
    resume = args.resume is not None
    command = f"{_command(prog, 'train')} --resume {shell_path(run_dir)}"
    if args.export_dir:
        command += f" --export-dir {shell_path(export_dir)}"
    try:
        with frameworks.raising_os_errors():
            exported = run.run(config, run_dir, export_dir, resume=resume, dry_run=args.dry_run)
    except Interrupted as signal:
        with contextlib.suppress(OSError):  # the reader of stderr may have got the signal, too
            print(f"{signal}; everything is saved. Resume with:", file=sys.stderr)
            print(f"  {command}", file=sys.stderr)
        return 128 + signal.signum
    except KeyboardInterrupt:  # outside of the training itself
        saved = run.has_checkpoint(run_dir)
        what = "the checkpoints are saved. Resume with:" if saved else "there is no checkpoint"
        print(f"\ninterrupted; {what}" + (f"\n  {command}" if saved else ""), file=sys.stderr)
        return 130
    except run.ExportFailed as error:
        raise OSError(
            f"--export-dir: {error} The training is finished and saved. Export it with: {command}"
        ) from error
    except (TrainingStopped, WorkerLost) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        # With a checkpoint, the message names it.
        what = str(error) if "Training has stopped" in str(error) else "out of memory."
        raise ValueError(
            f"{what} Choose --accumulate 2, --remat, or a smaller --batch-size."
        ) from error
    if exported:
        print(f"next\n  {_command(prog, 'sample')} --model {shell_path(export_dir)}")
        if not config.image:
            print(f"  {_command(prog, 'evaluate')} --model {shell_path(export_dir)}")
    return 0


def _command(prog, name):
    """Returns how a user calls another command, who has called this one by `prog`."""
    return f"python {name}.py" if prog.endswith(".py") else f"keras-diffusion {name}"
