"""Code that the subjects in Keras share. It must not load our package in a peer's process."""

import itertools

import keras
import numpy as np

MAX_STEPS = 2**31 - 1


def facts(network):
    """Returns dict of `parameters`, trainable ones, and `flops` of one image forward."""
    from keras_diffusion.networks.costs import estimate_costs  # after the measurement

    parameters = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    return {"parameters": parameters, "flops": estimate_costs(network, 1)["flops"]}


def fit(model, batches, should_stop):
    """Trains on endless batches until should_stop(step) returns True."""
    steps = itertools.count(1)

    def after_step(batch, logs):
        model.optimizer.iterations.numpy()  # waits for an asynchronous device
        model.stop_training = should_stop(next(steps))

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    model.fit(batches, steps_per_epoch=MAX_STEPS, callbacks=[callback], shuffle=False, verbose=0)
