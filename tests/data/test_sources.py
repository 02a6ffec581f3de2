import dataclasses

import numpy as np
import pytest
import tensorflow_datasets
from fixtures_data import DATA_DIR, needs

from keras_diffusion.data import load, sources


def images_and_labels(dataset):
    examples = list(dataset.as_numpy_iterator())
    return [e["image"] for e in examples], [e["label"] for e in examples]


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    source = sources.digits()
    images, labels = images_and_labels(source.train.concatenate(source.validation))
    assert (source.num_train, source.num_val, source.num_classes) == (1438, 359, 10)
    assert np.array_equal(np.concatenate(source.known_labels), labels)
    reference = load_digits()
    expected = {(np.round(i * 255 / 16).astype(np.uint8).tobytes(), t)
                for i, t in zip(reference.images, reference.target, strict=True)}  # fmt: skip
    assert {(i.tobytes(), t) for i, t in zip(images, labels, strict=True)} == expected


def test_withheld_labels_are_rejected():
    withheld = np.zeros(4, np.int64), np.full(2, -1)
    source = dataclasses.replace(sources.digits(), labels=lambda: withheld, val_split="secret")
    with pytest.raises(ValueError, match="split 'secret' of 'digits' withholds its labels"):
        _ = source.known_labels
    assert source.unlabelled().labels is None


@needs("mnist")
def test_official_and_given_splits():
    source = sources.tfds("mnist", DATA_DIR)
    assert (source.train_split, source.val_split) == ("train", "test")
    assert (source.num_train, source.num_val) == (60000, 10000)
    assert (source.image_shape, source.class_names) == ((28, 28, 1), tuple("0123456789"))
    source = sources.tfds("mnist", DATA_DIR, "test[:1%]", "train[:50]+test[99%:]")
    assert (source.num_train, source.num_val) == (100, 150)
    images, labels = images_and_labels(source.train)
    assert len(images) == 100 and np.array_equal(labels, source.train_labels)
    for train_split, val_split, message in (
        ("trian", "test", "'trian' of .* train, test"),
        ("train", "test[:x%]", r"'test\[:x%\]' of .* train, test"),
        ("train", "test[:0]", "no images"),
        ("train", None, "both"),
    ):
        with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
            sources.tfds("mnist", DATA_DIR, train_split, val_split)


@pytest.mark.slow
@needs("oxford_flowers102")
def test_flowers_are_split_again_over_all_images():
    source = sources.tfds("oxford_flowers102", DATA_DIR)
    assert source.num_train == round(0.8 * 1020) * 2 + round(0.8 * 6149)
    assert source.num_train + source.num_val == 8189 and not source.table.missing("validation")
    hashes = []
    for data, labels in zip((source.train, source.validation), source.known_labels, strict=True):
        images, read = images_and_labels(data)
        assert np.array_equal(labels, read)
        hashes.append({image.tobytes() for image in images})
    # Two photos of the 8189 may be the same file.
    assert len(hashes[0] | hashes[1]) > 8180 and len(hashes[0] & hashes[1]) < 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "did you mean .*mnist"),
        ("flowers", "did you mean .*flowers102"),
        ("qqqqqq", "the presets are digits, mnist"),
        ("mnist:9.9.9", "9.9.9, only"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        load(name)


def test_a_data_set_without_images_and_a_failed_download(tmp_path, monkeypatch):
    def fail(self):
        raise ConnectionError("\nno route\nto host")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", fail)
    expected = "^[^\n]*'cifar100' .*ConnectionError: no route.*--data-dir.*--folder[^\n]*$"
    with pytest.raises(FileNotFoundError, match=expected):
        load("cifar100", data_dir=str(tmp_path))
    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "is_prepared", lambda self: True)
    with pytest.raises(ValueError, match="'imdb_reviews' has no 8 bit image .*text"):
        load("imdb_reviews", data_dir=str(tmp_path))
