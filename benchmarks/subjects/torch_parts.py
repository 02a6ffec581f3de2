"""Code that both torch subjects share: threads, batches, bfloat16, training loop, weights."""

import numpy as np
import torch

from benchmarks import machine

CLIP_NORM = 1.0  # in the trainers of both


def prepare(tiny=False):
    """Sets threads and seeds; returns a numpy generator.

    Toy networks get one thread: waiting for each other would take most of the time.
    """
    torch.set_num_threads(1 if tiny else machine.cores())
    torch.manual_seed(0)
    load_torchvision()
    return np.random.default_rng(0)


def load_torchvision():
    """Imports torchvision, even if its kernels are built for another torch.

    Both libraries import it for functions that are not used here. The wheel on PyPI has kernels for
    CUDA only, and with a CPU build of torch its import fails at two missing operators. Declaring
    them is enough, as they are never called.
    """
    names = [f"torchvision::{name}" for name in ("nms", "qnms")]
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if not any(name in str(error) for name in names):
            raise
        for name in names:
            torch.library.define(
                name, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision  # noqa: F401


def autocast(variant):
    """Returns the context manager that a variant computes in."""
    return torch.autocast("cpu", torch.bfloat16, enabled=variant.startswith("bfloat16"))


def with_layout(module, variant):
    """Returns the module, with channels-last weights if the variant says so."""
    if variant.endswith("channels last"):
        module.to(memory_format=torch.channels_last)
    return module


def compiled(module, variant):
    """Returns the module, compiled if the variant says so; both share their weights."""
    return torch.compile(module) if variant.endswith("compiled") else module


def batches(images, batch_size, generator):
    """Yields float32 tensors (B, C, H, W) in [0, 1] without end, shuffled in each epoch."""
    size = min(batch_size, len(images))
    while True:
        order = generator.permutation(len(images))
        for first in range(0, len(images) - size + 1, size):
            rows = images[order[first : first + size]]
            yield torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous().float().div(255)


def to_images(x):
    """Converts float (N, C, H, W) in [0, 1] to numpy uint8 (N, H, W, C)."""
    pixels = x.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def train(network, optimizer, batches, loss_of, average, should_stop):
    """Trains until `should_stop(step)`, with gradients clipped to norm 1.

    Args:
        loss_of: batch -> scalar tensor.
        average: function without arguments, called after each step.
    """
    network.train()
    for step, batch in enumerate(batches, 1):
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        average()
        if should_stop(step):
            return


def facts(network, *inputs):
    """Returns dict of `parameters`, trainable ones, and `flops` of a call with the inputs."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return {"parameters": parameters, "flops": counter.get_total_flops()}


def zeros(num, image_shape):
    """Returns float32 zeros (num, C, H, W) for images (H, W, C)."""
    height, width, channels = image_shape
    return torch.zeros(num, channels, height, width)


def save(path, **modules):
    """Writes the state of modules to PATH.pt."""
    torch.save({name: module.state_dict() for name, module in modules.items()}, f"{path}.pt")


def load(path, **modules):
    """Loads the state of modules of the same names from PATH.pt."""
    state = torch.load(f"{path}.pt", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state[name])
