"""Muon: which weights it takes, and its update against numpy and Keras' own Muon."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import Muon
from keras_diffusion.models import muon
from keras_diffusion.models.muon import orthogonal
from keras_diffusion.networks import unet

RNG = np.random.default_rng(0)


def newton_schulz(matrix, steps, norm):
    """The iteration as published, in float64, of a matrix over a norm."""
    x = matrix.astype(float) if matrix.shape[0] <= matrix.shape[1] else matrix.T.astype(float)
    x = x / norm
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


@pytest.mark.parametrize("shape", [(72, 8), (24, 24), (16, 40)])
@pytest.mark.parametrize("decades", [0, 2, 5])
def test_orthogonal_is_the_iteration_of_the_paper(shape, decades):
    u, _, v = np.linalg.svd(RNG.normal(size=shape), full_matrices=False)
    values = np.logspace(-3, -3 - decades, min(shape))
    matrix = ((u * values) @ v).astype("float32")
    result = np.array(orthogonal(tf.constant(matrix)))
    expected = newton_schulz(matrix, steps=4, norm=np.sum(values**4) ** 0.25)
    np.testing.assert_allclose(result, expected, atol=1e-3)
    if decades < 5:
        assert np.linalg.svd(result, compute_uv=False) == pytest.approx(0.95, abs=0.3)


def test_the_closer_bound_is_worth_a_step():
    values = np.diag(np.logspace(0, -2, 64))
    usual = [np.diag(newton_schulz(values, n, np.linalg.norm(values))).min() for n in (4, 5)]
    smallest = np.diag(orthogonal(tf.constant(values, "float32"))).min()
    assert usual[0] < 0.6 < smallest == pytest.approx(usual[1], abs=0.05)


def test_a_gradient_of_zero_moves_nothing():
    assert np.array(orthogonal(tf.zeros((16, 9)))).tolist() == [[0] * 9] * 16


def after_steps(optimizer, values, gradients):
    variable = keras.Variable(values, name="kernel")
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable)


def test_a_matrix_moves_by_the_formula():
    values, *gradients = RNG.normal(size=(4, 24, 8)).astype("float32")
    optimizer = Muon(0.02, weight_decay=0.1, momentum=0.9, global_clipnorm=1.0)
    moved = after_steps(optimizer, values, gradients)
    expected, total = values.astype(float), 0.0
    for gradient in gradients:
        gradient = gradient / np.linalg.norm(gradient)  # clipped
        total = 0.9 * total + gradient
        matrix = gradient + 0.9 * total
        update = newton_schulz(matrix, 4, np.linalg.norm(matrix.T @ matrix) ** 0.5)
        expected -= 0.02 * 0.1 * expected + 0.02 * 0.2 * 24**0.5 * update
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert np.abs(moved - values).max() > 0.01


def test_with_the_usual_iteration_a_matrix_moves_as_by_the_muon_of_keras(monkeypatch):
    def usual(matrix, steps):
        return tf.constant(newton_schulz(matrix.numpy(), 5, np.linalg.norm(matrix)), "float32")

    monkeypatch.setattr(muon, "orthogonal", usual)
    values, *gradients = RNG.normal(size=(4, 24, 8)).astype("float32")
    options = {"learning_rate": 0.02, "weight_decay": 0.1, "global_clipnorm": 1.0}
    theirs = keras.optimizers.Muon(**options)
    if getattr(theirs, "rms_rate", None) != 0.2:
        pytest.skip("the Muon of this Keras scales in another way")
    moved = after_steps(Muon(**options), values, gradients)
    np.testing.assert_allclose(moved, after_steps(theirs, values, gradients), atol=1e-5)
    assert np.abs(moved - values).max() > 0.01


def test_a_kernel_moves_as_the_matrix_that_it_is():
    values, *gradients = RNG.normal(size=(4, 3, 3, 8, 16)).astype("float32")
    as_matrix = after_steps(Muon(), values.reshape(72, 16), [g.reshape(72, 16) for g in gradients])
    np.testing.assert_allclose(
        after_steps(Muon(), values, gradients), as_matrix.reshape(values.shape), atol=1e-6
    )


def test_adamw_takes_vectors_embeddings_small_matrices_and_the_last_layer():
    network = unet((8, 8, 8), num_classes=3, widths=(8, 16), embedding_width=16)
    optimizer = Muon()
    optimizer.build(network.trainable_variables)
    by_adamw = {
        weight.path
        for weight, velocity in zip(network.trainable_variables, optimizer._velocities, strict=True)
        if velocity is not None
    }
    kernels = {w.path for w in network.trainable_variables if len(w.shape) > 1}
    assert by_adamw & kernels == {"label_embedding/embeddings", "out/kernel"}
    assert by_adamw >= {w.path for w in network.trainable_variables if len(w.shape) < 2}


def test_its_config_is_its_arguments():
    options = {"momentum": 0.8, "steps": 3, "exclude_layers": ("last",), "weight_decay": 0.2}
    again = Muon.from_config(Muon(**options).get_config())
    assert {name: getattr(again, name) for name in options} == options
