import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.runtime.randomness import batch_positions, image_noise, replica_rows, step_key

SHAPE = (3, 4, 2)


def noise(seed=0, indices=range(8), shape=SHAPE, stream=0):
    indices = tf.constant(list(indices), tf.int32)
    return image_noise(tf.constant(seed), indices, shape, tf.constant(stream)).numpy()


def test_noise_of_an_image_depends_only_on_its_index():
    whole = noise(indices=range(8))
    assert whole.shape == (8, *SHAPE)
    assert whole.dtype == np.float32
    parts = [noise(indices=part) for part in ([0, 1, 2], [3, 4, 5, 6], [7])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(noise(indices=[5, 0, 5]), whole[[5, 0, 5]])

    graph = tf.function(
        lambda seed, indices, stream: image_noise(seed, indices, SHAPE, stream),
        input_signature=[tf.TensorSpec(s, tf.int32) for s in ((), (None,), ())],
    )
    np.testing.assert_array_equal(
        graph(tf.constant(7), tf.range(8), tf.constant(3)), noise(seed=7, stream=3)
    )


def test_noise_of_other_seeds_images_and_streams_is_independent():
    # Also if two of them are exchanged: (seed 1, image 2) and (seed 2, image 1).
    samples = {
        (seed, index, stream): noise(seed, [index], (64, 64, 1), stream).ravel()
        for seed in (0, 1, 2)
        for index in (0, 1, 2)
        for stream in (0, 1, 2)
    }
    correlations = np.corrcoef(np.stack(list(samples.values())))
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 5 / 64  # five standard deviations


@pytest.mark.parametrize("seed", [3, -1, -(2**31), 2**31 - 1])
def test_noise_is_standard_gaussian(seed):
    samples = noise(seed=seed, indices=range(64), shape=(16, 16, 1), stream=5)
    assert abs(samples.mean()) < 4 / samples.size**0.5
    assert abs(samples.std() - 1) < 4 / (2 * samples.size) ** 0.5
    assert (np.abs(samples) < 1).mean() == pytest.approx(0.6827, abs=0.02)


def test_every_step_and_seed_has_its_key():
    steps = [-1, 0, 1, 2, 1000, 2**31 - 1]
    keys = [tuple(step_key(seed, tf.constant(step)).numpy()) for seed in (0, 1) for step in steps]
    assert len(set(keys)) == len(keys)
    assert step_key(0, tf.constant(5, tf.int64)).dtype == tf.int32


def test_one_replica_has_the_positions_and_rows_of_the_whole_batch():
    np.testing.assert_array_equal(batch_positions(tf.constant(5)), range(5))
    assert batch_positions(tf.constant(5)).dtype == tf.int32
    rows = replica_rows(tf.range, tf.constant(5))
    np.testing.assert_array_equal(rows, range(5))
