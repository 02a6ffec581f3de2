"""Settings that must stand before TensorFlow or matplotlib is first imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same results everywhere, and no GPU memory held
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def same_dtype_policy():
    """Puts back the global dtype policy, which `training.run` sets, in fixtures of a module too."""
    import keras  # here: the process that hands out the test files has no need of it

    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
