"""`load` and `load_source`: from the name of a data set, a folder or an image to batches."""

import numpy as np
import pytest
import tensorflow as tf
from fixtures_data import DATA_DIR, class_folder, needs, save_image
from PIL import Image

from keras_diffusion.data import load, load_source, pipeline, sources


def test_load_shapes_types_and_options():
    train, validation = load("digits", image_size=(12, 10), channels=3, labels=False)
    for data, keys in ((train, {"image"}), (validation, {"image", "index"})):
        batch = next(iter(data))
        assert batch.keys() == keys
        assert (batch["image"].shape, batch["image"].dtype) == ((64, 12, 10, 3), tf.uint8)
    with pytest.raises(TypeError, match="wings"):
        load("digits", wings=2)


def test_remainders_and_small_data_sets():
    data = load_source("digits", limit=20, batch_size=64)
    assert data.steps_per_epoch == 1
    assert [b["image"].shape for b in data.epoch_batches(0)] == [(20, 8, 8, 1)]
    assert [len(b["label"]) for b in data.validation] == [64] * 5 + [39]
    labels = np.concatenate([batch["label"] for batch in data.validation])
    assert np.array_equal(labels, data.source.val_labels)


def test_balance_reaches_the_batches(tmp_path):
    class_folder(tmp_path, [40, 5])
    train, _ = load(folder=tmp_path, balance="classes", batch_size=12)
    counts = np.bincount(np.concatenate([batch["label"] for batch in train]))
    assert counts.tolist() == [18, 18]


def test_large_folders_are_streamed(tmp_path, monkeypatch):
    class_folder(tmp_path, [10, 10])
    expected = load_source(folder=tmp_path, batch_size=4)
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 100)
    data = load_source(folder=tmp_path, batch_size=4)
    for one, other in zip(data.validation, expected.validation, strict=True):
        assert np.array_equal(one["image"], other["image"])
    one, other = (
        sorted(x.numpy().tobytes() for batch in each.epoch_batches(1) for x in batch["image"])
        for each in (data, expected)
    )
    assert one == other
    with pytest.raises(ValueError, match="in memory"):
        load(folder=tmp_path, balance="classes")


def test_images_of_several_sizes_need_an_image_size(tmp_path):
    save_image(tmp_path / "1.png", size=(20, 10))
    save_image(tmp_path / "2.png", size=(10, 20), seed=1)
    with pytest.raises(ValueError, match="--image-size"):
        load(folder=tmp_path)
    train, _ = load(folder=tmp_path, image_size=np.int64(8))
    assert next(iter(train))["image"].shape == (1, 8, 8, 3)


@needs("oxford_flowers102")
def test_batches_of_flowers(monkeypatch):
    # 1% of the images, split like the whole data set
    monkeypatch.setattr(sources.splits, "default_splits", lambda *_: ("test[:1%]", "test[99%:]"))
    data = load_source("oxford_flowers102", data_dir=DATA_DIR, batch_size=16, seed=1)
    assert (data.image_shape, data.source.num_classes) == ((64, 64, 3), 102)
    batch = next(iter(data.training_batches()))
    order = pipeline.epoch_order(data.source.num_train, 1, 0)[:16]
    flips = pipeline.epoch_flips(data.source.num_train, 1, 0)[:16]
    stored = np.stack([e["image"] for e in data.source.train.as_numpy_iterator()])[order]
    assert data.horizontal_flip and np.array_equal(batch["image"], pipeline.flip(stored, flips))
    assert np.array_equal(batch["label"], data.source.train_labels[order])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1"),
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
        ({"name": None}, "either"),
        ({"crop_size": 8}, "crop_size is for a single image"),
        ({"name": None, "image": "flower", "crop_size": 0}, "crop_size must be at least 1"),
        ({"name": None, "image": "flower", "balance": "classes"}, "'flower' has none"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "digits", **options})


def notes(data):
    return [line for line in data.summary.splitlines() if line.startswith("note: ")]


def test_the_summary_names_what_degrades_images(tmp_path):
    for i in range(20):
        Image.new("RGB", (300, 20), (i * 12,) * 3).save(tmp_path / f"{i}.png")
    grey = load_source(folder=tmp_path, image_size=10)
    for text in ("100% of the images are grey", "93% of each image", "only 16 training images"):
        assert any(text in note for note in notes(grey)), text
    assert not any(
        "grey" in x for x in notes(load_source(folder=tmp_path, image_size=10, channels=1))
    )
    Image.new("RGBA", (300, 20)).save(tmp_path / "logo.png")
    [note] = (x for x in notes(load_source(folder=tmp_path, image_size=10)) if "logo.png" in x)
    assert "--channels 3" in note
    for path in tmp_path.iterdir():
        Image.new("I;16", (8, 8), 4095).save(path)
    assert any("nearly black" in note for note in notes(load_source(folder=tmp_path)))


def test_transparent_images_are_over_white_without_alpha(tmp_path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 1] = 255  # hidden green
    pixels[16:45, 16:45] = (200, 200, 200, 255)
    for i in range(4):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    for channels in (None, 3, 1):
        train, _ = load(folder=tmp_path, image_size=10, channels=channels)
        image = next(iter(train))["image"].numpy()[0].astype(int)
        if channels is None:
            image, alpha = image[..., :3], image[..., 3]
            assert ((alpha > 0) & (alpha < 255)).any()
            assert np.ptp(image[alpha > 0]) <= 1
        assert np.ptp(image, axis=-1).max() == 0 and image[0, 0, 0] == 255
