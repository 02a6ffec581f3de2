"""Linear operators and their adjoints."""

import numpy as np
import pytest
from keras import ops

from keras_diffusion.diffusion import operators

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4, 6, 3)).astype("float32")
KNOWN = rng.integers(0, 2, (3, 4, 6))
OPERATORS = {
    "mask": operators.mask(KNOWN[0]),
    "masks": operators.mask(KNOWN),
    "frames": operators.frames([0, 2], num_frames=3),
    "downscale": operators.downscale(2),
    "grayscale": operators.grayscale(),
    "linear": operators.linear(
        lambda x, factor: x[:, :2] * factor,
        lambda y, factor: ops.pad(y * factor, ((0, 0), (0, 2), (0, 0), (0, 0))),
        rng.normal(size=(3, 1, 1, 1)),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint(name):
    operator = OPERATORS[name]
    measured = np.asarray(operator.apply(X))
    y = rng.normal(size=measured.shape).astype("float32")
    back = np.asarray(operator.adjoint(y))
    assert back.shape == X.shape
    np.testing.assert_allclose((measured * y).sum((1, 2, 3)), (X * back).sum((1, 2, 3)), rtol=1e-3)
    if operator.is_projection:
        np.testing.assert_allclose(operator.apply(measured), measured)


def test_what_is_known():
    np.testing.assert_array_equal(OPERATORS["masks"].apply(X), X * KNOWN[..., None])
    np.testing.assert_array_equal(operators.mask(KNOWN[..., None] > 0).arrays, [KNOWN[..., None]])
    clips = np.tile(X, 2)  # two frames of three colours
    np.testing.assert_array_equal(
        operators.frames(1, num_frames=2).apply(clips), np.concatenate([0 * X, X], axis=-1)
    )
    blocks = np.asarray(operators.downscale(2).apply(X))
    np.testing.assert_allclose(blocks[:, 1, 2], X[:, 2:4, 4:6].mean((1, 2)), rtol=1e-5)
    assert operators.downscale(2) is operators.downscale(2), "one graph for all calls"
    gray = np.asarray(operators.grayscale().apply(np.ones((1, 2, 2, 3), "float32")))
    np.testing.assert_allclose(gray, np.ones((1, 2, 2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: operators.mask([1, 0]), "mask: shape"),
        (lambda: operators.mask(np.full((4, 6), 255)), "mask: must be 1"),
        (lambda: operators.frames([], 3), "frames"),
        (lambda: operators.frames([3], 3), "frames"),
        (lambda: operators.downscale(1), "factor"),
        (lambda: operators.downscale(4).apply(X), "factor: 4x6"),
        (lambda: operators.grayscale().apply(X[..., :1]), "grayscale: needs"),
        (lambda: operators.frames([0], 2).apply(X), "num_frames"),
    ],
)
def test_rejected(make, match):
    with pytest.raises(ValueError, match=match):
        make()
