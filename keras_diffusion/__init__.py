"""Diffusion models in Keras: train on your own images with `fit`, sample from a SavedModel.

    import keras_diffusion as kd

    train, val = kd.data.load("digits", batch_size=64)                 # or a folder of images
    model = kd.DiffusionModel(kd.networks.unet((8, 8, 1), num_classes=10))
    model.compile(optimizer=kd.Muon(0.01))
    model.fit(train, validation_data=val, epochs=50)
    images = model.generate(16, guidance_scale=2.0)                    # uint8 (16, 8, 8, 1)
    kd.export_saved_model(model, "saved_models/digits")                # needs only TensorFlow
    flowers = kd.load("oxford_flowers102").generate(4)                 # a model that comes along

`schedules`, `samplers` and `networks` are functions. A denoiser is a function (x_t, t) -> (x0, eps)
between a network and a sampler. `LatentCodec` replaces pixels by latents of an `Autoencoder`.
Public names are imported on first use, so that `--help` does not import TensorFlow.
"""

import importlib
import sys

from keras_diffusion.runtime import processor

__version__ = "0.1.0"

processor.set_defaults()  # has no effect once TensorFlow is imported

# Public name: module. A class or function is an attribute of its module.
_CLASSES = {
    "Autoencoder": "models.autoencoder",
    "DiffusionModel": "models.diffusion_model",
    "LatentCodec": "models.codecs",
    "Muon": "models.muon",
    "Prompts": "conditioning.prompts",
    "export_saved_model": "saving.saved_model",
    "load": "saving.loading",
}
_MODULES = {
    "callbacks": "training.callbacks",
    "data": "data",
    "distribution": "runtime.distribution",
    "editing": "sampling.editing",
    "model_card": "saving.model_card",
    "networks": "networks",
    "operators": "diffusion.operators",
    "plotting": "plotting",
    "precision": "runtime.precision",
    "samplers": "diffusion.samplers",
    "schedules": "diffusion.schedules",
}
__all__ = [*_CLASSES, *_MODULES]


def _register_classes():
    """Imports the classes that `keras.models.load_model` needs, once Keras is imported.

    Without TensorFlow (JAX backend) networks, schedules and samplers work.
    """
    keras = sys.modules.get("keras")
    if keras and keras.config.backend() == "tensorflow":
        for name in ("Autoencoder", "DiffusionModel", "Muon"):
            importlib.import_module(f"{__name__}.{_CLASSES[name]}")


def __getattr__(name):
    if name in _CLASSES:
        keras = sys.modules.get("keras")
        if name != "Prompts" and keras and keras.config.backend() != "tensorflow":
            raise ImportError(
                f"{name}: needs the TensorFlow backend. Set KERAS_BACKEND=tensorflow."
            )
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    if name in _MODULES:
        _register_classes()
        return importlib.import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


_register_classes()
