import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_diffusion.data import load_source, pipeline

rng = np.random.default_rng(0)


def numbered(num_images):
    """Images whose pixels are their index, so that orders can be read from batches."""
    numbers = np.arange(num_images)
    images = np.tile(numbers.astype(np.uint8)[:, None, None, None], (1, 4, 4, 1))
    return {"image": images, "label": numbers % 3}


def order_of(batches):
    return [int(i) for batch in batches for i in batch["image"][:, 0, 0, 0]]


def make_epochs(arrays, batch_size, streamed=False, **options):
    if not streamed:
        return pipeline.batches_in_memory(arrays, batch_size, **options)
    dataset, count = tf.data.Dataset.from_tensor_slices(arrays), len(arrays["image"])
    return pipeline.batches_from_stream(dataset, count, batch_size, **options)


# One image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 60), (33, 50), (16, 16), (7, 5)])
def test_resize_matches_pillow(size):
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    side = min(size)
    left, top = (size[1] - side) // 2, (size[0] - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(square.resize((16, 16), Image.Resampling.BILINEAR))
    graph = tf.function(lambda x: pipeline.resize(x, 16, 16)).get_concrete_function(
        tf.TensorSpec((None, None, 3), tf.uint8)
    )
    for result in (pipeline.resize(image, 16, 16), graph(tf.constant(image))):
        assert result.dtype == tf.uint8
        assert np.abs(result.numpy().astype(int) - expected).max() <= 1


def test_resize_leaves_the_right_size_alone_and_keeps_the_range():
    image = rng.integers(0, 256, (9, 12, 4), np.uint8)
    assert np.array_equal(pipeline.resize(image, 9, 12), image)
    checker = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (8, 8))[..., None]
    assert set(np.unique(pipeline.resize(checker, 32, 32))) >= {0, 255}
    data = tf.data.Dataset.from_tensor_slices(numbered(3))
    assert pipeline.prepared(data, 4, 4, 1) is data
    for shape in ((4, 5, 1), (4, 4, 3)):
        assert pipeline.prepared(data, *shape).element_spec["image"].shape == shape


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((10, 20), (5, 5), (0, 5, 10, 10)),
        ((20, 10), (1, 2), (7, 0, 5, 10)),
        ((1, 50), (50, 1), (0, 24, 1, 1)),
    ],
)
def test_centre_crop(size, target, box):
    image = rng.integers(0, 256, (*size, 1), np.uint8)
    top, left, height, width = box
    expected = image[top : top + height, left : left + width]
    assert np.array_equal(pipeline.centre_crop(image, *target), expected)


def test_convert_channels():
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    for have, want in itertools.product(modes, repeat=2):
        image = tf.constant(rng.integers(0, 256, (5, 6, have), np.uint8))
        picture = Image.fromarray(image.numpy().squeeze())
        if want < have == 4:
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture).convert("RGB")
        expected = np.asarray(picture.convert(modes[want]))
        result = pipeline.convert_channels(image, want).numpy()
        error = np.abs(result - expected.reshape(5, 6, want).astype(int))
        assert error.max() <= 1, (have, want)  # luma is rounded differently


# Epochs --------------------------------------------------------------------------------------


def test_half_of_the_images_are_mirrored_and_others_in_another_epoch_or_for_another_seed():
    flips = {key: pipeline.epoch_flips(10000, *key) for key in ((0, 0), (0, 1), (1, 0))}
    for mask in flips.values():
        assert abs(mask.mean() - 0.5) < 0.02  # 4 standard deviations
    for one, other in itertools.combinations(flips.values(), 2):
        assert abs((one == other).mean() - 0.5) < 0.02


@pytest.mark.parametrize("streamed", [False, True])
def test_training_images_are_mirrored_left_to_right_and_validation_images_are_not(streamed):
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 6, 1)
    arrays = {"image": np.repeat(image, 50, axis=0)}
    epochs = make_epochs(arrays, 20, streamed, horizontal_flip=True, seed=3)
    images = np.concatenate([batch["image"] for batch in epochs(2)])
    for mirrored, pixels in zip(pipeline.epoch_flips(50, 3, 2), images, strict=False):
        np.testing.assert_array_equal(pixels, image[0, :, ::-1] if mirrored else image[0])
    for batch in pipeline.validation_batches(arrays, 20):
        assert (batch["image"] == image).numpy().all()


@pytest.mark.parametrize(("streamed", "balance"), [(False, None), (False, "classes"), (True, None)])
def test_epochs_are_complete_different_and_resume_at_any_step(streamed, balance):
    # 53 images: the remainder of an epoch is dropped, and the flips must stay aligned.
    arrays = numbered(53)
    arrays["image"][:, :, 1:] += 100
    options = {} if streamed else {"balance": balance}

    def make(seed=2):
        return make_epochs(arrays, 10, streamed, seed=seed, horizontal_flip=True, **options)

    def contents(batches):
        return [(b["image"].numpy().tolist(), b["label"].numpy().tolist()) for b in batches]

    whole = [contents(make()(epoch)) for epoch in range(3)]
    assert [len(epoch) for epoch in whole] == [5, 5, 5]
    numbers = [[np.min(x) for images, _ in epoch for x in images] for epoch in whole]
    assert numbers[0] != numbers[1] != numbers[2]
    assert contents(make(seed=1)(0)) != whole[0]
    tf.random.set_seed(0)  # the order does not depend on the global seed
    assert contents(make()(1)) == whole[1]
    for step in (0, 1, 4, 5):
        rest = pipeline.endless(make(), first_epoch=1, first_step=step).take(10 - step)
        assert contents(rest) == whole[1][step:] + whole[2], step
    for images, labels in whole[0]:
        assert (np.array(images).min(axis=(1, 2, 3)) % 3 == labels).all()
    assert balance or len(set(numbers[0])) == 50


def test_balanced_epochs_have_every_class_equally_often():
    labels = np.repeat([0, 1, 2], [2, 30, 68])
    orders = [pipeline.epoch_order(100, 0, epoch, labels) for epoch in range(2)]
    for order in orders:
        assert sorted(np.bincount(labels[order])) == [33, 33, 34]
        assert min(np.bincount(order)[:2]) >= 16  # the two images of class 0, evenly
        assert len(set(order[labels[order] == 2])) >= 33  # no image twice while others remain
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("streamed", [False, True])
def test_validation_images_are_numbered_and_no_pipeline_is_autotuned(streamed):
    arrays = numbered(13)
    for batch_size in (4, 20):
        data = tf.data.Dataset.from_tensor_slices(arrays) if streamed else arrays
        batches = pipeline.validation_batches(data, batch_size)
        assert batches.options().autotune.enabled is False
        index = np.concatenate([batch["index"] for batch in batches])
        assert index.dtype == np.int64 and index.tolist() == list(range(13))
        for batch in batches:
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
            np.testing.assert_array_equal(batch["label"], batch["index"] % 3)
    epochs = make_epochs(arrays, 4, streamed)
    for data in (pipeline.endless(epochs), pipeline.one_epoch_per_iteration(epochs, 3)):
        assert data.options().autotune.enabled is False


def test_a_data_set_that_ends_early_is_an_error():
    data = tf.data.Dataset.from_tensors({"image": np.zeros((2, 2, 1), "uint8")})
    with pytest.raises(ValueError, match="ended after 1 of 3 images"):
        pipeline.read(data, 3)


# With Keras ----------------------------------------------------------------------------------


class ImageLog(keras.Model):
    """Records the images that it is trained on."""

    def __init__(self):
        super().__init__()
        self.images = []

    def train_step(self, batch):
        tf.py_function(
            lambda x: self.images.extend(x.numpy().tolist()), [batch["image"][:, 0, 0, 0]], []
        )
        return {"loss": 0.0}

    def test_step(self, batch):
        return {"loss": 0.0}


def test_fit_gets_the_epochs_in_turn():
    epochs = pipeline.batches_in_memory(numbered(45), 10)
    expected = [order_of(epochs(epoch)) for epoch in range(4)]
    train = pipeline.one_epoch_per_iteration(epochs, 4)
    assert int(train.cardinality()) == 4
    next(iter(train))  # not a complete iteration; Keras does this to build a model
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = ImageLog()
        model.built = True
        model.compile()
    validation = pipeline.validation_batches(numbered(5), 4)
    model.fit(train, validation_data=validation, epochs=2, verbose=0, shuffle=False)
    model.fit(train, epochs=1, verbose=0, shuffle=False)
    assert model.images == [*itertools.chain(*expected[:3])]
    assert order_of(train) == expected[3]


@pytest.mark.parametrize(("num_images", "repeats", "steps"), [(3, 11, 8), (4, 1, 1), (9, 1, 2)])
def test_an_epoch_of_few_images_repeats_them(num_images, repeats, steps):
    data = load_source("digits", limit=num_images, batch_size=4).repeated(None, 4)
    assert (data.repeats, data.steps_per_epoch) == (repeats, steps)
    batches = [list(data.epoch_batches(epoch)) for epoch in range(2)]
    assert {len(batch["image"]) for batch in batches[0]} == {4} and len(batches[0]) == steps
    resumed = next(iter(data.training_batches(1, first_step=steps - 1)))
    np.testing.assert_array_equal(resumed["image"], batches[1][-1]["image"])
    if repeats > 1:
        images = np.concatenate([batch["image"] for batch in batches[0]]).reshape(4 * steps, -1)
        _, counts = np.unique(images, axis=0, return_counts=True)
        assert list(counts) == pytest.approx([32 / 3] * 3, abs=1)


def test_parts_of_epochs_differ():
    epochs = pipeline.batches_in_memory(numbered(45), 10)
    train = pipeline.one_epoch_per_iteration(epochs, 4)
    next(iter(train))  # one batch is no epoch
    for epoch in range(3):
        assert order_of(train.take(2).map(dict)) == order_of(epochs(epoch))[:20]
    shuffled = train.shuffle(4, seed=0)
    assert sorted(order_of(shuffled)) == sorted(order_of(epochs(3)))
    assert sorted(order_of(shuffled)) == sorted(order_of(epochs(4)))
