"""Imports of TensorFlow and Keras for the commands, whatever settings a user has for others."""

import contextlib
import gc
import os
import re
import sys
import tempfile

from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.signals import exiting_at_once


@contextlib.contextmanager
def holding_stderr():
    """Holds back what is written to file descriptor 2, and writes it there if an error is raised.

    TensorFlow writes lines about CUDA to the descriptor, whatever its log level.

    Yields:
        A descriptor that still writes to stderr.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield stderr
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def raising_os_errors():
    """Raises OSError for TensorFlow's errors about files: missing, damaged, or on a full disk.

    Python errors inside of tf.data, such as those of decoders, are UnknownErrors there.
    """
    import tensorflow as tf

    kinds = ("DataLoss", "NotFound", "PermissionDenied", "Unknown", "ResourceExhausted")
    try:
        yield
    except tuple(getattr(tf.errors, f"{kind}Error") for kind in kinds) as error:
        is_full = "No space left" in error.message
        if isinstance(error, tf.errors.ResourceExhaustedError) and not is_full:
            raise  # out of memory
        python = re.findall(r"\b\w+(?:Error|Exception|Warning): .*", error.message)
        first = error.message.removeprefix("Graph execution error:").strip().partition("\n")[0]
        raise OSError((python or [first])[-1]) from error


@contextlib.contextmanager
def advising_less(flag="--batch-size"):
    """Raises ValueError, one line, if there is not enough memory; `flag` is what to reduce."""
    import tensorflow as tf

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ValueError(f"{flag}: out of memory. Choose a smaller one.") from error


def import_tensorflow():
    """Imports TensorFlow without its messages; Ctrl-C meanwhile exits at once."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with holding_stderr() as stderr, exiting_at_once(stderr), _without_collection():
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for CUDA
    return tensorflow


@contextlib.contextmanager
def _without_collection():
    """Turns Python's garbage collector off, and leaves what is made meanwhile out of it for good.

    The many objects of modules stay to the end, so looking for garbage among them only takes time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_keras():
    """Imports Keras, and replaces what keras.json and the environment may set in this process.

    Raises:
        ValueError: another backend is chosen by KERAS_BACKEND, or Keras cannot be imported.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise ValueError(
            f"KERAS_BACKEND: is {backend!r}, but this command needs TensorFlow. Unset it, or set "
            "KERAS_BACKEND=tensorflow."
        )
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever backend keras.json names
    import_tensorflow()
    try:
        with exiting_at_once(), _without_collection():
            import keras
    except (AssertionError, ImportError, TypeError, ValueError) as error:
        reason = one_line(error) or type(error).__name__
        raise ValueError(
            f"KERAS_HOME: Keras cannot be imported ({reason}). Check keras.json there, in ~/.keras "
            "by default, and KERAS_ variables of the environment."
        ) from error
    if keras.config.backend() != "tensorflow":  # imported before
        raise ValueError(f"KERAS_BACKEND: is {keras.config.backend()!r}. Choose tensorflow.")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)
    return keras
