"""Code that the subjects in Keras share. The memory of a peer must not hold our package."""

import keras
import numpy as np

STEPS_WITHOUT_END = 2**31 - 1


def facts(network):
    """Returns dict of `parameters`, trainable ones, and `flops` of one image forward."""
    from keras_diffusion.networks.costs import estimate_costs  # after the measurement

    parameters = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    return {"parameters": parameters, "flops": estimate_costs(network, 1)["flops"]}


def fit(model, batches, should_stop):
    """Trains on endless batches until should_stop(step) returns True."""
    model.fit(
        batches,
        steps_per_epoch=STEPS_WITHOUT_END,
        callbacks=[Stop(should_stop)],
        shuffle=False,
        verbose=0,
    )


class Stop(keras.callbacks.Callback):
    """Ends `fit` after the step for which should_stop(step) returns True."""

    def __init__(self, should_stop):
        super().__init__()
        self._should_stop, self._step = should_stop, 0

    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.iterations.numpy()  # waits for an asynchronous device
        self._step += 1
        if self._should_stop(self._step):
            self.model.stop_training = True
