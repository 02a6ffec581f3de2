"""Exports that hold one sampler instead of all five: for tests that draw with no other."""

import contextlib

import pytest

from keras_diffusion import export


@contextlib.contextmanager
def one_sampler(name="dpmpp_2m"):
    """Exports that are written within hold this sampler alone, in a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "SAMPLERS", {name: export.SAMPLERS[name]})
        yield
