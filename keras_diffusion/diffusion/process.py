"""The forward process and its inverse: one equation, read in different directions.

    x_t = mix((x0, eps), (signal_rate, noise_rate)) = signal_rate * x0 + noise_rate * eps

A *pair* (x0, eps) always satisfies that equation together with its x_t and level. `eps` is
what sits at t = 1: Gaussian noise, or an image of another data set when morphing.
"""

from keras import ops

from keras_diffusion.runtime.registry import lookup

GOLDEN = -1640531527  # 2**32 / golden ratio, as an int32


def mix(pair, level):
    """Returns signal_rate * x0 + noise_rate * eps (Ho et al. 2020, equation 4).

    Args:
        pair: (x0, eps), tensors of equal shape.
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


def _pair_from_x0(x0, x_t, level):
    signal_rate, noise_rate = level
    return x0, (x_t - signal_rate * x0) / ops.maximum(noise_rate, 1e-4)


def _pair_from_v(v, x_t, level):
    signal_rate, noise_rate = level
    return signal_rate * x_t - noise_rate * v, noise_rate * x_t + signal_rate * v


PREDICTION_TYPES = {  # name: (target of the network, its output back to a pair)
    "eps": (_eps_target, _pair_from_eps),
    "x0": (_x0_target, _pair_from_x0),
    "v": (_v_target, _pair_from_v),
}


def target(pair, level, prediction_type):
    """Returns what the network is to predict: eps, x0, or v = signal_rate eps - noise_rate x0.

    Reference for v: Salimans & Ho 2022, arXiv:2202.00512, appendix D.
    """
    return lookup(PREDICTION_TYPES, prediction_type, "prediction type")[0](pair, level)


def to_pair(output, x_t, level, prediction_type, clip=None):
    """Returns the pair (x0, eps) that a network output stands for, mix(pair, level) == x_t.

    Args:
        output: network output, the shape of `x_t`.
        x_t: noisy input.
        level: (signal_rate, noise_rate) of `x_t`, broadcastable to it.
        prediction_type: "eps", "x0" or "v".
        clip: None, or the bound that |x0| is clipped to; eps is then derived again, so
            that the pair still mixes to x_t.
    """
    pair = lookup(PREDICTION_TYPES, prediction_type, "prediction type")[1](output, x_t, level)
    if clip is None:
        return pair
    return _pair_from_x0(ops.clip(pair[0], -clip, clip), x_t, level)


def errors(output_error, level, prediction_type):
    """Returns the squared error of one prediction in all three spaces, {"eps", "x0", "v"}.

    With x_t fixed the errors of a pair are tied, signal_rate d_x0 == -noise_rate d_eps, so
    one squared error gives the others by a factor.

    Args:
        output_error: (B,) mean squared error of the network's output.
        level: (signal_rate, noise_rate), each (B,).
        prediction_type: the space of `output_error`.
    """
    signal, noise = level[0] ** 2, ops.maximum(level[1] ** 2, 1e-8)
    per_v = {"eps": signal, "x0": noise, "v": ops.ones_like(signal)}  # errors where v's is 1
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
    """Returns the weight of each example's loss, the shape of the level's parts.

    Args:
        level: (signal_rate, noise_rate), each (B,).
        prediction_type: "eps", "x0" or "v".
        loss_weighting: "uniform", or "min_snr", which caps the weight in x0 space at
            gamma = 5 (Hang et al. 2023, arXiv:2303.09556, section 3.4).
    """
    snr = level[0] ** 2 / ops.maximum(level[1] ** 2, 1e-8)
    return lookup(LOSS_WEIGHTINGS, loss_weighting, "loss weighting")(snr, prediction_type)


def spread_times(offset, places):
    """Returns (B,) times in [0, 1), spread evenly, however many neighbouring places are taken.

    t = offset + place / golden ratio (mod 1): the additive sequence whose prefixes, parts and
    whole are all close to evenly spaced, so a part of a batch, a replica's share of it and a
    validation set each see every noise level. Each single time is uniform, as the offset is.
    Even times lower the variance of the loss (Kingma et al. 2021, arXiv:2107.00630,
    appendix I.1); the sequence: Kuipers & Niederreiter 1974, chapter 2.3.

    Args:
        offset: scalar in [0, 1).
        places: (B,) int32, the places of the images in the batch of all replicas.
    """
    turns = ops.cast(ops.cast(places, "int32") * GOLDEN, "float32")  # wraps around, exactly
    return (offset + turns / 2**32) % 1.0 % 1.0  # the first may round up to 1
