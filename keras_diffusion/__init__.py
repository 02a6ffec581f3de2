"""Diffusion models in Keras: train on your own images with `fit`, sample from a SavedModel.

Names are imported when they are first used, so that `--help` need not wait for TensorFlow.
"""

import importlib
import sys

__version__ = "0.1.0"

_HOME = {
    "Autoencoder": "autoencoder",
    "DiffusionModel": "model",
    "LatentCodec": "codecs",
    "Prompts": "prompts",
    "export_saved_model": "export",
}
_ROOMS = (
    "callbacks", "data", "distribution", "editing", "networks", "plotting", "precision",
    "samplers", "schedules",
)  # fmt: skip
__all__ = [*_HOME, *_ROOMS]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


# Whoever loads models wants our classes registered; with Keras at hand it is quick. On JAX there
# may be no TensorFlow: networks, schedules and samplers do without.
if "keras" in sys.modules and sys.modules["keras"].config.backend() == "tensorflow":
    for _room in ("autoencoder", "model"):
        importlib.import_module(f"{__name__}.{_room}")
