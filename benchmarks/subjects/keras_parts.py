"""What the subjects in Keras have in common."""

import keras
import numpy as np

WITHOUT_END = 2**31 - 1  # steps


def parameters(network):
    """Returns how many parameters are trained."""
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def flops(network):
    """Returns the floating-point operations of one image forward, 2 for each multiply-add."""
    from keras_diffusion.networks.costs import estimate_costs  # here: not in the memory of a peer

    return estimate_costs(network, 1)["flops"]


class Stop(keras.callbacks.Callback):
    """Ends `fit` after the step with which should_stop(step) is true."""

    def __init__(self, should_stop):
        super().__init__()
        self._should_stop, self._step = should_stop, 0

    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.iterations.numpy()  # a device that works on its own is waited for
        self._step += 1
        if self._should_stop(self._step):
            self.model.stop_training = True
