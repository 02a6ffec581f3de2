"""Metrics of `DiffusionModel`: means over an epoch."""

import keras
import tensorflow as tf

from keras_diffusion.diffusion import process

BANDS = ("t0-25", "t25-50", "t50-75", "t75-100")  # quarters of t in [0, 1], in percent
METRICS = ("loss", "zero_loss", "eps_error", "x0_error", "v_error", *(f"loss_{b}" for b in BANDS))
GRADIENT_NORM = "gradient_norm"  # training only: global norm before clipping
RAW_EXCESS = "raw_excess"  # evaluation only: loss of the raw weights minus loss of their EMA
RAW_EVERY = 8  # RAW_EXCESS uses every 8th image; all of them would double the time of evaluation


class Loss(keras.metrics.Mean):
    """A mean that is NaN while all steps were skipped: 0 would be the best loss of all."""

    def result(self):
        return tf.where(self.count > 0, super().result(), float("nan"))


def make_trackers():
    """Returns {name: `keras.metrics.Mean`} of all metrics."""
    names = (*METRICS, GRADIENT_NORM, RAW_EXCESS)
    return {name: (Loss if name == "loss" else keras.metrics.Mean)(name=name) for name in names}


def batch_values(errors, level, prediction_type):
    """Returns {name in METRICS: (values (B,), weights (B,))}.

    Args:
        errors: {"loss", "zero_loss", "error", "t"}, each (B,), see `DiffusionModel._errors`.
        level: (signal_rate, noise_rate) at `t`, each (B,).
        prediction_type: space of `error`, "eps", "x0" or "v".
    """
    t = errors["t"]
    values = {name: errors[name] for name in ("loss", "zero_loss")}
    spaces = process.errors(errors["error"], level, prediction_type)
    values.update({f"{space}_error": value for space, value in spaces.items()})
    weighted = {name: (value, tf.ones_like(t)) for name, value in values.items()}
    band_of = tf.minimum(tf.cast(t * len(BANDS), tf.int32), len(BANDS) - 1)
    for index, band in enumerate(BANDS):
        weighted[f"loss_{band}"] = errors["loss"], tf.cast(band_of == index, tf.float32)
    return weighted


def raw_loss_rows(index, compiled):
    """Chooses the images that `RAW_EXCESS` is measured on, by their index.

    Args:
        index: int (B,), indices of the images.
        compiled: bool, whether XLA compiles the step. XLA compiles again for each number of rows,
            so all rows are returned then.

    Returns:
        rows: int (N,), N >= 1 (a network cannot take an empty batch).
        weights: float (N,), 0 for a row that was not chosen.
    """
    chosen = tf.cast(index % RAW_EVERY == 0, tf.int32)
    if compiled:
        return tf.range(tf.size(index)), tf.cast(chosen, tf.float32)
    rows = tf.math.top_k(chosen, tf.maximum(1, tf.reduce_sum(chosen))).indices
    return rows, tf.cast(tf.gather(chosen, rows), tf.float32)


def update(trackers, values, counted):
    """Adds the values of a batch to the means, unless its step was skipped.

    Args:
        trackers: {name: `keras.metrics.Mean`}.
        values: {name: (values, weights)}; not necessarily finite in a skipped step.
        counted: bool tensor, False for a skipped step.

    Returns:
        {name: mean so far} for the names in `values`.
    """
    for name, (value, weights) in values.items():
        weights = tf.cast(counted, tf.float32) * weights
        trackers[name].update_state(tf.where(counted, value, 0.0), sample_weight=weights)
    return {name: trackers[name].result() for name in values}


def without_empty(results, trackers):
    """Returns the results without metrics of training in evaluation, and vice versa."""
    unused = [n for n in (GRADIENT_NORM, RAW_EXCESS) if trackers[n].count.numpy() == 0]
    return {name: value for name, value in results.items() if name not in unused}
