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


def random_unet():
    """A U-Net with every kind of layer of the default one, with random weights."""
    network = networks.unet(SHAPE, num_classes=CLASSES, widths=(4, 8), embedding_width=8)
    generator = np.random.default_rng(0)
    network.set_weights([0.2 * generator.standard_normal(w.shape) for w in network.get_weights()])
    return network


def linear_network(inputs, training):
    """Fast to compile: for the samplers that are not called with the U-Net."""
    return 0.3 * inputs["x"] + 0.1 * keras.ops.cast(inputs["label"], "float32")[:, None, None, None]


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


def all_samples(network):
    """{sampler: samples}, one sampler with the U-Net."""
    used = dict.fromkeys(samplers.SAMPLERS, linear_network) | {"dpmpp_2m": network}
    return {name: np.asarray(sample(network, name)) for name, network in used.items()}


def batch():
    x = np.random.default_rng(2).standard_normal((2, *SHAPE)).astype("float32")
    return {"x": x, "logsnr": np.zeros(2, "float32"), "label": np.array([0, 1], "int32")}


def on_jax(path):
    """Runs in the process below: writes samples, a loss and its gradient's norm."""
    import jax

    assert keras.backend.backend() == "jax" and sys.modules["tensorflow"] is None
    network = random_unet()
    weights = [w.value for w in network.trainable_weights]
    others = [w.value for w in network.non_trainable_weights]

    def loss(weights):
        return keras.ops.mean(network.stateless_call(weights, others, batch())[0] ** 2)

    value, gradients = jax.jit(jax.value_and_grad(loss))(weights)
    norm = sum(float((g**2).sum()) for g in gradients) ** 0.5
    np.savez(path, loss=float(value), norm=norm, **all_samples(network))


@pytest.mark.slow
def test_jax_samples_and_trains_as_tensorflow_does(tmp_path):
    pytest.importorskip("jax")
    import tensorflow as tf

    program = (
        "import sys; sys.modules['tensorflow'] = None; sys.path.insert(0, 'tests/diffusion')\n"
        f"import test_backends; test_backends.on_jax({str(tmp_path / 'jax.npz')!r})"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    jax = np.load(tmp_path / "jax.npz")
    network = random_unet()
    for name, samples in all_samples(network).items():
        assert np.mean(np.abs(samples) < 0.99) > 0.5, "not clipped"
        np.testing.assert_allclose(jax[name], samples, atol=2e-3, err_msg=name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(batch()) ** 2)
    norm = tf.linalg.global_norm(tape.gradient(loss, network.trainable_weights))
    assert float(jax["loss"]) == pytest.approx(float(loss), rel=1e-3)
    assert float(jax["norm"]) == pytest.approx(float(norm), rel=1e-3)
