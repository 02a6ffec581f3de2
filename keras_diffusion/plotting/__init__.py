"""Figures (matplotlib) and grids of images (Pillow).

The functions of `figures` are imported on first use, because matplotlib takes a second to import.
"""

import importlib


def __getattr__(name):
    return getattr(importlib.import_module(f"{__name__}.figures"), name)
