"""Networks, schedules and samplers need Keras alone: they run on JAX, without TensorFlow."""

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
SHAPE, CLASSES = (8, 8, 1), 3


def network():
    """One with every kind of layer of the default network, whose answer is not zero."""
    options = {"widths": (16, 32), "embedding_width": 16}
    made = networks.unet(SHAPE, num_classes=CLASSES, **options)
    generator = np.random.default_rng(0)
    made.set_weights([0.1 * generator.standard_normal(w.shape) for w in made.get_weights()])
    return made


def drawn(network, sampler):
    """Pictures of a sampler from fixed noise; two of three classes, guided."""
    noise = np.random.default_rng(1).standard_normal((2, *SHAPE)).astype("float32")
    labels, none = keras.ops.array([0, 2], "int32"), keras.ops.array([CLASSES] * 2, "int32")
    denoiser = make_denoiser(
        network, schedules.cosine, "v", condition={"label": labels}, null={"label": none},
        guidance_scale=2.0, clip=1.0,
    )  # fmt: skip
    options = {}
    if sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: keras.ops.array(noise[::-1])
    times = time_grids.uniform_logsnr(schedules.cosine, 4)
    run = samplers.SAMPLERS[sampler]
    return run(denoiser, schedules.cosine, keras.ops.array(noise), times, **options)


def a_batch():
    """What a network takes: two noisy pictures of two classes."""
    x = np.random.default_rng(2).standard_normal((2, *SHAPE)).astype("float32")
    return {"x": x, "logsnr": np.zeros(2, "float32"), "label": np.array([0, 1], "int32")}


def on_jax(path):
    """What the process below does: draws, takes a gradient, and writes both."""
    import jax

    assert keras.backend.backend() == "jax" and sys.modules["tensorflow"] is None
    made = network()
    weights = [w.value for w in made.trainable_weights]
    others = [w.value for w in made.non_trainable_weights]
    inputs = a_batch()

    def loss(weights):
        return keras.ops.mean(made.stateless_call(weights, others, inputs)[0] ** 2)

    value, gradients = jax.jit(jax.value_and_grad(loss))(weights)
    norm = sum(float((g**2).sum()) for g in gradients) ** 0.5
    found = {name: jax.jit(lambda name=name: drawn(made, name))() for name in samplers.SAMPLERS}
    np.savez(path, loss=float(value), norm=norm, **found)


def test_jax_draws_and_learns_as_tensorflow_does(tmp_path):
    pytest.importorskip("jax")
    import tensorflow as tf

    program = (
        "import sys; sys.modules['tensorflow'] = None; sys.path.insert(0, 'tests')\n"
        f"import test_backends; test_backends.on_jax({str(tmp_path / 'jax.npz')!r})"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "jax.npz")
    made = network()
    for name in samplers.SAMPLERS:
        assert np.mean(np.abs(found[name]) < 0.99) > 0.5, "clipped, all would look alike"
        np.testing.assert_allclose(found[name], drawn(made, name), atol=2e-3, err_msg=name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(made(a_batch()) ** 2)
    norm = tf.linalg.global_norm(tape.gradient(loss, made.trainable_weights))
    assert float(found["loss"]) == pytest.approx(float(loss), rel=1e-3)
    assert float(found["norm"]) == pytest.approx(float(norm), rel=1e-3)
