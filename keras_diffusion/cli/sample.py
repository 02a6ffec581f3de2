"""Generate images with an exported model:  python sample.py

Needs TensorFlow, numpy and Pillow, but not Keras: the samplers are inside of the SavedModel.
TensorFlow is imported after the flags are checked.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from keras_diffusion.cli.parsing import OneLineParser, folder, with_flag, within
from keras_diffusion.cli.sample_plan import generate, make_plan
from keras_diffusion.config.guidance import LARGEST_SCALE, Guidance
from keras_diffusion.config.options import MAX_STEPS
from keras_diffusion.plotting.images import grid, save_gif, save_png, split_frames, to_pillow
from keras_diffusion.runtime.console import StatusLine, duration, number
from keras_diffusion.runtime.frameworks import import_tensorflow
from keras_diffusion.saving import export_folder

MAX_IMAGES = 1_000_000
STAGE, FRAME, LAST = 120, 120, 2000  # milliseconds that a GIF shows a stage, a frame, the image
# Arguments that the errors of `Request` and `Guidance` name, and their flags.
FLAGS = {
    "labels": "--labels",
    "prompts": "--prompt",
    "negative_prompts": "--negative-prompt",
    **{name: f"--{name.replace('_', '-')}" for name in Guidance.NAMES},
}


def parser(prog="sample.py", kind=OneLineParser):
    """Returns the parser, of class `kind`."""
    flags = kind(prog=prog, description=__doc__.split("\n")[0])
    # fmt: off
    add, count, time_ = flags.add_argument, within(1, MAX_IMAGES), within(0, 1, float)
    add("--model", metavar="NAME or DIR",
        help="an export: its name in saved_models/, such as mnist, or its folder; default: your "
        "newest in saved_models/, or without one the flowers that come with keras_diffusion")
    add("--num", type=count, metavar="N",
        help="images, at each guidance scale; default: 8 of each class if there are at most 12, "
        "else 64, or one of each class if that is more; with several scales one of each class; "
        "12 clips, or one of each class if that is more")
    classes = flags.add_mutually_exclusive_group()
    classes.add_argument("--class-name", nargs="+", metavar="NAME",
        help="only these classes; default: all, in equal shares")
    classes.add_argument("--labels", nargs="+", type=int, metavar="N",
        help="only these classes, by number")
    classes.add_argument("--prompt", nargs="+", metavar="TEXT",
        help="prompts, for models trained with --text")
    add("--negative-prompt", metavar="TEXT", help="prompt that guidance leads away from")
    add("--guidance-scale", nargs="+", type=within(0, LARGEST_SCALE, float), metavar="S",
        help="1: off; above 1: more typical of the class or prompt, less diverse; several: a grid "
        "with a column for each; default: that of the model")
    add("--guidance-interval", nargs=2, type=time_, metavar=("LOW", "HIGH"),
        help="times between which guidance is on, 0 (clean) to 1 (noise); steps outside take half "
        "the time; default: those of the model")
    add("--guidance-rescale", type=time_, metavar="SHARE",
        help="share of the contrast added by guidance that is removed again, 0 to 1; default: "
        "that of the model")
    add("--sampler", metavar="NAME",
        help="cold, ddim, ddpm, dpmpp_2m or heun; default: that of the model")
    add("--num-steps", type=within(1, MAX_STEPS), metavar="N",
        help=f"sampler steps, 1 to {MAX_STEPS}; default: that of the model")
    add("--seed", type=within(-(2**31), 2**31 - 1), default=0, metavar="N",
        help="seed; image i depends only on the seed and on i, but for rounding")
    add("--batch-size", type=count, default=64, metavar="N",
        help="images in a batch; has no effect on the images")
    add("--out", type=Path, metavar="PATH",
        help="PNG of the grid, or folder with --separate; default: samples/NAME.png, NAME that of "
        "the model")
    add("--separate", action="store_true", help="one PNG for each image, one GIF for each clip")
    add("--gif", action="store_true",
        help="also an animation, from noise to image; of clips there always is one, which plays "
        "them")
    # fmt: on
    return flags


def main(arguments=None, prog="sample.py"):
    """Runs the command; returns the exit code."""
    flags = parser(prog)
    options = flags.parse_args(arguments)
    try:
        return sample(options)
    except (ValueError, OSError) as error:
        flags.error(with_flag(error, FLAGS))
    except MemoryError:
        flags.error("--num: out of memory. Choose a smaller one.")
    except KeyboardInterrupt:
        print("\ninterrupted; no image is written", file=sys.stderr)
        return 130


def sample(options):
    """Generates and writes images; returns 0."""
    try:
        model, reason = export_folder.locate(options.model)
        config = export_folder.read(model)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    print(f"model: {model}" + (f" ({reason})" if reason else ""), flush=True)
    plan = make_plan(options, config)
    out = choose_out(options, model.resolve().name)

    began = time.monotonic()
    endpoint = load_endpoint(model, f"{'trajectory' if options.gif else 'generate'}_{plan.sampler}")
    line = ProgressLine()
    try:
        images = generate(
            endpoint, model, config.image_shape, plan.requests, options.batch_size, line
        )
    finally:
        line.clear()
    seconds = time.monotonic() - began
    try:
        if config.frames > 1:
            write_clips(images, config.frames, out, options.separate, plan.arrange)
        else:
            write(images if options.gif else images[None], out, options.separate, plan.arrange)
    except OSError as error:
        raise OSError(f"--out: {out} cannot be written: {error}") from error
    count, first = sum(request.num_images for request in plan.requests), plan.requests[0]
    what = f"{count} {'clips' if config.frames > 1 else 'images'}"
    steps = f"{first.num_steps} steps of {plan.sampler}, seed {options.seed}"
    print(f"wrote {out}: {what} of {model}, {steps}, in {seconds:.1f} s")
    return 0


def choose_out(options, name):
    """Returns the path of the PNG or folder to write; checks that it can be written."""
    out = options.out or Path("samples") / (name if options.separate else f"{name}.png")
    if not options.separate and (out.suffix.lower() != ".png" or out.is_dir()):
        raise ValueError(f"--out: {out} must be a .png file (or give --separate for a folder).")
    try:
        folder(str(out if options.separate else out.parent))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--out: {error}") from error
    return out


def load_endpoint(path, name):
    """Returns an endpoint of a SavedModel as a function: {argument: tensor} -> tensor."""
    tf = import_tensorflow()
    try:
        model = tf.saved_model.load(str(path))
        function = getattr(model, name)
    except AttributeError as error:
        raise ValueError(f"--model: {path} has no endpoint {name}.") from error
    except Exception as error:  # whatever TensorFlow makes of a damaged file
        raise ValueError(f"--model: {path} cannot be loaded: {str(error)[:200]}") from error
    return lambda tensors: function(**tensors)


class ProgressLine:
    """Progress on stderr, if that is a terminal; call it with (done, total)."""

    def __init__(self):
        self._line, self._began = StatusLine("stderr"), time.monotonic()

    def __call__(self, done, total):
        self._line.show(lambda: self._text(done, total))

    def _text(self, done, total):
        if not done:
            return f"0/{total} images"
        rate = done / (time.monotonic() - self._began)
        left = duration((total - done) / rate)
        return f"{done}/{total}  {number(rate)} images/s  {left} left"

    def clear(self):
        """Leaves an empty line."""
        self._line.clear()


def write(stages, out, separate, arrange):
    """Writes the images of the last stage and, of several stages, an animation beside them."""
    if separate:
        for index, image in enumerate(stages[-1]):
            save_png(out / f"{index:05d}.png", image)
    else:
        save_png(out, arrange(stages[-1]))
    if len(stages) > 1:
        path = out.parent / f"{out.absolute().name if separate else out.stem}.gif"
        durations = [STAGE] * (len(stages) - 1) + [LAST]
        save_gif(path, [arrange(images) for images in stages], durations)
        print(f"wrote {path}")


def write_clips(clips, frames, out, separate, arrange):
    """Writes one GIF for each clip, or the frames of all as a PNG and one GIF that plays them."""
    durations = [FRAME] * frames
    if separate:
        for index, clip in enumerate(split_frames(clips, frames)):
            save_gif(out / f"{index:05d}.gif", [to_pillow(frame) for frame in clip], durations)
        return
    save_png(out, arrange(clips))
    path = out.with_suffix(".gif")
    playing = np.moveaxis(split_frames(clips, frames), 1, 0)
    save_gif(path, [grid(images) for images in playing], durations)
    print(f"wrote {path}")
