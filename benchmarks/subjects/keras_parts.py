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


def our_optimizer():
    """Returns (optimizer of our Flowers preset, function progress in [0, 1] -> learning rate)."""
    from keras_diffusion import build, callbacks
    from keras_diffusion.config.resolve import resolve

    config = resolve("oxford_flowers102", {})
    optimizer = build.optimizer(config)
    budget = callbacks.Budget(config.learning_rate, warmup=config.warmup, minutes=1)
    optimizer.learning_rate = config.learning_rate * budget.factor(0.0)
    return optimizer, lambda progress: config.learning_rate * budget.factor(progress)


def fit(model, batches, should_stop, learning_rate=None):
    """Trains on endless batches until should_stop(step) returns True.

    Args:
        learning_rate: None, or a function of `should_stop.progress`, which sets it in each step.
    """
    steps = itertools.count(1)

    def after_step(batch, logs):
        model.optimizer.iterations.numpy()  # waits for an asynchronous device
        model.stop_training = should_stop(next(steps))
        if learning_rate:
            model.optimizer.learning_rate = learning_rate(should_stop.progress)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    model.fit(batches, steps_per_epoch=MAX_STEPS, callbacks=[callback], shuffle=False, verbose=0)
