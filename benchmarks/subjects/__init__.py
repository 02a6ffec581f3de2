"""The libraries that are compared. Each is one file with VARIANTS and a class `Subject`:

    Subject(task, variant, tiny=False)       task: a key of TASKS; tiny: a toy network
    .facts()                                 dict: parameters (trainable), flops (one image forward,
                                             2 per multiply-add), and precision of ours
    .train(images, batch_size, should_stop)  endless shuffled batches of uint8 (N, H, W, C); calls
                                             should_stop(step), step = 1, 2, ..., after each
                                             optimizer step and stops when it returns True
    .sample(num, num_steps, seed)            uint8 (num, H, W, C), from the averaged weights
    .call(num)                               one call of the averaged network, without gradients

and of those that the quality sections compare with:

    .save(path), .load(path)                 all weights; path without suffix
    .use_last_weights()                      sample from the last weights, not their average

Each is trained as its own users train it: its loss, optimizer, clipping and averaging. The torch
subjects import no TensorFlow and the others no torch: start-up and memory are measured.
"""

import importlib
import re

from benchmarks import machine

TASKS = {"mnist": (28, 28, 1), "flowers": (64, 64, 3)}  # image shapes
TINY_TASKS = {"mnist": (8, 8, 1), "flowers": (16, 16, 3)}
BATCH_SIZES = {"mnist": 128, "flowers": 64}
TINY_BATCH_SIZE = 16
SAMPLE_BATCH = 64  # images that every subject samples at once

DATASET_TITLES = {"mnist": "MNIST 28x28", "flowers": "Oxford Flowers 64x64"}
TORCH_VARIANTS = (
    "float32", "float32, channels last", "float32, compiled", "bfloat16 autocast",
    "bfloat16 autocast, channels last", "bfloat16 autocast, compiled",
)  # fmt: skip
TITLES = {
    "ours": "keras_diffusion",
    "ddp": "denoising-diffusion-pytorch",
    "diffusers_unet": "diffusers UNet2DModel",
    "keras_ddim": "keras.io DDIM example",
}


def make(name, task, variant, tiny=False):
    """Returns the `Subject` of a file in this folder, in a process that measures it alone."""
    module = importlib.import_module(f"benchmarks.subjects.{name}")
    if variant not in module.VARIANTS:
        raise ValueError(f"{name} has no variant {variant!r}; choose from {module.VARIANTS}")
    return module.Subject(task, variant, tiny)


def rows(libraries, tiny):
    """Returns what is measured of {subject: variants}, a list of rows with one of each.

    Without bfloat16 in the processor, its variants are left out, and so is our float32, the default
    there. If tiny, only the first variant of each subject is measured.
    """
    left_out = "ours float32|bfloat16" if not machine.has_bfloat16() else "^$"
    measured = []
    for subject, variants in libraries.items():
        usable = [name for name in variants if not re.search(left_out, f"{subject} {name}")]
        measured += [
            {"subject": subject, "variant": name} for name in usable[: 1 if tiny else None]
        ]
    return measured


def image_shape(task, tiny=False):
    """Returns (height, width, channels) of the images of a task."""
    return (TINY_TASKS if tiny else TASKS)[task]


def batch_size(task, tiny=False):
    """Returns the number of images in a training batch."""
    return TINY_BATCH_SIZE if tiny else BATCH_SIZES[task]


def in_batches(num, sample):
    """Yields sample(first, count) for `num` images, SAMPLE_BATCH at a time."""
    for first in range(0, num, SAMPLE_BATCH):
        yield sample(first, min(SAMPLE_BATCH, num - first))


def cells(row):
    """Returns the cells subject, variant, parameters and GFLOP (one image forward) of a row."""
    facts = row.get("runs", [{}])[0]
    variant, precision = row["variant"], facts.get("precision")
    notes = {"default": "default", "deeper": "two blocks per level"}
    if variant in notes and precision:
        variant = f"{precision} ({notes[variant]})"
    size = [f"{facts['parameters'] / 1e6:.2f} M", f"{facts['flops'] / 1e9:.2f}"] if facts else "--"
    return [TITLES[row["subject"]], variant, *size]
