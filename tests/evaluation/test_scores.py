"""Scores, distances to training images, and tables of both, without any network."""

import csv

import numpy as np
import pytest

from keras_diffusion.evaluation import memorisation, scores, tables
from keras_diffusion.evaluation.distances import Gaussian, frechet_distance


def test_the_baseline_is_of_disjoint_subsets_while_they_last():
    held_out = np.arange(400)[:, None]
    subsets = scores.baseline(held_out, 100, 5, lambda features: set(features[:, 0]))
    assert [len(each) for each in subsets] == [100] * 5
    assert len(set.union(*subsets[:4])) == 400 and subsets[4] not in subsets[:4]
    assert scores.baseline(held_out, 100, 5, lambda features: set(features[:, 0])) == subsets
    with pytest.raises(ValueError, match="fewer than 401"):
        scores.random_subsets(400, 401, 1)


def test_the_baseline_of_the_distance_is_lower_for_more_images():
    held_out = np.random.default_rng(0).normal(size=(400, 8))
    gaussian = Gaussian.of(np.random.default_rng(1).normal(size=(20_000, 8)))
    part = scores.distance_baseline(held_out, gaussian, 100)
    assert part["min"] < part["mean"] < part["max"] and part["std"] > 0
    whole = scores.distance_baseline(held_out, gaussian, 1000)
    assert whole["size"] == 400  # no more than there are
    assert whole["min"] == pytest.approx(whole["max"]) and whole["mean"] < part["mean"]


def test_compare_uses_as_many_real_images_as_there_are_generated_ones():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(1000, 8)), rng.normal(size=(100, 8))
    values = scores.compare(generated, real)
    assert values["num_images"] == 100
    assert values["fid"] == pytest.approx(frechet_distance(real, generated))
    assert abs(values["kid"]) < 4 * values["kid_error"]
    assert values["precision"] > 0.7 and values["recall"] > 0.7
    assert scores.compare(generated, real, Gaussian.of(real)) == values


def test_scores_of_a_classifier():
    probabilities = [[0.95, 0.05], [0.2, 0.8], [0.6, 0.4], [1, 0]]
    assert scores.accuracy(probabilities, [0, 0, 0, 1]) == 0.5
    assert scores.confidence(probabilities) == {"sure": 0.5, "mean": pytest.approx(0.8375)}
    shares = scores.class_shares(probabilities)
    assert shares.tolist() == [0.75, 0.25] and scores.share_distance(shares, [0.5, 0.5]) == 0.25


# Copies -------------------------------------------------------------------------------------


def test_copies_are_found_mirrored_ones_too(monkeypatch):
    training = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype="uint8")
    generated = np.concatenate([training[[7, 30]], training[[12]][:, :, ::-1]])
    plain = memorisation.nearest(generated, training)
    assert plain.indices[:2].tolist() == [7, 30] and plain.distances[:2].tolist() == [0, 0]
    assert plain.distances[2] > 10
    nearest = memorisation.nearest_or_mirrored(generated, training)
    assert nearest.indices.tolist() == [7, 30, 12] and not nearest.distances.any()
    assert nearest.mirrored.tolist() == [False, False, True]
    np.testing.assert_array_equal(nearest.matches(training), generated)
    monkeypatch.setattr(memorisation, "BLOCK", 6 * 6 * 3 * 8)
    again = memorisation.nearest(generated, training)
    np.testing.assert_array_equal(again.indices, plain.indices)


def test_distances_are_root_mean_squares():
    training = np.zeros((2, 4, 4, 1), "uint8")
    training[1] = 255
    nearest = memorisation.nearest(np.full((1, 4, 4, 1), 200, "uint8"), training)
    assert nearest.indices[0] == 1 and nearest.distances[0] == pytest.approx(55)


def test_copies_are_distinguished_from_new_images():
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
    far = memorisation.compare(held_out + 99, held_out)
    assert far["closer"] == 0 and "further from" in memorisation.in_words("pixels", far)


# Tables -------------------------------------------------------------------------------------

RECORD = {
    "cells": [
        {"sampler": "ddim", "num_steps": 5, "num_images": 100, "fid": 12.345, "kid": 0.0123,
         "kid_error": 0.004},
        {"sampler": "heun", "num_steps": 5, "num_images": 100, "fid": 3.0, "kid": 0.001,
         "kid_error": 0.004},
    ],
    "baseline": {"num_images": 100, "fid": 0.5, "kid": 0.0, "kid_error": 0.003, "precision": 0.9},
    "data": {"name": "pets", "reference_split": "train[:80%]"},
    "extractor": {"name": "inception", "resize": "75x75, bilinear", "hash": "abc"},
}  # fmt: skip


def test_tables_have_the_baseline_beside_every_score(tmp_path):
    lines = [line.split(" | ") for line in tables.table(RECORD, markdown=True).splitlines()]
    cells = [[cell.strip("| ") for cell in line] for line in lines]
    assert cells[0] == ["sampler", "steps", "n", "FID", "KID"]
    assert cells[2] == ["ddim", "5", "100", "12.35", "0.0123 ± 0.004"]
    assert cells[-1] == ["real, held out", "", "100", "0.5", "0 ± 0.003"]
    assert len({len(line) for line in tables.table(RECORD).splitlines()}) == 1
    tables.write_csv(RECORD, tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        first, _ = csv.DictReader(file)
    names = ("data_name", "data_reference_split", "extractor_resize", "baseline_fid")
    assert [first[name] for name in names] == ["pets", "train[:80%]", "75x75, bilinear", "0.5"]
    assert "extractor name: inception" in tables.facts_line(RECORD)
