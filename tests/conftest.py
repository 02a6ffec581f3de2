"""Settings that must stand before TensorFlow or matplotlib is first imported."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same results everywhere, and no GPU memory held
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402

SLOWEST = [
    "test_distribution.py",
    "test_cli.py",
    "test_resume.py",
    "test_studies_morphing.py",
    "test_notebooks.py",
    "test_latent_run.py",
]


def pytest_collection_modifyitems(items):
    """Files that take a minute come first, so that no core is left with one of them at the end."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    assert all((Path(__file__).parent / name).exists() for name in ranks)
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(autouse=True)
def same_dtype_policy():
    """Puts back the global dtype policy, which `training.run` sets, in fixtures of a module too."""
    import keras  # here: the process that hands out the test files has no need of it

    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
