"""The page of `app.py`: create, edit, compare and watch in the browser."""

from keras_diffusion.cli.app.command import main, parser

__all__ = ["main", "parser"]
