"""Exports that hold one sampler instead of all five: for tests that draw with no other."""

import contextlib

import pytest

from keras_diffusion.saving import saved_model


@contextlib.contextmanager
def one_sampler():
    """Exports that are written within hold `dpmpp_2m` alone, in less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "SAMPLERS", {"dpmpp_2m": saved_model.SAMPLERS["dpmpp_2m"]})
        yield
