"""Who is measured. Each subject is one file with VARIANTS and a class `Subject`:

    Subject(task, variant, tiny=False)       task: a key of TASKS; tiny: a toy network
    .parameters                              int, trainable ones
    .flops                                   int, of one image forward, 2 for each multiply-add
    .train(images, batch_size, should_stop)  endless shuffled batches of uint8 (N, H, W, C); calls
                                             should_stop(step), step = 1, 2, ..., after each
                                             optimizer step and ends when that is true
    .sample(num, num_steps, seed)            uint8 (num, H, W, C), from the averaged weights
    .call(num)                               one call of the averaged network, without gradients
    .save(path), .load(path)                 all weights; path without suffix
    .forget_average()                        the last weights take its place; of peers in quality

Each is trained as its own users train it: its loss, optimizer, clipping and averaging. The torch
subjects import no TensorFlow and the others no torch: start-up and memory are measured.
"""

import importlib

TASKS = {"mnist": (28, 28, 1), "flowers": (64, 64, 3)}  # image shapes
TINY_TASKS = {"mnist": (8, 8, 1), "flowers": (16, 16, 3)}
BATCH_SIZES = {"mnist": 128, "flowers": 64}
SAMPLE_BATCH = 64  # pictures that are drawn at once, by every subject

DATASET_TITLES = {"mnist": "MNIST 28x28", "flowers": "Oxford Flowers 64x64"}
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


def image_shape(task, tiny=False):
    """Returns (height, width, channels) of the images of a task."""
    return (TINY_TASKS if tiny else TASKS)[task]


def in_batches(num, draw):
    """Yields draw(first, count) for `num` pictures, SAMPLE_BATCH at a time."""
    for first in range(0, num, SAMPLE_BATCH):
        yield draw(first, min(SAMPLE_BATCH, num - first))
