"""Feature extractors, the classifier among them, and the reference set."""

import dataclasses
import hashlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_diffusion.evaluation import classifier, extractors, references
from keras_diffusion.evaluation.classifier import TINY, Settings
from keras_diffusion.evaluation.extractors import Extractor
from keras_diffusion.evaluation.real_images import RealImages


def random_images(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 60, (count, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return images.astype("uint8"), labels


@pytest.fixture
def arrays():
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dict(zip(names, (*random_images(300), *random_images(200, seed=1)), strict=True))


def of_source(arrays, name="pets"):
    return RealImages(SimpleNamespace(name=name), arrays, flip=False)


def rows(images):
    """Features without a network: means of rows."""
    return images.mean(axis=(2, 3)).astype("float32"), None


ROWS = Extractor("rows", rows, "none", "abc", batch=64)

# The classifier -----------------------------------------------------------------------------


def test_settings_of_known_data_sets_are_those_of_their_cached_classifiers():
    assert classifier.settings_for((28, 28, 1), 60_000) == Settings(widths=(16, 32, 64), epochs=4)
    flowers = Settings(widths=(32, 64, 96, 128), epochs=40, stem=2, flip=True, shift=6, light=0.2,
                       dropout=0.2, batch_size=64)  # fmt: skip
    assert classifier.settings_for((64, 64, 3), 6_551, flip=True) == flowers
    for shape in ((8, 8, 1), (16, 40, 4), (256, 256, 3)):
        settings = classifier.settings_for(shape, 1000)
        sides = [side / settings.stem / 2 ** (len(settings.widths) - 1) for side in shape[:2]]
        assert 2 <= min(sides) < 8 and settings.epochs == 40


def test_names_in_the_cache(arrays):
    images = np.arange(48, dtype="uint8").reshape(3, 4, 4, 1)
    data = {"train_images": images, "train_labels": np.arange(3)}
    data.update(test_images=images[:1], test_labels=np.arange(1))
    settings = classifier.settings_for((28, 28, 1), 60_000)
    assert classifier._key(settings, data) == "fee85f5c74c0", "of earlier versions, too"
    keys = {classifier._key(settings, arrays)}
    keys.add(classifier._key(dataclasses.replace(settings, seed=1), arrays))
    arrays["train_images"][0, 0, 0, 0] ^= 1
    assert len(keys | {classifier._key(settings, arrays)}) == 3
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    hashes = {extractors.weights_hash(network, [75]), extractors.weights_hash(network, [76])}
    network.layers[0].kernel.assign_add(np.full((2, 2), 1e-3))
    assert len(hashes | {extractors.weights_hash(network, [75])}) == 3


def test_augmentation(arrays):
    settings = Settings(widths=(8,), epochs=1, flip=True, shift=6, light=0.2)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    before = images.copy()
    first, second = (
        classifier.augmented(images, np.random.default_rng(0), settings) for _ in range(2)
    )
    assert first.shape == images.shape and first.dtype == "uint8" and (first != images).mean() > 0.5
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(images, before)


def test_a_shift_moves_the_whole_image_and_repeats_its_edge():
    image = np.arange(16, dtype="uint8").reshape(1, 4, 4, 1)
    shifted = {
        classifier._shifted(image, np.random.default_rng(seed), 1).tobytes() for seed in range(99)
    }
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    windows = [padded[:, top : top + 4, left : left + 4] for top in range(3) for left in range(3)]
    assert shifted == {window.tobytes() for window in windows}


# Extractors ---------------------------------------------------------------------------------


def network_of(size, channels=3, outputs=1):
    images = keras.Input((size, size, channels))
    means = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, means if outputs == 1 else [means] * outputs)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 6, 3), (5, 5, 4)])
def test_images_are_converted_to_the_input_of_a_network(shape):
    model = extractors.feature_model(network_of(4), shape, lambda x: x / 100)
    images = np.full((2, *shape), 50, "uint8")
    alpha = 51 if shape[-1] == 4 else 255
    images[..., 3:] = alpha
    over_white = (50 * alpha + 255 * (255 - alpha)) / 255
    features = model.predict_on_batch(images)
    np.testing.assert_allclose(features, np.full((2, 3), over_white / 100), rtol=1e-6)
    grey = extractors.feature_model(network_of(4, channels=1), shape)
    assert grey.predict_on_batch(images) == pytest.approx(over_white, rel=1e-3)


def test_an_extractor_from_a_file(tmp_path):
    network_of(4).save(tmp_path / "means.keras")
    extractor = extractors.from_file(tmp_path / "means.keras", (8, 8, 1))
    images, _ = random_images(5)
    features, probabilities = extractor.extract(images)
    assert features.shape == (5, 3) and probabilities is None
    assert features[:, 0] == pytest.approx(images.mean(axis=(1, 2, 3)), rel=0.1)
    digest = hashlib.sha256((tmp_path / "means.keras").read_bytes()).hexdigest()[:12]
    resize = "4x4, bilinear, antialiased"
    assert extractor.facts == {"name": "means.keras", "resize": resize, "hash": digest}
    assert not extractor.is_keras_io


def test_a_file_that_is_no_extractor_is_rejected_in_one_line(tmp_path):
    network_of(4, outputs=2).save(tmp_path / "two.keras")
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    for name in ("two", "broken"):
        with pytest.raises(ValueError, match=f"{name}.keras cannot be used") as error:
            extractors.from_file(tmp_path / f"{name}.keras", (8, 8, 1))
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_inception_of_tiny_images_one_by_one_as_in_a_batch():
    keras.utils.set_random_seed(0)
    extractor = extractors.inception((8, 8, 1), weights=None)
    images, _ = random_images(3)
    together, _ = extractor.extract(images)
    assert together.shape == (3, 2048) and together.std() > 0
    alone, _ = extractor.extract(images[1:2])
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-3, atol=1e-5)
    assert extractor.is_keras_io and extractor.facts["resize"] == "75x75, bilinear, antialiased"


def test_inception_without_a_network_connection(monkeypatch):
    network = network_of(75)

    def inception(**options):
        if options["weights"] == "imagenet":
            raise Exception("URL fetch failure on https://...: None\n -- no network")
        assert options["input_shape"] == (75, 75, 3)
        return network

    monkeypatch.setattr(keras.applications, "InceptionV3", inception)
    with pytest.raises(OSError, match="URL fetch failure.*--extractor classifier") as error:
        extractors.inception((8, 8, 1), size=96)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="74 pixels"):
        extractors.inception((8, 8, 1), size=74)
    extractor = extractors.inception((8, 8, 1), weights=None)
    assert extractor.is_keras_io and extractor.extract(random_images(3)[0])[0].shape == (3, 3)


# The reference set --------------------------------------------------------------------------


def test_features_are_cached_by_images_and_extractor(tmp_path, arrays):
    images, done = arrays["train_images"], []
    features = references.cached_features(ROWS, images, tmp_path, done.append)
    assert done == [64, 128, 192, 256, 300]
    np.testing.assert_array_equal(features, rows(images)[0])
    cached = dataclasses.replace(ROWS, extract=None)
    np.testing.assert_array_equal(references.cached_features(cached, images, tmp_path), features)
    images[0, 0, 0, 0] ^= 1
    for other in (cached, dataclasses.replace(cached, digest="abd")):
        with pytest.raises(TypeError):
            references.cached_features(other, images, tmp_path)
        images[0, 0, 0, 0] ^= 1


def test_the_baseline_is_the_score_of_held_out_images(arrays):
    features = [rows(arrays[f"{split}_images"])[0] for split in ("train", "test")]
    reference = references.Reference(ROWS, *features, held_out_accuracy=0.9)
    half, whole = reference.baseline(100), reference.baseline(9999)
    assert half["num_images"] == 100 and half["fid_std"] > 0 and half["accuracy"] == 0.9
    assert whole["num_images"] == 200 and "fid_std" not in whole
    alone = reference.score(features[1])
    for name in ("fid", "precision", "recall"):
        assert whole[name] == pytest.approx(alone[name], rel=1e-6)
    assert whole["fid"] < half["fid"]


def test_a_classifier_is_trained_once(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr(classifier, "settings_for", lambda *_: TINY)
    lines = []
    reference, again = (
        references.prepare("classifier", of_source(arrays), tmp_path, log=lines.append)
        for _ in range(2)
    )
    assert sum("epoch" in line for line in lines) == 1
    assert reference.train.shape == (300, 16) and reference.held_out.shape == (200, 16)
    np.testing.assert_array_equal(again.train, reference.train)
    assert again.extractor.digest == reference.extractor.digest
    features, probabilities = reference.extract(arrays["test_images"])
    assert features.dtype == probabilities.dtype == "float32" and probabilities.shape == (200, 3)
    np.testing.assert_allclose(features, reference.held_out, rtol=1e-4, atol=1e-5)
    scores = reference.score(features, probabilities, arrays["test_labels"])
    assert scores["accuracy"] == pytest.approx(reference.held_out_accuracy)
    assert scores["fid"] == pytest.approx(reference.baseline(200)["fid"], rel=1e-3)


def test_images_without_labels_need_another_extractor(tmp_path, arrays):
    network_of(4).save(tmp_path / "means.keras")
    images = {name: arrays[name] for name in ("train_images", "test_images")}
    with pytest.raises(ValueError, match="learns from labels, and pets has none; choose inception"):
        references.prepare("classifier", of_source(images), tmp_path)
    path = tmp_path / "means.keras"
    reference = references.prepare(path, of_source(images), tmp_path, log=lambda line: None)
    assert reference.classifier is None and reference.train.shape == (300, 3)
    few = {**images, "test_images": images["test_images"][:19]}
    with pytest.raises(ValueError, match="a split of 19 images; 20 are needed"):
        references.prepare(path, of_source(few), tmp_path)
