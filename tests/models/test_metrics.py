import numpy as np
import pytest
import tensorflow as tf
from fixtures_runs import tiny_images, tiny_model

from keras_diffusion.models import metrics


def test_raw_excess_is_that_of_every_eighth_image_whatever_the_batches():
    model = tiny_model()
    weights = model.ema_network.get_weights()
    model.ema_network.set_weights([weight + 0.1 for weight in weights])
    images, labels = tiny_images(20)

    def evaluate(indices, batch_size=20):
        data = {"image": images[indices], "label": labels[indices], "index": indices}
        return model.evaluate(data, batch_size=batch_size, verbose=0, return_dict=True)

    everything, eighths = np.arange(20), np.array([0, 8, 16])
    excess = evaluate(everything)["raw_excess"]
    for batch_size in (3, 7):
        order = np.random.default_rng(batch_size).permutation(everything)
        assert evaluate(order, batch_size)["raw_excess"] == pytest.approx(excess, rel=1e-4)
    average = evaluate(eighths)["loss"]
    model.ema_network.set_weights(weights)
    assert evaluate(eighths)["loss"] - average == pytest.approx(excess, rel=1e-3)


def test_xla_gets_the_same_number_of_rows_whatever_their_indices():
    rows, weights = metrics.raw_loss_rows(tf.range(1, 10), compiled=True)
    assert len(rows) == 9
    np.testing.assert_array_equal(weights, [0] * 7 + [1, 0])


def test_the_loss_is_not_the_best_of_all_if_every_step_was_skipped():
    trackers = metrics.make_trackers()
    batch = {"loss": (tf.constant([1.0, 3.0]), tf.ones(2))}
    assert np.isnan(metrics.update(trackers, batch, tf.constant(False))["loss"])
    assert metrics.update(trackers, batch, tf.constant(True))["loss"] == 2
