import dataclasses

import numpy as np
import pytest
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


# tfds ----------------------------------------------------------------------------------------


@needs("mnist")
def test_mnist_keeps_its_official_splits():
    source = sources.tfds("mnist", DATA_DIR)
    assert (source.train_split, source.val_split) == ("train", "test")
    assert (source.num_train, source.num_val) == (60000, 10000)
    assert source.image_shape == (28, 28, 1)
    assert source.class_names == tuple("0123456789")


@needs("mnist")
def test_given_splits():
    source = sources.tfds("mnist", DATA_DIR, "test[:1%]", "train[:50]+test[99%:]")
    assert (source.num_train, source.num_val) == (100, 150)
    images, labels = images_and_labels(source.train)
    assert len(images) == 100
    assert np.array_equal(labels, source.train_labels)


@needs("mnist")
@pytest.mark.parametrize(
    ("train_split", "val_split", "message"),
    [
        ("trian", "test", "'trian' of .* train, test"),
        ("train", "test[:x%]", r"'test\[:x%\]' of .* train, test"),
        ("train", "test[:0]", "no images"),
        ("train", None, "both"),
    ],
)
def test_bad_splits(train_split, val_split, message):
    with pytest.raises(ValueError, match=message) as error:
        sources.tfds("mnist", DATA_DIR, train_split, val_split)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@needs("oxford_flowers102")
def test_flowers_are_split_again_over_all_images():
    source = sources.tfds("oxford_flowers102", DATA_DIR)
    assert source.train_split == "train[:80%]+validation[:80%]+test[:80%]"
    assert source.num_train + source.num_val == 8189
    assert source.num_train == round(0.8 * 1020) * 2 + round(0.8 * 6149)
    assert not source.table.missing("validation")
    hashes = []
    for data, labels in (
        (source.train, source.train_labels),
        (source.validation, source.val_labels),
    ):
        examples = [(e["image"].tobytes(), e["label"]) for e in data.as_numpy_iterator()]
        assert np.array_equal([label for _, label in examples], labels)
        hashes.append({hash(image) for image, _ in examples})
    # Two photos of the 8189 may be the same file.
    assert len(hashes[0] | hashes[1]) > 8180
    assert len(hashes[0] & hashes[1]) < 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "did you mean .*mnist"),
        ("digit", "did you mean .*digits"),
        ("flowers", "did you mean .*flowers102"),
        ("qqqqqq", "the presets are digits, mnist"),
        ("mnist:9.9.9", "9.9.9, only"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        load(name)


def test_data_set_without_images(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
    with pytest.raises(ValueError, match="'imdb_reviews' has no 8 bit image .*text"):
        load("imdb_reviews", data_dir=str(tmp_path))


def test_failed_download_says_what_else_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self):
        raise ConnectionError("\nno route\nto host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    expected = "'cifar100' .*ConnectionError: no route.*--data-dir.*--folder"
    with pytest.raises(FileNotFoundError, match=expected) as error:
        load("cifar100", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)
