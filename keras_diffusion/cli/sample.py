"""Generate images with an exported model:  python sample.py

Needs TensorFlow, numpy and Pillow, but not Keras: the samplers are inside of the SavedModel.
TensorFlow is imported after the flags are checked.
"""

import argparse
import dataclasses
import sys
import time
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from keras_diffusion.cli.parsing import OneLineParser, folder, with_flag, within
from keras_diffusion.config.guidance import LARGEST_SCALE, Guidance
from keras_diffusion.plotting.images import (
    add_labels,
    grid,
    readable,
    save_gif,
    save_png,
    split_frames,
    strips,
    to_pillow,
)
from keras_diffusion.runtime.console import StatusLine, duration, number
from keras_diffusion.runtime.frameworks import import_tensorflow
from keras_diffusion.sampling.request import Request
from keras_diffusion.saving import export_folder

MAX_IMAGES = 1_000_000
MAX_COLUMNS = 12  # of a grid with a column for each class
CLIPS = 12  # by default
STAGE, FRAME, LAST = 120, 120, 2000  # milliseconds that a GIF shows a stage, a frame, the image
# Arguments that the errors of `Request` and `Guidance` name, and their flags.
FLAGS = {
    "labels": "--labels",
    "prompts": "--prompt",
    "negative_prompts": "--negative-prompt",
    **{name: f"--{name.replace('_', '-')}" for name in Guidance.NAMES},
}


def parser(prog="sample.py"):
    """Returns the parser."""
    flags = OneLineParser(prog=prog, description=__doc__.split("\n")[0])
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
    add("--num-steps", type=within(1, export_folder.MAX_STEPS), metavar="N",
        help="sampler steps, 1 to 1000; default: that of the model")
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
        flags.error("out of memory: choose a smaller --num.")
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
    sampler = options.sampler or config.sampler
    if sampler not in config.samplers:
        choices = ", ".join(config.samplers)
        raise ValueError(f"--sampler: unknown {sampler!r}. Choose from: {choices}.")
    if options.gif and config.frames > 1:
        raise ValueError("--gif: this model makes clips, which get a GIF anyway. Leave it out.")
    names, conditions = choose_conditions(options, config)
    numbers = conditions.get("labels", range(1, len(names) + 1))  # prompts count from 1
    names = [readable(name, number) for name, number in zip(names, numbers, strict=False)]
    guidances = choose_guidances(options, config)
    requests = make_requests(options, config, conditions, guidances)
    out = choose_out(options, model.resolve().name)
    print(f"model: {model}" + (f" ({reason})" if reason else ""), flush=True)

    began = time.monotonic()
    endpoint = f"{'trajectory' if options.gif else 'generate'}_{sampler}"
    images = generate(model, endpoint, requests, options.batch_size, config.image_shape)
    seconds = time.monotonic() - began
    arrange = grid_function(names, guidances, requests[0].num_images, config.frames)
    try:
        if config.frames > 1:
            write_clips(images, config.frames, out, options.separate, arrange)
        else:
            write(images if options.gif else images[None], out, options.separate, arrange)
    except OSError as error:
        raise OSError(f"--out: {out} cannot be written: {error}") from error
    what = f"{requests[0].num_images * len(requests)} {'clips' if config.frames > 1 else 'images'}"
    steps = f"{requests[0].num_steps} steps of {sampler}, seed {options.seed}"
    print(f"wrote {out}: {what} of {model}, {steps}, in {seconds:.1f} s")
    return 0


def choose_conditions(options, config):
    """Returns the classes or prompts to generate in turn, as flags choose them.

    Returns:
        (names, {argument of `Request`: list of values}); both empty for a model without labels.
    """
    count, names = config.num_classes, config.class_names
    if options.prompt:
        return options.prompt, {"prompts": options.prompt}
    if not count:
        if options.class_name:
            raise ValueError("--class-name: this model was trained without labels.")
        return [], {"labels": options.labels} if options.labels else {}
    for label in options.labels or ():
        if not 0 <= label < count:
            raise ValueError(f"--labels: {label} is not in 0 .. {count - 1}.")
    for name in options.class_name or ():
        if not names:
            raise ValueError(
                f"--class-name: this model has no class names; --labels takes 0 .. {count - 1}."
            )
        if name not in names:
            near = get_close_matches(name, names, n=5, cutoff=0.4) or names[:20]
            raise ValueError(f"--class-name: unknown {name!r}. Choose from: {', '.join(near)}.")
    labels = [names.index(name) for name in options.class_name or ()]
    labels = labels or options.labels or list(range(count))
    titles = config.prompts.plain if config.prompts else names or list(map(str, range(count)))
    return [titles[label] for label in labels], {"labels": labels}


def choose_guidances(options, config):
    """Returns the list of `Guidance`, one for each scale."""
    scales = options.guidance_scale or [None]
    changed = {name: getattr(options, name) for name in Guidance.NAMES}
    changed["guidance_scale"] = max(scales, key=lambda scale: scale != 1)  # 1 only if all are
    guidance = config.guidance.changed(changed, config.num_classes)
    if scales == [None]:
        return [guidance]
    return [dataclasses.replace(guidance, scale=scale) for scale in scales]


def make_requests(options, config, conditions, guidances):
    """Returns the list of `Request`, one for each `Guidance`."""
    num, count = options.num, max([0, *map(len, conditions.values())])
    if num is None and len(guidances) > 1:
        num = count
    elif num is None and config.frames > 1:
        num = max(CLIPS, count)
    elif num is None:
        num = 8 * count if 0 < count <= MAX_COLUMNS else max(64, count)
    requests = []
    for guidance in guidances:
        negative = options.negative_prompt
        if guidance.scale == 1 and any(other.scale != 1 for other in guidances):
            negative = None  # without effect
        requests.append(
            Request(
                model=config,
                num_images=num,
                num_steps=options.num_steps or config.num_steps,
                seed=options.seed,
                guidance=guidance,
                negative_prompts=negative,
                **{name: [each[i % len(each)] for i in range(num)]
                   for name, each in conditions.items()},
            )
        )  # fmt: skip
    return requests


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


def generate(path, endpoint, requests, batch_size, image_shape):
    """Returns uint8 images ([F,] N, H, W, C), those of the requests side by side.

    Args:
        path: SavedModel folder.
        endpoint: its name.
        requests: list of `Request` for the same number of images.
        image_shape: (H, W, C).
    """
    tf = import_tensorflow()
    try:
        model = tf.saved_model.load(str(path))
        function = getattr(model, endpoint)
    except AttributeError as error:
        raise ValueError(f"--model: {path} has no endpoint {endpoint}.") from error
    except Exception as error:  # whatever TensorFlow makes of a damaged file
        raise ValueError(f"--model: {path} cannot be loaded: {str(error)[:200]}") from error
    total, done, columns = sum(request.num_images for request in requests), 0, []
    line, began = StatusLine("stderr"), time.monotonic()
    line.show(lambda: f"0/{total} images")
    try:
        for request in requests:
            parts = []
            for rows in request.batches(batch_size):
                tensors = {n: tf.constant(v) for n, v in {**rows, **request.shared}.items()}
                parts.append(function(**tensors).numpy())
                shape = (len(rows["indices"]), *image_shape)
                if parts[-1].dtype != np.uint8 or parts[-1].shape[-4:] != shape:
                    raise ValueError(f"its images are {parts[-1].dtype} {parts[-1].shape}")
                done += len(rows["indices"])
                rate = done / (time.monotonic() - began)
                left = duration((total - done) / rate)
                line.show(lambda: f"{done}/{total}  {number(rate)} images/s  {left} left")  # noqa: B023
            columns.append(np.concatenate(parts, axis=-4))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ValueError("out of memory: choose a smaller --batch-size.") from error
    except Exception as error:  # a graph of another program
        raise ValueError(
            f"--model: {path} cannot be sampled as its config.json says: {str(error)[:200]}"
        ) from error
    finally:
        line.clear()
    images = np.stack(columns, axis=-4)  # a row for each image, with a column for each request
    return images.reshape(*images.shape[:-5], -1, *image_shape)


def grid_function(names, guidances, num, frames=1):
    """Returns the function from images to a Pillow grid: a column for each class, or scale.

    Of clips, a row is for one clip, or for one clip at each scale.
    """
    if len(guidances) > 1:
        rows = [names[row % len(names)] for row in range(num)]
        columns = [f"{guidance.scale:g}" for guidance in guidances]
        return lambda images: add_labels(
            grid(strips(images, frames), len(columns)), rows, columns, "guidance scale"
        )
    columns = len(names) if 1 < len(names) <= MAX_COLUMNS else round(num**0.5)
    return lambda images: grid(strips(images, frames), 1 if frames > 1 else max(1, columns))


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
