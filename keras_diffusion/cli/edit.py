"""Edit images with a trained model:  python edit.py inpaint photo.jpg --box 120 80 60 60

Images may have any size: each command prints which part of them it takes, and how it is resized.
TensorFlow is imported after parsing.
"""

import sys
import time
from pathlib import Path

from keras_diffusion.cli import edit_anomaly, edit_generate, edit_inpaint, edit_restore
from keras_diffusion.cli.edit_inputs import check_images, is_path, read_images
from keras_diffusion.cli.parsing import OneLineParser, locate_model, with_flag
from keras_diffusion.cli.sample import FLAGS, FRAME
from keras_diffusion.plotting.comparisons import comparison, tile
from keras_diffusion.plotting.images import save_gif, save_png
from keras_diffusion.runtime import frameworks


def parser(prog="edit.py", kind=OneLineParser):
    """Returns the parser, of class `kind`."""
    flags = kind(prog=prog, description="Edit images with a trained model.")
    subparsers = flags.add_subparsers(metavar="COMMAND", required=True)

    def command(name, run, text):
        sub = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=name, run=run, main=edit)
        return sub

    for module in (edit_inpaint, edit_restore, edit_generate, edit_anomaly):
        module.add_commands(command)
    return flags


def main(arguments=None, prog="edit.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    options = flags.parse_args(arguments)
    try:
        return options.main(options)
    except (ValueError, OSError) as error:
        flags.error(with_flag(error, {**FLAGS, "model": "--model", "num": "--num"}))
    except KeyboardInterrupt:
        print("\ninterrupted; not all results are written", file=sys.stderr)
        return 130


def edit(options):
    """Edits and writes images; returns 0."""
    check_images(options.images)
    path = locate_model(options.model)
    frameworks.import_keras()
    from keras_diffusion.saving import loading

    images = read_images(options.images)
    check_targets(images, options)
    try:
        model = loading.load(path)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    began = time.monotonic()
    results = compute(options, images, model)
    seconds = time.monotonic() - began
    write(results, options)
    count = sum(len(edited) for _, _, edited in results.rows)
    print(*results.lines, sep="\n", end="\n" * bool(results.lines))
    page = options.out / f"{options.command}.png"
    print(f"wrote {page} and {count} images beside it, with {model.name}, in {seconds:.1f} s")
    return 0


def compute(options, images, model):
    """Returns the `Results` of a command.

    Args:
        options: parsed flags; `mask` may also be a list of bool arrays (H, W), True where an image
            is filled, and `progress` a function that is called with the number of results so far.
        images: {name: uint8 (H, W, C), or a seed}, see `read_images`.
        model: `LoadedModel`.

    Raises:
        ValueError: flags that do not fit the model or the images; one line.
    """
    if (model.frames > 1) != (options.command == "fill-frames"):
        kind = "clips, for fill-frames" if model.frames > 1 else "single images, not of clips"
        raise ValueError(f"--model: {model.name} is of {kind}. Choose another model.")
    with frameworks.advising_less():
        return options.run(options, images, model)


def check_targets(names, options):
    """Raises ValueError if a result would overwrite a given image or mask."""
    targets = [options.out / f"{options.command}.png"]
    for name in (*names, "-".join(names)):
        targets += [target_of(name, number + 1, options) for number in range(options.num)]
    masks = [Path(mask) for mask in getattr(options, "mask", None) or () if isinstance(mask, str)]
    for path in (*filter(is_path, options.images), *filter(Path.exists, masks)):
        if any(target.exists() and target.samefile(path) for target in targets):
            raise ValueError(f"--out: {path} would be overwritten. Choose another folder.")


def target_of(name, number, options):
    """Returns the path of a result."""
    return options.out / f"{name}-{options.command}-{number}.png"


def write(results, options):
    """Writes every result, the animations, and the comparison grid last."""
    try:
        for name, _, edited in results.rows:
            for number, image in enumerate(edited, start=1):
                save_png(target_of(name, number, options), image)
        for name, frames in results.animations.items():
            save_animation(options.out / f"{name}-{options.command}.gif", frames)
        page = comparison(results.rows, results.titles)
        save_png(options.out / f"{options.command}.png", page)
    except OSError as error:
        raise OSError(f"--out: {options.out} cannot be written: {error}") from error


def save_animation(path, frames):
    """Writes a GIF of images uint8 (H, W, C), enlarged or reduced as in a comparison."""
    save_gif(path, [*map(tile, frames)], [FRAME] * len(frames))
