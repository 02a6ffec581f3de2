"""The one place where a layer knows that it runs on TensorFlow."""

import functools

import keras


def compiled(function):
    """Returns a function of tensors as one loop over them, where TensorFlow would make many.

    For chains of element-wise operations: XLA reads its inputs and writes its output once.
    Convolutions and sums over many pixels it would slow down on a CPU: they stay outside. JAX
    compiles everything anyhow, so there the function stays as it is.
    """

    @functools.cache
    def made():
        if keras.backend.backend() != "tensorflow":
            return function
        import tensorflow as tf  # here, so that the formulas of the networks need only Keras

        return tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*tensors):
        return made()(*tensors)

    return call
