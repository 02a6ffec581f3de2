"""What both torch subjects share: threads, batches, bfloat16, the loop, files of weights.

And a torchvision that loads.
"""

import numpy as np
import torch

from benchmarks import machine

CLIP_NORM = 1.0  # in the trainers of both
VARIANTS = (
    "float32",
    "bfloat16 autocast",
    "bfloat16 autocast, channels last",
    "bfloat16 autocast, compiled",
)


def prepare(tiny=False):
    """Gives torch all cores and the same weights every time; returns a numpy generator.

    Toy networks get one core: threads that wait for each other would take most of the time.
    """
    torch.set_num_threads(1 if tiny else machine.cores())
    torch.manual_seed(0)
    load_torchvision()
    return np.random.default_rng(0)


def load_torchvision():
    """Imports torchvision, also where its kernels are built for another torch.

    Both peers import it for resizing and image grids, which they do not use here. PyPI's wheel
    has kernels for CUDA alone, and beside a CPU build of torch its import ends at two
    operators that it expects to be there; declared, and never called, they do no harm.
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
    """Returns the context that a variant computes in."""
    return torch.autocast("cpu", torch.bfloat16, enabled=variant != "float32")


def laid_out(module, variant):
    """Returns the module, its weights channels last if the variant says so, as images then are."""
    if variant.endswith("channels last"):
        module.to(memory_format=torch.channels_last)
    return module


def compiled(module, variant):
    """Returns the module, compiled if the variant says so; it shares its weights."""
    return torch.compile(module) if variant.endswith("compiled") else module


def batches(images, batch_size, generator):
    """Yields float32 tensors (B, C, H, W) in [0, 1] without end, each epoch in another order."""
    size = min(batch_size, len(images))
    while True:
        order = generator.permutation(len(images))
        for first in range(0, len(images) - size + 1, size):
            rows = images[order[first : first + size]]
            yield torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous().float().div(255)


def to_images(x):
    """float (N, C, H, W) in [0, 1] -> numpy uint8 (N, H, W, C)."""
    pixels = x.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def train(network, optimizer, batches, loss_of, average, should_stop):
    """Takes steps until `should_stop(step)`, gradients clipped to norm 1.

    Args:
        loss_of: batch -> scalar tensor.
        average: called without arguments after each step.
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


def parameters(network):
    """Returns how many parameters are trained."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def flops(network, *inputs):
    """Returns the floating-point operations of a call, 2 for each multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


def blank(num, image_shape):
    """Returns float32 zeros (num, C, H, W) for images (H, W, C)."""
    height, width, channels = image_shape
    return torch.zeros(num, channels, height, width)


def save(path, **modules):
    """Writes the state of modules, or of averages of them, to PATH.pt."""
    torch.save({name: module.state_dict() for name, module in modules.items()}, f"{path}.pt")


def load(path, **modules):
    """Reads what `save` wrote of the same names."""
    state = torch.load(f"{path}.pt", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state[name])
