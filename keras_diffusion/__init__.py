"""Diffusion models in Keras: train on your own images with `fit`, sample from a SavedModel.

Public names are imported when they are first used, so `--help` does not wait for TensorFlow.
"""

import importlib
import sys

__version__ = "0.1.0"

# Public name: the module that defines it, or the module that it is.
_CLASSES = {
    "Autoencoder": "models.autoencoder",
    "DiffusionModel": "models.diffusion_model",
    "LatentCodec": "models.codecs",
    "Prompts": "conditioning.prompts",
    "export_saved_model": "saving.saved_model",
}
_MODULES = {
    "callbacks": "training.callbacks",
    "data": "data",
    "distribution": "runtime.distribution",
    "editing": "sampling.editing",
    "networks": "networks",
    "plotting": "plotting",
    "precision": "runtime.precision",
    "samplers": "diffusion.samplers",
    "schedules": "diffusion.schedules",
}
__all__ = [*_CLASSES, *_MODULES]


def __getattr__(name):
    if name in _CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


# Loading a saved model needs our classes registered; with Keras imported this is quick. On the
# JAX backend TensorFlow may be missing: networks, schedules and samplers work without it.
if "keras" in sys.modules and sys.modules["keras"].config.backend() == "tensorflow":
    for _module in ("Autoencoder", "DiffusionModel"):
        importlib.import_module(f"{__name__}.{_CLASSES[_module]}")
