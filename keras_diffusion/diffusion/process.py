"""The forward process, prediction types and loss weights.

    x_t = mix((x0, eps), (signal_rate, noise_rate)) = signal_rate * x0 + noise_rate * eps

A pair (x0, eps) always satisfies this equation with its x_t and level (signal_rate, noise_rate).
eps is Gaussian noise, or the image at t = 1 of a model trained with endpoints.
"""

from keras import ops

from keras_diffusion.runtime.registry import lookup

GOLDEN = -1640531527  # 2**32 / golden ratio, as an int32


def mix(pair, level):
    """Returns signal_rate * x0 + noise_rate * eps (Ho et al. 2020, equation 4).

    Args:
        pair: (x0, eps), tensors of the same shape.
        level: (signal_rate, noise_rate), scalars or broadcastable to the pair.
    """
    (x0, eps), (signal_rate, noise_rate) = pair, level
    return signal_rate * x0 + noise_rate * eps


def _eps_target(pair, level):
    return pair[1]


def _x0_target(pair, level):
    return pair[0]


def _v_target(pair, level):
    (x0, eps), (signal_rate, noise_rate) = pair, level
    return signal_rate * eps - noise_rate * x0


def _pair_from_eps(eps, x_t, level):
    signal_rate, noise_rate = level
    return (x_t - noise_rate * eps) / signal_rate, eps


def pair_from_x0(x0, x_t, level):
    """Returns the pair (x0, eps) with mix(pair, level) = x_t."""
    signal_rate, noise_rate = level
    return x0, (x_t - signal_rate * x0) / ops.maximum(noise_rate, 1e-4)


def _pair_from_v(v, x_t, level):
    signal_rate, noise_rate = level
    return signal_rate * x_t - noise_rate * v, noise_rate * x_t + signal_rate * v


PREDICTION_TYPES = {  # name: (pair -> target, output of the network -> pair)
    "eps": (_eps_target, _pair_from_eps),
    "x0": (_x0_target, pair_from_x0),
    "v": (_v_target, _pair_from_v),
}


def target(pair, level, prediction_type):
    """Returns the training target: eps, x0, or v = signal_rate eps - noise_rate x0.

    Reference: Salimans & Ho 2022, arXiv:2202.00512, appendix D (v).
    """
    return lookup(PREDICTION_TYPES, prediction_type, "prediction type")[0](pair, level)


def to_pair(output, x_t, level, prediction_type, clip=None):
    """Returns the pair (x0, eps) of a network output, with mix(pair, level) = x_t.

    Args:
        output: network output, the shape of `x_t`.
        x_t: noisy input, (B, H, W, C).
        level: (signal_rate, noise_rate) of `x_t`, broadcastable to it.
        prediction_type: "eps", "x0" or "v".
        clip: bound of |x0|; eps is computed again from the clipped x0. None: no bound.
    """
    pair = lookup(PREDICTION_TYPES, prediction_type, "prediction type")[1](output, x_t, level)
    if clip is None:
        return pair
    return pair_from_x0(ops.clip(pair[0], -clip, clip), x_t, level)


def errors(output_error, level, prediction_type):
    """Returns the mean squared error of a prediction as {"eps", "x0", "v"}, each (B,).

    With x_t fixed, signal_rate d_x0 = -noise_rate d_eps, so each error is a multiple of another.

    Args:
        output_error: (B,) mean squared error of the network's output.
        level: (signal_rate, noise_rate), each (B,).
        prediction_type: space of `output_error`, "eps", "x0" or "v".
    """
    signal, noise = level[0] ** 2, ops.maximum(level[1] ** 2, 1e-8)
    per_v = {"eps": signal, "x0": noise, "v": ops.ones_like(signal)}  # relative to v
    v_error = output_error / lookup(per_v, prediction_type, "prediction type")
    return {space: factor * v_error for space, factor in per_v.items()}


def _uniform(snr, prediction_type):
    return ops.ones_like(snr)


def _min_snr(snr, prediction_type, gamma=5.0):
    x0_weight = ops.minimum(snr, gamma)
    per_space = {"x0": x0_weight, "eps": x0_weight / snr, "v": x0_weight / (snr + 1)}
    return lookup(per_space, prediction_type, "prediction type")


LOSS_WEIGHTINGS = {"uniform": _uniform, "min_snr": _min_snr}


def loss_weights(level, prediction_type, loss_weighting):
    """Returns the weight of each image's loss, (B,).

    Args:
        level: (signal_rate, noise_rate), each (B,).
        prediction_type: "eps", "x0" or "v".
        loss_weighting: "uniform": 1. "min_snr": min(SNR, 5) for x0, divided by SNR for eps and by
            SNR + 1 for v.

    Reference: Hang et al. 2023, arXiv:2303.09556, section 3.4 (min-SNR).
    """
    snr = level[0] ** 2 / ops.maximum(level[1] ** 2, 1e-8)
    return lookup(LOSS_WEIGHTINGS, loss_weighting, "loss weighting")(snr, prediction_type)


def spread_times(offset, positions):
    """Returns (B,) low-discrepancy times in [0, 1).

        t = offset + position / golden ratio (mod 1)

    Any run of consecutive positions is close to evenly spaced, so a microbatch, a replica's share
    of a batch and a validation set all contain every noise level. This lowers the variance of the
    loss. With a uniform offset every single time is uniform.

    Args:
        offset: scalar in [0, 1).
        positions: (B,) int32, positions of the images in the global batch.

    Reference: Kingma et al. 2021, arXiv:2107.00630, appendix I.1 (low-discrepancy times);
        Kuipers & Niederreiter 1974, chapter 2.3 (the additive sequence).
    """
    turns = ops.cast(ops.cast(positions, "int32") * GOLDEN, "float32")  # exact: int32 wraps around
    return (offset + turns / 2**32) % 1.0 % 1.0  # twice: the first may round up to 1
