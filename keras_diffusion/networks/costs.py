"""Estimates of what a network costs: parameters, floating-point operations, memory."""

import math

from keras_diffusion.networks.layers import Recomputed
from keras_diffusion.networks.normalisation import AdaptiveNorm
from keras_diffusion.networks.text_encoder import CrossAttention


def estimate_costs(network, batch_size):
    """Returns estimates of what a network costs in training, as a dict.

    Args:
        network: functional `keras.Model`.
        batch_size: images per replica and microbatch.

    Returns:
        parameters: number of weights.
        flops: of one forward pass of one image, 2 per multiply-add, of convolutions and dense
            layers.
        memory: bytes of a training step: weights, their EMA, gradients, two moments, and all
            activations once; of `Recomputed` blocks the outputs and the largest one's inside.
    """
    flops = kept = largest = 0
    for layer in network.layers:
        parts = layer.block.layers if isinstance(layer, Recomputed) else [layer]
        flops += sum(map(_flops, parts))
        kept += _activation_bytes(layer)
        if isinstance(layer, Recomputed):
            largest = max(largest, sum(map(_activation_bytes, parts)))
    parameters = network.count_params()
    memory = 5 * 4 * parameters + batch_size * (kept + largest)
    return {"parameters": parameters, "flops": flops, "memory": memory}


def _positions(layer):
    """Pixels, or words, of a layer's output for one image."""
    return math.prod(layer.output.shape[1:-1])


def _activation_bytes(layer):
    """Bytes of a layer's output for one image."""
    shape = layer.output.shape
    width = 2 if layer.compute_dtype in ("bfloat16", "float16") else 4
    return _positions(layer) * shape[-1] * width if len(shape) > 1 else 0


def _flops(layer):
    kernels = [w for w in layer.weights if w.name == "kernel"]
    return 2 * sum(_uses(layer, kernel) * math.prod(kernel.shape) for kernel in kernels)


def _uses(layer, kernel):
    """How often a kernel is applied for one image."""
    if isinstance(layer, AdaptiveNorm):  # its dense layer is applied to the embedding
        return 1
    if isinstance(layer, CrossAttention) and kernel is layer.project_text.kernel:
        return layer.input[1].shape[1]  # words
    return _positions(layer)
