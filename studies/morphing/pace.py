"""How long the trainings are: for the epochs, or for the minutes, that were asked for."""

import time

import keras
import numpy as np
import tensorflow as tf

from studies.morphing import SCHEDULES, limits, restoration
from studies.morphing.sampling import GRIDS, UPDATES
from studies.morphing.training import new_model

WARM, TIMED = 4, 12  # steps and calls: left out, counted
SHARE = 0.85  # of the minutes, that is planned for; reading, scoring and tracing take the rest
TRAININGS = len(SCHEDULES) + 1


def ends(batches, settings, kept):
    """Returns the epochs that the parts of a training end with, such as (5, 10, 12).

    Args:
        batches: `pictures.Batches`.
        settings: `Settings`.
        kept: `kept.Kept`.
    """
    epochs = settings.epochs
    if epochs is None:
        pace = kept.stage("pace", lambda folder: _pace(batches, settings))
        step, call = pace["step"], pace["call"]
        on_the_way = settings.pictures * settings.curve_steps * call
        part = settings.part * settings.epoch_steps * step + on_the_way
        left = SHARE * 60 * settings.minutes - calls(settings) * call
        epochs = settings.part * max(1, int(left / (TRAININGS * part)))
    return (*range(settings.part, epochs, settings.part), epochs)


def calls(settings):
    """Returns how often the networks look at a picture after the trainings."""
    pictures, num_steps = settings.pictures, settings.num_steps
    ways = len(GRIDS) * (len(UPDATES) * len(SCHEDULES) + 1)
    shared = pictures * (ways * (settings.few_steps + num_steps) + TRAININGS * (1 + num_steps))
    each = 1 + len(UPDATES) * settings.restore_steps
    restored = len(SCHEDULES) * settings.restored * len(restoration.TIMES) * each
    noisy = len(limits.STRENGTHS) * (settings.noisy + settings.noisy // limits.COPIES)
    starts = noisy + (len(limits.AVERAGED) + 3) * pictures
    return shared + restored + num_steps * starts


def _pace(batches, settings):
    """Returns {"step", "call"}: seconds of a training step, and of a call for one picture."""
    model, stamps = new_model("cosine", batches.shape, settings), []
    told = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: stamps.append(time.monotonic())
    )
    data = batches.training(True, 0)
    model.fit(data, steps_per_epoch=WARM + TIMED, verbose=0, shuffle=False, callbacks=[told])
    network, count = model.graphs.network, settings.batch_size
    inputs = {"x": tf.zeros((count, *batches.shape)), "logsnr": tf.zeros((count,))}
    network(inputs)
    began = time.monotonic()
    for _ in range(TIMED):
        network(inputs)
    call = (time.monotonic() - began) / (TIMED * count)
    return {"step": float(np.median(np.diff(stamps)[WARM - 1 :])), "call": call}
