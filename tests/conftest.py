"""Settings that must stand before TensorFlow or matplotlib is first imported."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the same results everywhere, and no GPU memory held
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402

SLOWEST = [
    "test_distribution.py",
    "test_notebooks.py",
    "test_cli.py",
    "test_model.py",
    "test_resume.py",
    "test_benchmarks.py",
    "test_latent_run.py",
    "test_networks.py",
    "test_benchmark_changes.py",
    "test_studies_morphing.py",
    "test_interruption.py",
    "test_prompted_model.py",
    "test_one_image.py",
    "test_studies_latents.py",
    "test_benchmark_quality.py",
    "test_backends.py",
]


def pytest_collection_modifyitems(items):
    """Files that take half a minute come first: no core is left with one of them at the end."""
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
