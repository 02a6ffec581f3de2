import itertools
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_data import DATA_DIR, class_folder, needs, save_picture
from PIL import Image

from keras_diffusion.data import load, load_source, pipeline, sources

rng = np.random.default_rng(0)


def numbered(num_images, size=4):
    """Images whose pixels say which one it is, so that orders can be read off."""
    numbers = np.arange(num_images)
    images = np.tile(numbers.astype(np.uint8)[:, None, None, None], (1, size, size, 1))
    return {"image": images, "label": numbers % 3}


def order_of(batches):
    return [int(i) for batch in batches for i in batch["image"][:, 0, 0, 0]]


def chained(orders):
    return [*itertools.chain.from_iterable(orders)]


def stream(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


@pytest.mark.parametrize("inside", [False, True], ids=["eager", "tf.data"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 50), (16, 16), (7, 5)])
def test_resize_matches_pillow(inside, size):
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    side = min(size)
    left, top = (size[1] - side) // 2, (size[0] - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(square.resize((16, 16), Image.Resampling.BILINEAR))
    if inside:
        data = tf.data.Dataset.from_generator(
            lambda: [image], output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
        )
        result = next(iter(data.map(lambda x: pipeline.resize(x, 16, 16))))
    else:
        result = pipeline.resize(image, 16, 16)
    assert result.dtype == tf.uint8
    assert np.abs(result.numpy().astype(int) - expected).max() <= 1


def test_resize_leaves_the_right_size_alone_and_keeps_the_range():
    image = rng.integers(0, 256, (9, 12, 4), np.uint8)
    assert np.array_equal(pipeline.resize(image, 9, 12), image)
    checker = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (8, 8))[..., None]
    assert set(np.unique(pipeline.resize(checker, 32, 32))) >= {0, 255}
    assert np.abs(pipeline.resize(checker, 4, 4).numpy().astype(int) - 127.5).max() < 1


def test_images_of_the_right_size_are_not_asked_one_by_one():
    data = tf.data.Dataset.from_tensor_slices(numbered(3))
    assert pipeline.prepared(data, 4, 4, 1) is data
    for shape in ((4, 5, 1), (4, 4, 3)):
        assert pipeline.prepared(data, *shape).element_spec["image"].shape == shape


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((10, 20), (5, 5), (0, 5, 10, 10)),
        ((20, 10), (1, 2), (7, 0, 5, 10)),
        ((7, 7), (64, 64), (0, 0, 7, 7)),
        ((1, 50), (50, 1), (0, 24, 1, 1)),
    ],
)
def test_centre_crop(size, target, box):
    image = rng.integers(0, 256, (*size, 1), np.uint8)
    top, left, height, width = box
    expected = image[top : top + height, left : left + width]
    assert np.array_equal(pipeline.centre_crop(image, *target), expected)


@pytest.mark.parametrize(("have", "want"), [*itertools.product((1, 3, 4), repeat=2)])
def test_convert_channels(have, want):
    image = tf.constant(rng.integers(0, 256, (5, 6, have), np.uint8))
    mode = {1: "L", 3: "RGB", 4: "RGBA"}
    expected = Image.fromarray(image.numpy().squeeze()).convert(mode[want])
    expected = np.asarray(expected).reshape(5, 6, want).astype(int)
    result = pipeline.convert_channels(image, want).numpy()
    assert np.abs(result - expected).max() <= 1  # luma may round otherwise


def test_flip_mirrors_left_to_right_what_it_is_told():
    images = rng.integers(0, 256, (3, 4, 5, 3), np.uint8)
    flipped = pipeline.flip(images, tf.constant([True, False, True])).numpy()
    assert np.array_equal(flipped[0], images[0, :, ::-1])
    assert np.array_equal(flipped[1], images[1])


def test_flips_are_half_and_differ_by_epoch_and_seed():
    flips = {key: pipeline.epoch_flips(10000, *key) for key in ((0, 0), (0, 1), (1, 0))}
    for mask in flips.values():
        assert abs(mask.mean() - 0.5) < 0.02  # 4 standard deviations
    for one, other in itertools.combinations(flips.values(), 2):
        assert abs((one == other).mean() - 0.5) < 0.02
    assert np.array_equal(flips[0, 1], pipeline.epoch_flips(10000, 0, 1))


@pytest.mark.parametrize("streamed", [False, True])
def test_training_flips_follow_the_plan_and_validation_has_none(streamed):
    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 16, 1)
    arrays = {"image": np.repeat(image, 50, axis=0)}
    options = {"batch_size": 20, "horizontal_flip": True, "seed": 3}
    if streamed:
        epochs = pipeline.batches_from_stream(stream(arrays), 50, **options)
    else:
        epochs = pipeline.batches_in_memory(arrays, **options)
    flipped = [x[0, 0, 0] == 15 for batch in epochs(2) for x in batch["image"].numpy()]
    assert np.array_equal(flipped, pipeline.epoch_flips(50, 3, 2)[:40])
    for batch in pipeline.validation_batches(arrays, 20):
        assert np.all(batch["image"][:, 0, 0, 0] == 0)


@pytest.mark.parametrize("streamed", [False, True])
def test_epochs_are_complete_different_and_resumable(streamed):
    arrays = numbered(50)

    def make(seed=0):
        if streamed:
            return pipeline.batches_from_stream(stream(arrays), 50, 10, seed=seed)
        return pipeline.batches_in_memory(arrays, 10, seed=seed)

    orders = [order_of(make()(epoch)) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert order_of(make(seed=1)(0)) != orders[0]
    tf.random.set_seed(0)  # of the user; it is not our seed
    assert order_of(make()(1)) == orders[1]
    assert order_of(pipeline.endless(make()).take(15)) == chained(orders)
    assert order_of(pipeline.endless(make(), first_epoch=1).take(10)) == orders[1] + orders[2]
    batch = next(iter(make()(0)))
    assert np.array_equal(batch["label"], batch["image"][:, 0, 0, 0].numpy() % 3)


@pytest.mark.parametrize("balance", [None, "classes"])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_epoch_goes_on_at_any_step(streamed, balance):
    # 53 images: the last batch of an epoch is left out, and the flips have to stay in step.
    arrays = numbered(53)
    arrays["image"][:, :, 1:] += 100
    options = {"batch_size": 10, "seed": 2, "horizontal_flip": True}
    if streamed and balance:
        pytest.skip("a stream cannot be balanced")
    if streamed:
        epochs = pipeline.batches_from_stream(stream(arrays), 53, **options)
    else:
        epochs = pipeline.batches_in_memory(arrays, balance=balance, **options)

    def seen(batches):
        return [(b["image"].numpy().tolist(), b["label"].numpy().tolist()) for b in batches]

    whole = [seen(epochs(epoch)) for epoch in range(3)]
    assert [len(epoch) for epoch in whole] == [5, 5, 5]
    for step in (0, 1, 4, 5):
        rest = pipeline.endless(epochs, first_epoch=1, first_step=step).take(10 - step)
        assert seen(rest) == whole[1][step:] + whole[2], step


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("batch_size", [4, 7, 20])
def test_validation_images_are_numbered(streamed, batch_size):
    arrays = numbered(13)
    batches = pipeline.validation_batches(stream(arrays) if streamed else arrays, batch_size)
    assert batches.element_spec["index"].dtype == tf.int64
    batches = list(batches)
    index = np.concatenate([batch["index"] for batch in batches])
    np.testing.assert_array_equal(index, range(13))
    for batch in batches:
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
        np.testing.assert_array_equal(batch["label"], batch["index"] % 3)


def test_no_pipeline_has_a_tuner_that_its_end_would_wait_for():
    arrays = numbered(13)
    epochs = pipeline.batches_in_memory(arrays, 4)
    for data in (
        pipeline.validation_batches(arrays, 4),
        pipeline.validation_batches(stream(arrays), 4),
        pipeline.endless(epochs),
        pipeline.one_epoch_per_iteration(epochs, 3),
    ):
        assert data.options().autotune.enabled is False


def test_iterations_count_as_epochs_only_when_complete():
    epochs = pipeline.batches_in_memory(numbered(25), 10)
    train = pipeline.one_epoch_per_iteration(epochs, 2)
    assert int(train.cardinality()) == 2
    next(iter(train))  # what Keras does to build a model
    assert [order_of(train) for _ in range(3)] == [order_of(epochs(e)) for e in range(3)]


class Recorder(keras.Model):
    """Notes the images that it is trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, batch):
        tf.py_function(
            lambda x: self.seen.extend(x.numpy().tolist()), [batch["image"][:, 0, 0, 0]], []
        )
        return {"loss": 0.0}

    def test_step(self, batch):
        return {"loss": 0.0}


@pytest.mark.parametrize("replicas", [None, 1])
def test_fit_gets_the_epochs_in_turn(replicas):
    epochs = pipeline.batches_in_memory(numbered(40), 10)
    expected = [order_of(epochs(epoch)) for epoch in range(4)]
    train = pipeline.one_epoch_per_iteration(epochs, 4)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"]) if replicas else None
    with strategy.scope() if strategy else tf.device(None):
        model = Recorder()
        model.built = True
        model.compile()
    validation = pipeline.validation_batches(numbered(5), 4)
    model.fit(train, validation_data=validation, epochs=2, verbose=0, shuffle=False)
    model.fit(train, epochs=1, verbose=0, shuffle=False)
    assert model.seen == chained(expected[:3])
    model.seen.clear()
    resumed = pipeline.endless(epochs, first_epoch=1)
    model.fit(resumed, epochs=4, initial_epoch=1, steps_per_epoch=4, verbose=0, shuffle=False)
    assert model.seen == chained(expected[1:])


def test_balanced_epochs_show_every_class_equally():
    labels = np.repeat([0, 1, 2], [2, 30, 68])
    orders = [pipeline.epoch_order(100, 0, epoch, labels) for epoch in range(2)]
    for order in orders:
        assert sorted(np.bincount(labels[order])) == [33, 33, 34]
        assert min(np.bincount(order)[:2]) >= 16  # the two images of class 0, evenly
        assert len(set(order[labels[order] == 2])) >= 33  # no repeats while there are others
    assert not np.array_equal(*orders)
    assert np.array_equal(orders[1], pipeline.epoch_order(100, 0, 1, labels))


def test_balance_reaches_the_batches(tmp_path):
    class_folder(tmp_path, [40, 5])
    train, _ = load(folder=tmp_path, balance="classes", batch_size=12)
    counts = np.bincount(np.concatenate([batch["label"] for batch in train]))
    assert counts.sum() == 36
    assert counts.tolist() == [18, 18]


def test_remainders_and_small_data_sets():
    data = load_source("digits", limit=20, batch_size=64)
    assert data.steps_per_epoch == 1
    assert [b["image"].shape for b in data.epoch_batches(0)] == [(20, 8, 8, 1)]
    assert [len(b["label"]) for b in data.validation] == [64] * 5 + [39]
    assert load_source("digits", limit=10**9, batch_size=1438).steps_per_epoch == 1
    labels = np.concatenate([batch["label"] for batch in data.validation])
    assert np.array_equal(labels, data.source.val_labels)


def test_load_shapes_types_and_options():
    train, validation = load("digits", image_size=(12, 10), channels=3, labels=False)
    for data, keys in ((train, {"image"}), (validation, {"image", "index"})):
        batch = next(iter(data))
        assert batch.keys() == keys
        assert (batch["image"].shape[1:], batch["image"].dtype) == ((12, 10, 3), tf.uint8)
    assert train.element_spec["image"].shape == (64, 12, 10, 3)


def test_a_data_set_that_ends_early_leaves_no_memory_unwritten():
    data = tf.data.Dataset.from_tensors({"image": np.zeros((2, 2, 1), "uint8")})
    with pytest.raises(ValueError, match="ended after 1 of 3 images"):
        pipeline.read(data, 3)


def test_big_folders_are_streamed(tmp_path, monkeypatch):
    class_folder(tmp_path, [10, 10])
    expected = load_source(folder=tmp_path, batch_size=4)
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 100)
    data = load_source(folder=tmp_path, batch_size=4)
    for ours, theirs in zip(data.validation, expected.validation, strict=True):
        assert np.array_equal(ours["image"], theirs["image"])

    def pixels(data):
        return sorted(
            x.numpy().tobytes() for batch in data.epoch_batches(1) for x in batch["image"]
        )

    assert pixels(data) == pixels(expected)
    with pytest.raises(ValueError, match="in memory"):
        load(folder=tmp_path, balance="classes")


def test_images_of_several_sizes_need_an_image_size(tmp_path):
    save_picture(tmp_path / "1.png", size=(20, 10))
    save_picture(tmp_path / "2.png", size=(10, 20), seed=1)
    with pytest.raises(ValueError, match="--image-size"):
        load(folder=tmp_path)
    train, _ = load(folder=tmp_path, image_size=8)
    assert next(iter(train))["image"].shape == (1, 8, 8, 3)


@needs("oxford_flowers102")
def test_flowers_batches(monkeypatch):
    # 2% of the images, cut as the whole is, to be quick.
    monkeypatch.setattr(sources.splits, "default_splits", lambda *_: ("test[:1%]", "test[99%:]"))
    data = load_source("oxford_flowers102", data_dir=DATA_DIR, batch_size=16, seed=1)
    assert data.image_shape == (64, 64, 3)
    assert data.source.num_classes == 102
    batch = next(iter(data.training_batches()))
    order = pipeline.epoch_order(data.source.num_train, 1, 0)[:16]
    flips = pipeline.epoch_flips(data.source.num_train, 1, 0)[:16]
    stored = np.stack([e["image"] for e in data.source.train.as_numpy_iterator()])[order]
    assert np.array_equal(batch["image"], pipeline.flip(stored, flips))
    assert np.array_equal(batch["label"], data.source.train_labels[order])


def test_the_pipeline_outruns_any_training():
    images = np.zeros((20000, 28, 28, 1), np.uint8)
    epochs = pipeline.batches_in_memory({"image": images}, 64, horizontal_flip=True)
    start = time.perf_counter()
    steps = sum(1 for _ in epochs(0))
    assert steps * 64 / (time.perf_counter() - start) > 5000  # images per second; 50000 usual


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"image_size": (8, -1)}, "image_size must be at least 1"),
        ({"image_size": (8, 8, 3)}, "image_size must be"),
        ({"image_size": 7.5}, "image_size must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"channels": 2}, "channels must be 1, 3 or 4"),
        ({"balance": "class"}, "unknown balance 'class'; choose 'classes'"),
        ({"balance": "classes", "labels": False}, "needs labels"),
        ({"train_split": "train[:1%]"}, "tfds"),
        ({"folder": "here"}, "either"),
    ],
)
def test_wrong_arguments_get_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        load("digits", **options)
    assert "\n" not in str(error.value)


def test_neither_name_nor_folder():
    with pytest.raises(ValueError, match="either"):
        load()
