"""Figures (matplotlib) and grids of images (Pillow).

The functions of `figures` are looked up on first use, because matplotlib takes a second to import.
"""


def __getattr__(name):
    from keras_diffusion.plotting import figures

    return getattr(figures, name)
