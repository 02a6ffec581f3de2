"""Muon, an optimizer that makes the update of a matrix orthogonal."""

import functools
import math

import keras
import tensorflow as tf

# Coefficients of the quintic polynomial, of Jordan et al.
A, B, C = 3.4445, -4.7750, 2.0315
SMALLEST_SIDE = 8  # of a matrix; smaller ones are left to AdamW
EMBEDDINGS = ("embeddings", "positions")  # names of weights whose rows have nothing in common


@keras.saving.register_keras_serializable("keras_diffusion")
class Muon(keras.optimizers.AdamW):
    """Muon for matrices, AdamW for all other weights.

        M = momentum M + G,   O = orthogonal(G + momentum M)
        W = W - learning_rate (0.2 sqrt(max(rows, columns)) O + weight_decay W)

    All axes of a kernel but the last are rows: that of a convolution is the matrix (height * width
    * in, out). The factor gives O the root mean square of an update of AdamW, so that one learning
    rate fits both.

    AdamW takes vectors, embeddings, matrices with a side below 8, and the layers in
    `exclude_layers`. `keras.optimizers.Muon` takes only what has two axes, and its arguments differ
    between versions of Keras.

    Args:
        learning_rate: float or schedule; the best is about five times that of AdamW.
        weight_decay: float.
        momentum: decay of the sum of gradients M, in [0, 1).
        steps: Newton-Schulz iterations.
        exclude_layers: names of layers, usually the last one.
        **kwargs: arguments of `keras.optimizers.AdamW`.

    Reference: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025,
        arXiv:2502.16982 (the factor).
    """

    def __init__(
        self,
        learning_rate=0.01,
        weight_decay=1e-4,
        momentum=0.95,
        steps=4,
        exclude_layers=("out",),
        name="muon",
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.steps = steps
        self.exclude_layers = tuple(exclude_layers)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        if name == "velocity" and self._is_matrix(reference_variable):
            return None  # only AdamW needs it
        return super().add_variable_from_reference(reference_variable, name, initializer)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if self._velocities[index] is not None:
            return super().update_step(gradient, variable, learning_rate)
        average = self._momentums[index]
        total = self.momentum * average + gradient
        self.assign(average, total)
        matrix = tf.reshape(gradient + self.momentum * total, (-1, variable.shape[-1]))
        update = 0.2 * math.sqrt(max(matrix.shape)) * orthogonal(matrix, self.steps)
        self.assign_sub(variable, learning_rate * tf.reshape(update, variable.shape))

    def _is_matrix(self, variable):
        *layers, name = variable.path.split("/")
        return (
            len(variable.shape) > 1
            and min(math.prod(variable.shape[:-1]), variable.shape[-1]) >= SMALLEST_SIDE
            and name not in EMBEDDINGS
            and not set(layers) & set(self.exclude_layers)
        )

    def get_config(self):
        names = ("momentum", "steps", "exclude_layers")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def orthogonal(matrix, steps=4):
    """Moves the singular values of a matrix near 1, between about 0.7 and 1.2.

        X <- X / |X^T X|^(1/2),   X <- X p(X^T X),   p(S) = a I + b S + c S^2

    As p(S) commutes with S, X p_1 p_2 ... is X P with a product P of small matrices, and X itself,
    often nine times as tall as wide, is multiplied only twice. |X^T X|^(1/2), with the Frobenius
    norm, bounds the largest singular value more closely than the usual |X|, by n^(1/4) for n equal
    ones. That is worth about one step.

    Args:
        matrix: (rows, columns), float32.
        steps: number of iterations.

    Returns:
        (rows, columns).
    """
    rows, columns = matrix.shape
    if columns > rows:
        return tf.transpose(orthogonal(tf.transpose(matrix), steps))
    gram = tf.matmul(matrix, matrix, transpose_a=True)
    squares = tf.norm(gram) + 1e-14
    return tf.matmul(matrix, _product(gram / squares, steps)) / tf.sqrt(squares)


@functools.partial(tf.function, autograph=False)  # one graph for all matrices of equal width
def _product(gram, steps):
    """Returns p(S_1) p(S_2) ..., S_1 = gram, S_{k+1} = S_k p(S_k)^2."""
    product, identity = None, tf.eye(gram.shape[0])
    for _ in range(steps):
        polynomial = A * identity + tf.matmul(gram, B * identity + C * gram)
        product = polynomial if product is None else tf.matmul(product, polynomial)
        gram = tf.matmul(gram, tf.matmul(polynomial, polynomial))
    return product
