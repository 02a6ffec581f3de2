"""Data that `fit` accepts and rejects, and microbatches."""

import numpy as np
import pytest
import tensorflow as tf
from fixtures_models import IMAGES, LABELS, SHAPE, tiny_model

from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.models.inputs import mean_over_microbatches, unpack

FLOATS = (IMAGES / 255).astype("float32")


@pytest.fixture(scope="module")
def labelled():
    return tiny_model(num_classes=np.int64(2))  # labels.max() + 1


def as_lists(batch):
    return {name: np.asarray(value).tolist() for name, value in batch.items()}


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        (IMAGES, LABELS.astype("uint8")),
        (IMAGES, LABELS[:, None]),
        {"image": IMAGES, "label": LABELS},
        ({"image": IMAGES}, LABELS),
        ({"image": IMAGES, "label": LABELS},),
    ],
)
def test_every_form_of_labelled_images(data):
    keys = sorted(data) if isinstance(data, dict) else None
    tensors = tf.nest.map_structure(tf.constant, data)
    batch = unpack(tensors, SHAPE, num_classes=2)
    valid = np.full(len(LABELS), True)
    assert as_lists(batch) == as_lists({"image": IMAGES, "label": LABELS, "valid": valid})
    assert batch["label"].dtype == tf.int32
    assert as_lists(unpack(tensors, SHAPE, num_classes=0)) == as_lists({"image": IMAGES})
    assert keys is None or sorted(data) == keys, "the user's dict is not changed"


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_floats_train_as_uint8_does(dtype):
    losses, weights = [], []
    for images in (IMAGES, (IMAGES / 255).astype(dtype)):
        model = tiny_model()
        results = [model.train_on_batch(images, return_dict=True) for _ in range(3)]
        losses.append([float(result["loss"]) for result in results])
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert len(set(losses[0])) == 3
    tolerance = 1e-2 if dtype == "float16" else 1e-5
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    np.testing.assert_allclose(weights[1], weights[0], atol=tolerance)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "bool"])
def test_whole_numbers_of_any_type_are_labels(dtype):
    batch = unpack((IMAGES, LABELS.astype(dtype)), SHAPE, num_classes=300)  # int8 is at most 127
    assert batch["label"].dtype == tf.int32
    assert np.array_equal(batch["label"], LABELS)


def without(name):
    return {key: value for key, value in (("image", IMAGES), ("label", LABELS)) if key != name}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES, np.array(["a"] * 16)), "labels: dtype string"),
        (({"image": IMAGES, "label": LABELS}, LABELS), "labels: given both"),
        ((IMAGES, np.eye(2, dtype="float32")[LABELS]), r"labels: shape \(16, 2\)"),
        (IMAGES, "labels: the network has 2 classes, but the data has no labels"),
        (without("label"), "labels: the network has 2 classes"),
        (without("image"), r"no \"image\" among the keys \['label'\]"),
        ((IMAGES, LABELS, FLOATS), r"sample_weight: shape"),
        ((IMAGES[:, :2], LABELS), r"images: shape \(2, 4, 1\); the network takes \(4, 4, 1\)"),
        ((IMAGES[..., 0], LABELS), r"images: shape \(4, 4\)"),
        (({"image": IMAGES, "endpoint": np.zeros((16, 4, 4, 3))}, LABELS), r"endpoints: shape"),
        (({"latent": IMAGES}, LABELS), 'no "image" among the keys'),
    ],
)
def test_data_that_is_rejected_when_it_is_traced(data, message):
    with pytest.raises(ValueError, match=message):
        unpack(data, SHAPE, num_classes=2)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "bool"])
def test_other_integers_are_rejected(labelled, dtype):
    with pytest.raises(ValueError, match=f"images: dtype {dtype}; must be uint8"):
        labelled.test_on_batch(IMAGES.astype(dtype), LABELS)


WRONG_LABELS = [
    LABELS - 1, LABELS + 1, LABELS + 0.5, np.where(LABELS, np.nan, 0), np.where(LABELS, np.inf, 0),
    LABELS + 2**32, LABELS.astype("uint64") + np.uint64(2**63),
]  # fmt: skip


@pytest.mark.parametrize("labels", WRONG_LABELS)
def test_labels_that_are_not_class_numbers_are_rejected(labels):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels: .* in 0 \.\. 1"):
        unpack((IMAGES, labels), SHAPE, num_classes=2)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (255 * FLOATS, LABELS, r"floats must lie in \[0, 1\]"),
        (2 * FLOATS - 1, LABELS, r"floats must lie in \[0, 1\]"),
        (np.where(LABELS[:, None, None, None], np.nan, FLOATS), LABELS, "floats must lie"),
        (FLOATS, LABELS + 1, "labels: "),
    ],
)
def test_values_out_of_range_are_rejected_in_training_and_evaluation(
    labelled, images, labels, message
):
    for run in (labelled.train_on_batch, labelled.test_on_batch):
        with pytest.raises(ValueError, match=message):
            run(images, labels)


def test_xla_without_these_checks_skips_the_step(monkeypatch):
    @tf.function(jit_compile=True)
    def compiled(images, labels):
        batch = unpack((images, labels), SHAPE, num_classes=2)
        return PixelCodec().encode(batch["image"]), batch["valid"]

    wrong = LABELS + (np.arange(16) == 1)
    x, valid = compiled(FLOATS, wrong)
    assert np.isfinite(x).all() and valid.numpy().tolist() == (wrong < 2).tolist()
    assert np.isnan(compiled(255 * FLOATS, LABELS)[0]).all()
    monkeypatch.setattr(tf.debugging, "Assert", lambda *_: tf.no_op())
    model = tiny_model(num_classes=2)
    before = model.network.get_weights()
    for data in ((FLOATS, wrong), (255 * FLOATS, LABELS)):
        model.train_on_batch(*data)
    assert int(model.skipped_steps) == 2
    for one, other in zip(model.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.train_on_batch(FLOATS, LABELS)
    assert int(model.skipped_steps) == 2


def test_tensors_of_unknown_shape_are_rejected():
    @tf.function
    def traced(images, labels):
        return unpack((images, labels), SHAPE, num_classes=2)

    unknown = tf.TensorSpec(None, tf.uint8)
    with pytest.raises(ValueError, match=r"images: unknown shape; .* \(4, 4, 1\).*ensure_shape"):
        traced.get_concrete_function(unknown, tf.TensorSpec((None,), tf.int32))
    with pytest.raises(ValueError, match="labels: unknown shape"):
        traced.get_concrete_function(tf.TensorSpec((None, *SHAPE), tf.uint8), unknown)


# Microbatches


def rows_of(count, width=3):
    """Returns a batch of `count` rows, and a kernel to multiply them with."""
    rng = np.random.default_rng(0)
    batch = {
        "x": tf.constant(rng.normal(size=(count, width)), tf.float32),
        "y": tf.constant(rng.normal(size=count), tf.float32),
    }
    return batch, tf.Variable(rng.normal(size=width), dtype=tf.float32)


def gradients_of(kernel, calls):
    """A function for `mean_over_microbatches`: gradient and loss, and values of each row."""

    def function(batch):
        calls.append(int(batch["x"].shape[0] or 0))
        with tf.GradientTape() as tape:
            errors = (tf.linalg.matvec(batch["x"], kernel) - batch["y"]) ** 2
            loss = tf.reduce_mean(errors)
        return [tape.gradient(loss, kernel), loss], {"error": errors, "y": batch["y"]}

    return function


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("mode", ["eager", "graph", "unknown size"])
def test_the_mean_over_microbatches_is_that_of_the_batch(count, mode):
    batch, kernel = rows_of(12)
    expected_means, expected_values = gradients_of(kernel, [])(batch)
    calls = []

    def function(batch):
        return mean_over_microbatches(gradients_of(kernel, calls), batch, count)

    if mode != "eager":
        size = None if mode == "unknown size" else 12
        specs = {"x": tf.TensorSpec((size, 3)), "y": tf.TensorSpec((size,))}
        function = tf.function(function, input_signature=[specs])
    means, values = function(batch)
    for mean, expected in zip(means, expected_means, strict=True):
        np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)
    assert values.keys() == expected_values.keys()
    for name, expected in expected_values.items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-6)
    if mode == "eager":
        assert calls == [12 // count] * count
    else:
        graphs = min(count, 2)  # one for all microbatches after the first
        if mode == "unknown size" and count > 1:
            graphs += 1  # for a batch that is not a multiple of `count`
        assert len(calls) == graphs


def test_only_the_last_batch_of_an_epoch_may_be_no_multiple_of_the_microbatches():
    batch, kernel = rows_of(10)

    def function(batch):
        return mean_over_microbatches(gradients_of(kernel, []), batch, 4)

    with pytest.raises(ValueError, match="accumulate: 10 .* 4"):
        function(batch)
    specs = {"x": tf.TensorSpec((None, 3)), "y": tf.TensorSpec((None,))}
    for rows in (10, 1):
        part = {name: values[:rows] for name, values in batch.items()}
        means, values = tf.function(function, input_signature=[specs])(part)
        expected_means, expected_values = gradients_of(kernel, [])(part)
        for one, other in zip(means, expected_means, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
        assert {n: v.shape for n, v in values.items()} == {
            n: v.shape for n, v in expected_values.items()
        }


def test_a_model_trains_alike_with_microbatches():
    results, weights = [], []
    for accumulate in (1, 4):
        model = tiny_model(num_classes=2, accumulate=accumulate)
        before = model.network.get_weights()
        steps = [model.train_on_batch(IMAGES, LABELS, return_dict=True) for _ in range(3)]
        results.append({name: float(value) for name, value in steps[-1].items()})
        weights.append(model.network.get_weights())
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    assert max(np.abs(w - b).max() for w, b in zip(weights[0], before, strict=True)) > 1e-2
