"""evaluation/: scores, extractors, the real pictures, copies and tables."""

import csv
import dataclasses
import hashlib

import keras
import numpy as np
import pytest

from keras_diffusion.evaluation import (
    classifier,
    extractors,
    memorisation,
    reference,
    scores,
    tables,
)  # fmt: skip
from keras_diffusion.evaluation.distances import Gaussian, frechet_distance
from keras_diffusion.evaluation.extractors import Extractor


def made_up(count, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    images = rng.integers(0, 60, (count, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return images.astype("uint8"), labels


@pytest.fixture
def real():
    train, test = made_up(300, seed=0), made_up(200, seed=1)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dict(zip(names, (*train, *test), strict=True))


def flat(images):
    """An extractor's `look` that needs no network: means of rows."""
    return images.mean(axis=(2, 3)).astype("float32"), None


ROWS = Extractor("rows", flat, "none", "abc", batch=64)

# Scores -------------------------------------------------------------------------------------


def test_the_floor_is_of_disjoint_subsets_while_they_last():
    held_out = np.arange(400)[:, None]
    subsets = scores.floor(held_out, 100, 5, lambda features: set(features[:, 0]))
    assert [len(each) for each in subsets] == [100] * 5
    assert len(set.union(*subsets[:4])) == 400 and subsets[4] not in subsets[:4]
    assert scores.floor(held_out, 100, 5, lambda features: set(features[:, 0])) == subsets
    with pytest.raises(ValueError, match="fewer than 401"):
        scores.floor(held_out, 401, 1, len)


def test_the_floor_of_the_distance_is_lower_for_more_pictures():
    held_out = np.random.default_rng(0).normal(size=(400, 8))
    gaussian = Gaussian.of(np.random.default_rng(1).normal(size=(20_000, 8)))
    found = scores.distance_floor(held_out, gaussian, 100)
    assert found["min"] < found["mean"] < found["max"] and found["std"] > 0
    whole = scores.distance_floor(held_out, gaussian, 1000)
    assert whole["size"] == 400  # no more than there are
    assert whole["min"] == pytest.approx(whole["max"]) and whole["mean"] < found["mean"]


def test_compare_takes_as_many_real_pictures_as_there_are_drawn_ones():
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(1000, 8)), rng.normal(size=(100, 8))
    found = scores.compare(drawn, real)
    assert found["num_images"] == 100
    assert found["fid"] == pytest.approx(frechet_distance(real, drawn))
    assert abs(found["kid"]) < 4 * found["kid_error"]
    assert found["precision"] > 0.7 and found["recall"] > 0.7
    assert scores.compare(drawn, real, Gaussian.of(real)) == found


# The classifier -----------------------------------------------------------------------------


def test_the_extractor_is_trained_once_and_looks_in_float32(tmp_path, real):
    said = []
    eyes = classifier.prepared("mnist", real, tmp_path, tiny=True, tell=said.append)
    assert len(said) == 1
    again = classifier.prepared("mnist", real, tmp_path, tiny=True, tell=said.append)
    assert len(said) == 1
    features, probabilities = classifier.look(eyes.model, real["test_images"])
    assert features.dtype == probabilities.dtype == "float32"
    assert features.shape == (200, classifier.TINY["widths"][-1]) and probabilities.shape == (
        200,
        3,
    )
    for first, second in zip(
        (features, probabilities), classifier.look(again.model, real["test_images"]), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(features, eyes.held_out, rtol=1e-4, atol=1e-5)
    train_features, _ = classifier.look(eyes.model, real["train_images"])
    assert frechet_distance(eyes.reference, train_features) < 1e-4


def test_other_pictures_or_settings_make_another_extractor(real):
    settings = classifier.SETTINGS["mnist"]
    names = {classifier._key(settings, real)}
    names.add(classifier._key(dataclasses.replace(settings, seed=1), real))
    real["train_images"][0, 0, 0, 0] ^= 1
    names.add(classifier._key(settings, real))
    assert len(names) == 3


def test_augmentation_keeps_the_kind_of_pictures_and_the_original():
    settings = classifier.SETTINGS["flowers"]
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    before = images.copy()
    first, second = (
        classifier.augmented(images, np.random.default_rng(seed), settings) for seed in (0, 0)
    )
    assert first.shape == images.shape and first.dtype == "uint8"
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(images, before)
    assert (first != images).mean() > 0.5


def test_a_shift_moves_the_whole_picture_and_repeats_its_edge():
    image = np.arange(16, dtype="uint8").reshape(1, 4, 4, 1)
    found = {
        classifier._shifted(image, np.random.default_rng(seed), 1).tobytes() for seed in range(99)
    }
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    wanted = {
        padded[:, top : top + 4, left : left + 4].tobytes() for top in range(3) for left in range(3)
    }
    assert found == wanted


# Extractors ---------------------------------------------------------------------------------


def test_settings_of_known_data_sets_are_those_that_were_trained():
    for_mnist = classifier.settings_for((28, 28, 1), 60_000)
    for_flowers = classifier.settings_for((64, 64, 3), 6_551, flip=True)
    assert for_mnist == classifier.SETTINGS["mnist"]
    assert for_flowers == classifier.SETTINGS["flowers"]
    for shape in ((8, 8, 1), (16, 40, 4), (256, 256, 3)):
        settings = classifier.settings_for(shape, 1000)
        sides = [side / settings.stem / 2 ** (len(settings.widths) - 1) for side in shape[:2]]
        assert 2 <= min(sides) < 8 and settings.epochs == 40


def test_trained_classifiers_keep_their_names():
    images = np.arange(48, dtype="uint8").reshape(3, 4, 4, 1)
    data = {"train_images": images, "train_labels": np.arange(3)}
    data.update(test_images=images[:1], test_labels=np.arange(1))
    data = {name: v if v.dtype == "uint8" else v.astype("int64") for name, v in data.items()}
    assert classifier._key(classifier.SETTINGS["mnist"], data) == "fee85f5c74c0"


def network_of(size, channels=3, outputs=1):
    images = keras.Input((size, size, channels))
    means = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, means if outputs == 1 else [means] * outputs)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 6, 3), (5, 5, 4)])
def test_pictures_become_what_a_network_takes(shape):
    model = extractors.looking(network_of(4), shape, lambda x: x / 100)
    images = np.full((2, *shape), 50, "uint8")
    images[..., 3:] = 7  # alpha is left out
    np.testing.assert_allclose(model.predict_on_batch(images), 0.5 * np.ones((2, 3)), rtol=1e-6)
    gray = extractors.looking(network_of(4, channels=1), shape)
    assert gray.predict_on_batch(images) == pytest.approx(50, rel=1e-3)


def test_an_extractor_from_a_file(tmp_path):
    network_of(4).save(tmp_path / "means.keras")
    found = extractors.from_file(tmp_path / "means.keras", (8, 8, 1))
    images, _ = made_up(5)
    features, probabilities = found.look(images)
    assert features.shape == (5, 3) and probabilities is None
    assert features[:, 0] == pytest.approx(images.mean(axis=(1, 2, 3)), rel=0.1)
    digest = hashlib.sha256((tmp_path / "means.keras").read_bytes()).hexdigest()[:12]
    resize = "4x4, bilinear, antialiased"
    assert found.facts == {"name": "means.keras", "resize": resize, "hash": digest}
    assert not found.is_keras_io


def test_a_file_that_is_no_extractor_is_refused_in_one_line(tmp_path):
    network_of(4, outputs=2).save(tmp_path / "two.keras")
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    for name in ("two", "broken"):
        with pytest.raises(ValueError, match=f"{name}.keras cannot be used") as error:
            extractors.from_file(tmp_path / f"{name}.keras", (8, 8, 1))
        assert "\n" not in str(error.value)


def test_inception_looks_at_tiny_pictures_one_by_one_as_in_a_batch():
    keras.utils.set_random_seed(0)
    found = extractors.inception((8, 8, 1), weights=None)
    images, _ = made_up(3)
    together, _ = found.look(images)
    assert together.shape == (3, 2048) and together.std() > 0
    alone, _ = found.look(images[1:2])
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-3, atol=1e-5)
    assert found.is_keras_io and found.facts["resize"] == "75x75, bilinear, antialiased"


def test_weights_that_cannot_be_downloaded_point_to_the_classifier(monkeypatch):
    def fails(**options):
        assert options["weights"] == "imagenet" and options["input_shape"] == (96, 96, 3)
        raise Exception("URL fetch failure on https://...: None\n -- no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", fails)
    with pytest.raises(OSError, match="URL fetch failure.*--extractor classifier") as error:
        extractors.inception((8, 8, 1), size=96)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="74 pixels"):
        extractors.inception((8, 8, 1), size=74)


def test_other_weights_or_settings_have_another_hash():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    names = {extractors.digest(network, [75]), extractors.digest(network, [76])}
    network.layers[0].kernel.assign_add(np.full((2, 2), 1e-3))
    assert len(names | {extractors.digest(network, [75])}) == 3


# Real pictures ------------------------------------------------------------------------------


def test_features_are_made_once_for_each_picture_and_extractor(tmp_path, real):
    images, done = real["train_images"], []
    features = reference.features(ROWS, images, tmp_path, done.append)
    assert done == [64, 128, 192, 256, 300]
    np.testing.assert_array_equal(features, flat(images)[0])
    kept = dataclasses.replace(ROWS, look=None)
    np.testing.assert_array_equal(reference.features(kept, images, tmp_path), features)
    images[0, 0, 0, 0] ^= 1
    for other in (kept, dataclasses.replace(kept, digest="abd")):
        with pytest.raises(TypeError):
            reference.features(other, images, tmp_path)
        images[0, 0, 0, 0] ^= 1


def test_the_floor_is_what_held_out_pictures_score(real):
    features = [flat(real[f"{part}_images"])[0] for part in ("train", "test")]
    judge = reference.Reference(ROWS, *features, held_out_accuracy=0.9)
    half, whole = judge.floor(100), judge.floor(9999)
    assert half["num_images"] == 100 and half["fid_std"] > 0 and half["accuracy"] == 0.9
    assert whole["num_images"] == 200 and "fid_std" not in whole
    alone = judge.score(features[1])
    for name in ("fid", "precision", "recall"):
        assert whole[name] == pytest.approx(alone[name], rel=1e-6)
    assert whole["fid"] < half["fid"]


def test_a_judge_is_prepared_once(tmp_path, real, monkeypatch):
    monkeypatch.setattr(classifier, "settings_for", lambda *_: TINY)
    said = []
    names = {"data_name": "made up", "tell": said.append}
    judge = reference.prepare("classifier", real, tmp_path, **names)
    assert judge.train.shape == (300, 16) and judge.held_out.shape == (200, 16)
    assert 0 <= judge.held_out_accuracy <= 1
    trained = sum("epoch" in line for line in said)
    again = reference.prepare("classifier", real, tmp_path, **names)
    assert sum("epoch" in line for line in said) == trained == 1
    np.testing.assert_array_equal(again.train, judge.train)
    assert again.extractor.digest == judge.extractor.digest
    features, probabilities = judge.look(real["test_images"])
    found = judge.score(features, probabilities, real["test_labels"])
    assert found["accuracy"] == pytest.approx(judge.held_out_accuracy)
    assert found["fid"] == pytest.approx(judge.floor(200)["fid"], rel=1e-3)


TINY = dataclasses.replace(classifier.SETTINGS["mnist"], **classifier.TINY)


def test_pictures_without_labels_need_another_extractor(tmp_path, real):
    network_of(4).save(tmp_path / "means.keras")
    images = {name: real[name] for name in ("train_images", "test_images")}
    with pytest.raises(ValueError, match="learns from labels, and pets has none; choose inception"):
        reference.prepare("classifier", images, tmp_path, data_name="pets")
    path = tmp_path / "means.keras"
    judge = reference.prepare(path, images, tmp_path, data_name="pets", tell=lambda line: None)
    assert judge.classifier is None and judge.train.shape == (300, 3)
    few = {"train_images": images["train_images"], "test_images": images["test_images"][:19]}
    with pytest.raises(ValueError, match="a split of 19 pictures; 20 are needed"):
        reference.prepare(path, few, tmp_path, data_name="pets")


# Copies -------------------------------------------------------------------------------------


def test_copies_are_found_mirrored_ones_too(monkeypatch):
    training = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype="uint8")
    drawn = np.concatenate([training[[7, 30]], training[[12]][:, :, ::-1]])
    plain = memorisation.nearest(drawn, training)
    assert plain.indices[:2].tolist() == [7, 30] and plain.distances[:2].tolist() == [0, 0]
    assert plain.distances[2] > 10
    found = memorisation.nearest_or_mirrored(drawn, training)
    assert found.indices.tolist() == [7, 30, 12] and not found.distances.any()
    assert found.mirrored.tolist() == [False, False, True]
    np.testing.assert_array_equal(found.matches(training), drawn)
    monkeypatch.setattr(memorisation, "BLOCK", 6 * 6 * 3 * 8)
    np.testing.assert_array_equal(memorisation.nearest(drawn, training).indices, plain.indices)


def test_distances_are_root_mean_squares():
    training = np.zeros((2, 4, 4, 1), "uint8")
    training[1] = 255
    found = memorisation.nearest(np.full((1, 4, 4, 1), 200, "uint8"), training)
    assert found.indices[0] == 1 and found.distances[0] == pytest.approx(55)


def test_copies_are_told_from_new_pictures():
    distances = np.sort(np.random.default_rng(0).gamma(9, size=1000))
    held_out, new = distances[::2], distances[1::2]
    fair = memorisation.compare(new, held_out)
    assert fair["closer"] == pytest.approx(0.5, abs=3 * fair["closer_error"])
    assert fair["suspicious"] < 0.03
    assert "as far from" in memorisation.in_words("pixels", fair)
    copied = memorisation.compare(np.where(np.arange(500) % 2, 0, new), held_out)
    assert copied["closer"] == pytest.approx(0.75, abs=0.05)
    assert copied["suspicious"] == pytest.approx(0.5, abs=0.02)
    assert "closer to training" in memorisation.in_words("pixels", copied)
    assert memorisation.compare(held_out + 99, held_out)["closer"] == 0


# Tables -------------------------------------------------------------------------------------

RECORD = {
    "cells": [
        {"sampler": "ddim", "num_steps": 5, "network_calls": 5, "num_images": 100, "fid": 12.345,
         "kid": 0.0123, "kid_error": 0.004},
        {"sampler": "heun", "num_steps": 5, "network_calls": 10, "num_images": 100, "fid": 3.0,
         "kid": 0.001, "kid_error": 0.004},
    ],
    "floor": {"num_images": 100, "fid": 0.5, "kid": 0.0, "kid_error": 0.003, "precision": 0.9},
    "data": {"name": "pets", "reference_split": "train[:80%]"},
    "extractor": {"name": "inception", "resize": "75x75, bilinear", "hash": "abc"},
}  # fmt: skip


def test_tables_have_the_floor_beside_every_score(tmp_path):
    headings, rows = tables.rows(RECORD)
    assert headings == ["sampler", "steps", "network calls", "n", "FID", "KID"]
    assert rows[0] == ["ddim", "5", "5", "100", "12.35", "0.0123 ± 0.004"]
    assert rows[-1] == ["real, held out", "", "", "100", "0.5", "0 ± 0.003"]
    assert len({len(line) for line in tables.aligned(headings, rows).splitlines()}) == 1
    lines = tables.markdown(headings, rows).splitlines()
    assert len(lines) == 5 and all(line.count("|") == 7 for line in lines)
    tables.write_csv(RECORD, tmp_path / "scores.csv")
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert len(lines) == 3 and "floor_fid" in lines[0]
    with open(tmp_path / "scores.csv", newline="") as file:
        row = next(csv.DictReader(file))
    found = [row[name] for name in ("data_name", "data_reference_split", "extractor_resize")]
    assert found == ["pets", "train[:80%]", "75x75, bilinear"]
    assert "extractor name: inception" in tables.in_words(RECORD)
