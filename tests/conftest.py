"""Environment of the tests, set before TensorFlow or matplotlib is imported; common fixtures."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same results everywhere, and no GPU memory held
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the package sets it, in every process
# One thread per process: pytest-xdist runs one process per core, and tiny networks gain nothing.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"

import pytest  # noqa: E402


def pytest_sessionstart(session):
    """Splits the CPU into two logical devices, for tests with two replicas."""
    if session.config.getoption("dist", "no") != "no":
        return  # this process only distributes the tests to its workers
    capture = session.config.pluginmanager.getplugin("capturemanager")
    capture.resume_global_capture()  # of the lines that TensorFlow prints about CUDA
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    capture.suspend_global_capture()
    capture.read_global_capture()


@pytest.fixture(autouse=True)
def same_dtype_policy():
    """Resets the global dtype policy, which `training.run` sets."""
    import keras  # imported here: the process that distributes the tests does not need it

    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """(model, path of its SavedModel), the only one of most tests; copy it to change its files."""
    from fixtures_exports import write_export  # imported here, as Keras above

    return write_export(tmp_path_factory.mktemp("export"))
