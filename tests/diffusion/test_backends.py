"""Networks, schedules and samplers run on JAX, without TensorFlow, with the same results."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_diffusion import networks
from keras_diffusion.diffusion import samplers, schedules, time_grids
from keras_diffusion.diffusion.denoiser import make_denoiser

ROOT = Path(__file__).resolve().parents[2]
SHAPE, CLASSES = (4, 4, 1), 3
PROGRAM = """
import sys
sys.modules["tensorflow"] = None
sys.path.insert(0, "tests/diffusion")
import numpy as np, test_backends
np.savez(sys.argv[1], **test_backends.all_samples())
"""


def sample(network, sampler):
    """Two samples of different classes, guided, from fixed noise."""
    noise = np.random.default_rng(1).standard_normal((2, *SHAPE)).astype("float32")
    labels, null = keras.ops.array([0, 2], "int32"), keras.ops.array([CLASSES] * 2, "int32")
    denoiser = make_denoiser(
        network, schedules.cosine, "v", condition={"label": labels}, null={"label": null},
        guidance_scale=2.0, clip=1.0,
    )  # fmt: skip
    options = {}
    if sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: keras.ops.array(noise[::-1])
    times = time_grids.uniform_logsnr(schedules.cosine, 4)
    run = samplers.SAMPLERS[sampler]
    return run(denoiser, schedules.cosine, keras.ops.array(noise), times, **options)


def linear_network(inputs, training):
    return 0.3 * inputs["x"] + 0.1 * keras.ops.cast(inputs["label"], "float32")[:, None, None, None]


def all_samples():
    """{sampler: samples}: one sampler with a U-Net, the others with a network fast to compile."""
    unet = networks.unet(SHAPE, num_classes=CLASSES, widths=(4, 8), embedding_width=8)
    generator = np.random.default_rng(0)
    unet.set_weights([0.2 * generator.standard_normal(w.shape) for w in unet.get_weights()])
    used = dict.fromkeys(samplers.SAMPLERS, linear_network) | {"dpmpp_2m": unet}
    return {name: np.asarray(sample(network, name)) for name, network in used.items()}


@pytest.mark.slow
def test_jax_samples_as_tensorflow_does(tmp_path):
    pytest.importorskip("jax")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "jax.npz"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    jax = np.load(tmp_path / "jax.npz")
    for name, samples in all_samples().items():
        assert np.mean(np.abs(samples) < 0.99) > 0.5, "not clipped"
        np.testing.assert_allclose(jax[name], samples, atol=2e-3, err_msg=name)
