"""Random numbers as pure functions of a key, never of hidden state.

A stateful generator draws the same numbers on every replica and forgets where it was when a
run is resumed; a function of (seed, step, replica) does neither.
"""

import tensorflow as tf


def step_key(seed, step):
    """Returns the key, (2,) int32, of one training step on this replica.

    Args:
        seed: int, the run's seed.
        step: scalar int tensor, the number of steps taken.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    key = tf.stack([tf.constant(seed, tf.int32), tf.cast(step, tf.int32)])
    return tf.random.fold_in(key, replica)


def image_noise(seed, indices, shape, stream):
    """Returns standard Gaussian noise in which image i depends only on (seed, i, stream).

    So a request for 64 images gives the same ones in one batch or in eight.

    Args:
        seed: scalar int32 tensor.
        indices: (N,) int32 tensor, the numbers of the images within the request.
        shape: shape of one image, (H, W, C).
        stream: scalar int32; another stream, other noise: one for each step of a sampler.

    Returns:
        (N, *shape) float32.
    """

    def one(index):
        key = tf.random.fold_in(tf.stack([seed, index]), stream)
        return tf.random.stateless_normal(shape, key)

    return tf.map_fn(one, indices, fn_output_signature=tf.float32)
