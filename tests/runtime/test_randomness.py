from itertools import combinations

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.runtime.randomness import batch_positions, image_noise, replica_rows, step_key

SHAPE = (3, 4, 2)


def noise(seed=0, indices=range(8), shape=SHAPE, stream=0):
    indices = tf.constant(list(indices), tf.int32)
    return image_noise(tf.constant(seed), indices, shape, tf.constant(stream)).numpy()


def test_each_image_depends_on_its_number_alone():
    whole = noise(indices=range(8))
    assert whole.shape == (8, *SHAPE)
    assert whole.dtype == np.float32
    parts = [noise(indices=part) for part in ([0, 1, 2], [3, 4, 5, 6], [7])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(noise(indices=[5, 0, 5]), whole[[5, 0, 5]])


def test_the_same_in_a_graph():
    graph = tf.function(
        lambda seed, indices, stream: image_noise(seed, indices, SHAPE, stream),
        input_signature=[tf.TensorSpec(s, tf.int32) for s in ((), (None,), ())],
    )
    for seed, stream in ((0, 0), (7, 3)):
        got = graph(tf.constant(seed), tf.range(8), tf.constant(stream))
        np.testing.assert_array_equal(got, noise(seed=seed, stream=stream))


def test_other_seeds_images_and_streams_are_independent():
    # Swapped roles too: (seed 1, image 2) is not (seed 2, image 1).
    draws = {
        (seed, index, stream): noise(seed, [index], (64, 64, 1), stream).ravel()
        for seed in (0, 1, 2)
        for index in (0, 1, 2)
        for stream in (0, 1, 2)
    }
    correlations = np.corrcoef(np.stack(list(draws.values())))
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 5 / 64  # five standard deviations


def test_standard_gaussian():
    draws = noise(seed=3, indices=range(64), shape=(32, 32, 1), stream=5)
    count = draws.size
    assert abs(draws.mean()) < 4 / count**0.5
    assert abs(draws.std() - 1) < 4 / (2 * count) ** 0.5
    assert (np.abs(draws) < 1).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("seed", [-1, -(2**31), 2**31 - 1])
def test_seeds_of_any_size(seed):
    draws = noise(seed=seed)
    assert np.isfinite(draws).all()
    assert not np.array_equal(draws, noise(seed=0))


def key(seed, step):
    return tuple(step_key(seed, tf.constant(step)).numpy())


def test_every_step_and_seed_has_its_key():
    steps = [-1, 0, 1, 2, 1000, 2**31 - 1]
    keys = [key(seed, step) for seed in (0, 1, 1000) for step in steps]
    assert all(one != other for one, other in combinations(keys, 2))
    assert keys[0] == key(0, -1)
    assert step_key(0, tf.constant(5, tf.int64)).dtype == tf.int32


def test_alone_the_places_are_those_of_the_batch():
    np.testing.assert_array_equal(batch_positions(tf.constant(5)), range(5))
    assert batch_positions(tf.constant(5)).dtype == tf.int32
    asked = []
    rows = replica_rows(lambda count: asked.append(int(count)) or tf.range(count), tf.constant(5))
    np.testing.assert_array_equal(rows, range(5))
    assert asked == [5]
