"""What is measured of each batch, and averaged over an epoch."""

import keras
import tensorflow as tf

from keras_diffusion.diffusion import process

BANDS = ("t0-25", "t25-50", "t50-75", "t75-100")  # quarters of time, in percent
METRICS = ("loss", "zero_loss", "eps_error", "x0_error", "v_error", *(f"loss_{b}" for b in BANDS))
# In training: the norm of the whole gradient, before it is clipped. In validation: how much
# more loss the weights have than their average, on some of the images.
GRADIENT_NORM, RAW_EXCESS = "gradient_norm", "raw_excess"
RAW_EVERY = 8  # images; all of them would double the time of validation


def trackers():
    """Returns {name: `keras.metrics.Mean`} of all that is measured."""
    names = (*METRICS, GRADIENT_NORM, RAW_EXCESS)  # the last are not in the oldest checkpoints
    return {name: keras.metrics.Mean(name=name) for name in names}


def of_batch(errors, level, prediction_type):
    """Returns {name in METRICS: (values (B,), weights (B,) of the images in its mean)}.

    Args:
        errors: dict of loss, zero_loss, error and t, each (B,), see `DiffusionModel._errors`.
        level: (signal_rate, noise_rate) of the times, each (B,).
        prediction_type: the space that `error` is in.
    """
    t = errors["t"]
    values = {name: errors[name] for name in ("loss", "zero_loss")}
    spaces = process.errors(errors["error"], level, prediction_type)
    values.update({f"{space}_error": value for space, value in spaces.items()})
    found = {name: (value, tf.ones_like(t)) for name, value in values.items()}
    band_of = tf.minimum(tf.cast(t * len(BANDS), tf.int32), len(BANDS) - 1)
    for index, band in enumerate(BANDS):
        found[f"loss_{band}"] = errors["loss"], tf.cast(band_of == index, tf.float32)
    return found


def some_of(index, compiled):
    """Chooses the images that the raw weights are measured on, whatever batch they are in.

    Args:
        index: int (B,), numbers of the images.
        compiled: bool, XLA compiles the step. It would do so for each number of rows, at worst for
            each batch; so all rows are taken then.

    Returns:
        (rows, weights): int (N,), N at least 1, as a network takes no empty batch; float (N,),
        0 for a row that is not chosen.
    """
    chosen = tf.cast(index % RAW_EVERY == 0, tf.int32)
    if compiled:
        return tf.range(tf.size(index)), tf.cast(chosen, tf.float32)
    rows = tf.math.top_k(chosen, tf.maximum(1, tf.reduce_sum(chosen))).indices
    return rows, tf.cast(tf.gather(chosen, rows), tf.float32)


def update(trackers, values, counted):
    """Adds the values of a batch to the means, unless its step was skipped.

    Args:
        trackers: as from `trackers`.
        values: {name: (values, weights)}; values of skipped steps need not be finite.
        counted: bool tensor, the step was not skipped.

    Returns:
        {name: mean so far}, of those in `values`.
    """
    for name, (value, weights) in values.items():
        weights = tf.cast(counted, tf.float32) * weights
        trackers[name].update_state(tf.where(counted, value, 0.0), sample_weight=weights)
    return {name: trackers[name].result() for name in values}


def measured(results, trackers):
    """Returns the results without those that only training, or only validation, measures."""
    unused = [n for n in (GRADIENT_NORM, RAW_EXCESS) if trackers[n].count.numpy() == 0]
    return {name: value for name, value in results.items() if name not in unused}
