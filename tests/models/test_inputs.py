"""What may be given to `fit`, and what a user who gives something else is told."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.models.inputs import mean_over_microbatches, unpack
from keras_diffusion.networks import unet

SHAPE = (4, 4, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])
TINY = {"widths": (4,), "attention": (False,), "embedding_width": 8}


def tiny_model(num_classes=0, **options):
    """A model that answers zero until it is trained."""
    keras.utils.set_random_seed(0)
    model = DiffusionModel(unet(SHAPE, num_classes=num_classes, **TINY), **options)
    model.compile(keras.optimizers.SGD(0.1))
    return model


@pytest.fixture(scope="module")
def unlabelled():
    return tiny_model(prediction_type="eps")


@pytest.fixture(scope="module")
def labelled():
    return tiny_model(num_classes=3, prediction_type="eps")


def first_loss(model, images, labels=None):
    return float(model.test_on_batch(images, labels, return_dict=True)["loss"])


def as_seen(batch):
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
    data = tf.nest.map_structure(tf.constant, data)
    batch = unpack(data, SHAPE, num_classes=3)
    valid = np.full(len(LABELS), True)
    assert as_seen(batch) == as_seen({"image": IMAGES, "label": LABELS, "valid": valid})
    assert batch["label"].dtype == tf.int32
    assert as_seen(unpack(data, SHAPE, num_classes=0)) == as_seen({"image": IMAGES})


def test_images_alone():
    for data in (IMAGES, (IMAGES,), {"image": IMAGES}):
        assert list(unpack(data, SHAPE, num_classes=0)) == ["image"]


def test_the_given_dict_is_left_alone():
    data = {"image": IMAGES, "label": LABELS}
    unpack(data, SHAPE, num_classes=0)
    assert sorted(data) == ["image", "label"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_worth_what_uint8_is(unlabelled, dtype):
    as_float = (IMAGES / 255).astype(dtype)
    tolerance = 1e-3 if dtype == "float16" else 1e-6
    assert first_loss(unlabelled, as_float) == pytest.approx(
        first_loss(unlabelled, IMAGES), rel=tolerance
    )


def test_floats_train_like_uint8():
    losses, weights = [], []
    for images in (IMAGES, (IMAGES / 255).astype("float32")):
        model = tiny_model(prediction_type="v")
        results = [model.train_on_batch(images, return_dict=True) for _ in range(3)]
        losses.append([float(result["loss"]) for result in results])
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert len(set(losses[0])) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "bool"])
def test_other_integers_are_refused(unlabelled, dtype):
    message = f"images: dtype {dtype}; give uint8 in 0..255 or floats in"
    with pytest.raises(ValueError, match=message):
        first_loss(unlabelled, IMAGES.astype(dtype))


@pytest.mark.parametrize("images", [IMAGES.astype("float32"), IMAGES / 127.5 - 1])
def test_floats_beyond_0_to_1_are_refused(unlabelled, images):
    for run in (unlabelled.train_on_batch, unlabelled.test_on_batch):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"floats must lie in \[0, 1\]"):
            run(images)


def test_nan_is_refused(unlabelled):
    images = (IMAGES / 255).astype("float32")
    images[0, 0, 0, 0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="floats must lie"):
        unlabelled.test_on_batch(images)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range_are_refused(labelled, wrong):
    labels = np.where(LABELS == 2, wrong, LABELS)
    for run in (labelled.train_on_batch, labelled.test_on_batch):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels: must lie in 0 \.\. 2"):
            run(IMAGES, labels)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS + 0.5,
        np.where(LABELS == 2, np.nan, LABELS),
        np.where(LABELS == 2, np.inf, LABELS),
        LABELS + 2**32,  # in 32 bits it would be a class
        LABELS.astype("uint64") + np.uint64(2**63),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(labels):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must lie in 0 \.\. 2 and be whole"):
        unpack((IMAGES, labels), SHAPE, num_classes=3)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "uint16", "int64", "float16", "float32", "bool"]
)
def test_whole_numbers_of_any_type_are_labels(dtype):
    given = np.minimum(LABELS, 1).astype(dtype)
    batch = unpack((IMAGES, given), SHAPE, num_classes=300)  # more than int8 holds
    assert batch["label"].dtype == tf.int32
    assert np.array_equal(batch["label"], np.minimum(LABELS, 1))


def test_where_xla_leaves_the_checks_out_a_step_of_bad_values_is_skipped(monkeypatch):
    @tf.function(jit_compile=True)
    def compiled(images, labels):
        batch = unpack((images, labels), SHAPE, num_classes=3)
        return PixelCodec().encode(batch["image"]), batch["valid"]

    images, labels = (IMAGES / 255).astype("float32"), LABELS.copy()
    labels[1] = 3
    x, valid = compiled(images, labels)
    assert np.isfinite(x).all() and valid.numpy().tolist() == (labels < 3).tolist()
    assert np.isnan(compiled(255 * images, LABELS)[0]).all()
    monkeypatch.setattr(tf.debugging, "Assert", lambda *_: tf.no_op())
    model = tiny_model(num_classes=3)
    before = model.network.get_weights()
    for bad in ((images, labels), (255 * images, LABELS)):
        model.train_on_batch(*bad)
    assert int(model.skipped_steps) == 2
    for one, other in zip(model.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.train_on_batch(images, LABELS)
    assert int(model.skipped_steps) == 2


def test_words_are_no_labels():
    with pytest.raises(ValueError, match="labels: dtype string; give whole numbers"):
        unpack((IMAGES, np.array(["a"] * 6)), SHAPE, num_classes=3)


def test_labels_given_twice():
    with pytest.raises(ValueError, match="labels: given twice"):
        unpack(({"image": IMAGES, "label": LABELS}, LABELS), SHAPE, num_classes=3)


def test_one_hot_labels_are_refused(labelled):
    one_hot = np.eye(3, dtype="float32")[LABELS]
    with pytest.raises(ValueError, match=r"labels: shape"):
        labelled.test_on_batch(IMAGES, one_hot)


def test_missing_labels(labelled):
    for data in (IMAGES, {"image": IMAGES}):
        with pytest.raises(ValueError, match="the network has 3 classes, but the data has no lab"):
            labelled.test_on_batch(data)


@pytest.mark.parametrize("shape", [(6, 4, 4, 3), (6, 8, 8, 1), (6, 4, 4), (6,)])
def test_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"images: shape \(.*; the network takes \(4, 4, 1\)"):
        unpack(tf.zeros(shape, tf.uint8), SHAPE, num_classes=0)


def test_endpoints_of_another_shape():
    with pytest.raises(ValueError, match=r"endpoints: shape \(4, 4, 3\); the network takes"):
        unpack({"image": IMAGES, "endpoint": np.zeros((6, 4, 4, 3))}, SHAPE, num_classes=0)


def test_tensors_of_unknown_shape_say_what_to_do():
    @tf.function
    def traced(images, labels):
        return unpack((images, labels), SHAPE, num_classes=3)

    unknown = tf.TensorSpec(None, tf.uint8)
    with pytest.raises(ValueError, match=r"images: of unknown shape; .* \(4, 4, 1\).*ensure_shape"):
        traced.get_concrete_function(unknown, tf.TensorSpec((None,), tf.int32))
    with pytest.raises(ValueError, match="labels: of unknown shape; give one class number"):
        traced.get_concrete_function(tf.TensorSpec((None, *SHAPE), tf.uint8), unknown)


def test_a_dict_without_images_names_its_keys():
    with pytest.raises(ValueError, match=r"no \"image\" among the keys \['label', 'picture'\]"):
        unpack({"picture": IMAGES, "label": LABELS}, SHAPE, num_classes=3)


def test_endpoint_takes_the_place_of_the_noise(unlabelled):
    # The network still answers zero and predicts eps: the loss is the endpoint's mean square.
    endpoint = np.full(IMAGES.shape, 0.75, "float32")
    assert first_loss(unlabelled, {"image": IMAGES, "endpoint": endpoint}) == pytest.approx(0.25)
    pixels = np.full(IMAGES.shape, 255, "uint8")
    assert first_loss(unlabelled, {"image": IMAGES, "endpoint": pixels}) == pytest.approx(1)
    noisy = first_loss(unlabelled, {"image": IMAGES})
    assert noisy == pytest.approx(1, abs=0.3)
    assert noisy != pytest.approx(1, abs=1e-4)


# Parts of a batch


def rows_of(count, width=3):
    """A batch of `count` rows, and a kernel to multiply them with."""
    rng = np.random.default_rng(0)
    batch = {
        "x": tf.constant(rng.normal(size=(count, width)), tf.float32),
        "y": tf.constant(rng.normal(size=count), tf.float32),
    }
    return batch, tf.Variable(rng.normal(size=width), dtype=tf.float32)


def gradients_of(kernel, calls):
    """A function for `mean_over_microbatches`: gradients of a mean, and values of each row."""

    def function(batch):
        calls.append(int(batch["x"].shape[0] or 0))
        with tf.GradientTape() as tape:
            errors = (tf.linalg.matvec(batch["x"], kernel) - batch["y"]) ** 2
            loss = tf.reduce_mean(errors)
        return [tape.gradient(loss, kernel), loss], {"error": errors, "y": batch["y"]}

    return function


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
@pytest.mark.parametrize("mode", ["eager", "graph", "unknown size"])
def test_the_mean_over_parts_is_that_of_the_whole(parts, mode):
    batch, kernel = rows_of(12)
    whole = gradients_of(kernel, [])(batch)
    calls = []

    def worked(batch):
        return mean_over_microbatches(gradients_of(kernel, calls), batch, parts)

    if mode != "eager":
        size = None if mode == "unknown size" else 12
        specs = {"x": tf.TensorSpec((size, 3)), "y": tf.TensorSpec((size,))}
        worked = tf.function(worked, input_signature=[specs])
    means, values = worked(batch)
    for got, expected in zip(means, whole[0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert values.keys() == whole[1].keys()
    for name, expected in whole[1].items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-6)
    np.testing.assert_array_equal(values["y"], batch["y"])
    if mode == "eager":
        assert calls == [12 // parts] * parts
    else:
        assert len(calls) == min(parts, 2), "one graph for all parts after the first"


@pytest.mark.parametrize("mode", [None, tf.function], ids=["eager", "graph"])
def test_unequal_parts_are_refused(mode):
    batch, kernel = rows_of(10)

    def worked():
        return mean_over_microbatches(gradients_of(kernel, []), batch, 4)

    with pytest.raises(ValueError, match="accumulate: 10 images do not fall into 4 equal parts"):
        (mode(worked) if mode else worked)()


def test_unequal_parts_of_a_batch_of_unknown_size_are_refused():
    _, kernel = rows_of(1)
    worked = tf.function(
        lambda batch: mean_over_microbatches(gradients_of(kernel, []), batch, 4),
        input_signature=[{"x": tf.TensorSpec((None, 3)), "y": tf.TensorSpec((None,))}],
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        worked(rows_of(10)[0])


def test_a_model_learns_the_same_in_parts():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, *SHAPE), np.uint8)
    labels = rng.integers(0, 3, 16)
    results, weights = [], []
    for accumulate in (1, 4):
        model = tiny_model(num_classes=3, accumulate=accumulate)
        steps = [model.train_on_batch(images, labels, return_dict=True) for _ in range(5)]
        results.append({name: float(value) for name, value in steps[-1].items()})
        weights.append(model.get_weights())
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    untrained = tiny_model(num_classes=3).get_weights()
    assert max(np.abs(w - u).max() for w, u in zip(weights[0], untrained, strict=True)) > 1e-2


@pytest.mark.parametrize("accumulate", [0, -1])
def test_no_parts_at_all(unlabelled, accumulate):
    with pytest.raises(ValueError, match=f"accumulate: {accumulate} is not 1 or more"):
        DiffusionModel(unlabelled.network, accumulate=accumulate)
