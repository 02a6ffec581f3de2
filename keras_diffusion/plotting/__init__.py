"""Figures (matplotlib) and grids of images (Pillow).

The functions of `figures` are imported on first use, because matplotlib takes a second to import.
"""

import importlib

MODULES = ("anomalies", "comparisons", "images")


def __getattr__(name):
    if name in MODULES:  # by `from keras_diffusion.plotting import images`
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.figures"), name)
