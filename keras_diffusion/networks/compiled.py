"""XLA for single functions: the only part of the layers that depends on the backend."""

import functools

import keras


def compiled(function):
    """Decorator that compiles a function of tensors with XLA on the TensorFlow backend.

    For chains of element-wise operations: XLA fuses them, so that inputs are read and the output
    is written once. On a CPU it would slow down convolutions and sums over many pixels. Other
    backends compile whole models, so there the function is not changed.
    """

    @functools.cache
    def compile_once():
        if keras.backend.backend() != "tensorflow":
            return function
        import tensorflow as tf  # not at the top: networks also run without TensorFlow

        return tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*tensors):
        return compile_once()(*tensors)

    return call
