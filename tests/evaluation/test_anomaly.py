"""Anomalies in folders of images: areas under the curve, baselines, and what is written."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest
from fixtures_anomaly import GaussianModel, digits, with_strokes
from PIL import Image
from sklearn.metrics import roc_auc_score

from keras_diffusion.evaluation import anomaly

DIGITS = digits()
LABELS = np.arange(200) % 2 == 1


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """reference/ (60 digits) and test/ with normal/ (30) and marked/ (30, with strokes)."""
    monkeypatch.chdir(tmp_path)
    marked, _ = with_strokes(DIGITS[100:130])
    for name, images in (
        ("reference", DIGITS[:60]),
        ("test/normal", DIGITS[60:90]),
        ("test/marked", marked),
    ):
        (tmp_path / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(tmp_path / name / f"{number}.png")
    return tmp_path


def settings(folders, **options):
    return anomaly.Settings(**{
        "folders": [folders / "test"], "reference": folders / "reference",
        "out": folders / "out", "options": {"num_draws": 2}, **options,
    })  # fmt: skip


def test_scores_maps_and_areas_are_written(folders):
    model = GaussianModel(DIGITS[:60])
    record = anomaly.run(model, settings(folders, contrasts=("raw", "normalised")))
    out = folders / "out"
    assert json.loads((out / "scores.json").read_text())["cells"] == record["cells"]
    assert record["normal"] == "normal" and record["images"] == {"marked": 30, "normal": 30}
    [own, *_] = [cell for cell in record["cells"] if cell["score"] == "model, gaussian"]
    assert own["low"] <= own["auroc"] <= own["high"] and own["auroc"] > 0.55
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert len(rows) == 60 and {row["class"] for row in rows} == {"normal", "marked"}
    scores = np.array([float(row["model, gaussian, raw"]) for row in rows])
    abnormal = np.array([row["class"] == "marked" for row in rows])
    assert roc_auc_score(abnormal, scores) == pytest.approx(own["auroc"])
    assert len(list(out.glob("maps/test/*/*.png"))) == 60
    with Image.open(out / "anomaly.png") as page:
        assert page.width > 500
    assert (out / "scores.md").read_text().count("nearest neighbour") == 2


def test_without_a_normal_class_there_are_scores_alone(folders):
    (folders / "test" / "normal").rename(folders / "test" / "other")
    record = anomaly.run(GaussianModel(DIGITS[:60]), settings(folders))
    assert record["normal"] is None and record["cells"] == []
    assert (folders / "out" / "scores.csv").exists()
    assert not (folders / "out" / "scores.md").exists()


def test_odd_names_and_files_that_are_not_used(folders, capsys):
    test = folders / "test"
    for name in ("0.jpg", "0.png.jpg", os.fsdecode(b"caf\xe9.png")):
        Image.fromarray(DIGITS[0][..., 0]).save(test / "normal" / name)
    (test / "normal" / "text.png").write_text("hello")
    anomaly.run(GaussianModel(DIGITS[:60]), settings(folders))
    assert len(list((folders / "out").glob("maps/test/*/*.png"))) == 63
    assert "normal/caf\\udce9.png" in (folders / "out/scores.csv").read_text("utf-8")
    assert "not used: 1 files" in capsys.readouterr().out


def test_an_unknown_normal_class_is_rejected(folders):
    with pytest.raises(ValueError, match="^--normal: .*marked, normal"):
        anomaly.run(GaussianModel(DIGITS[:60]), settings(folders, normal="good"))
    with pytest.raises(ValueError, match="^--normal: .*only one class"):
        only = dataclasses.replace(
            settings(folders, normal="normal"), folders=[folders / "test/normal"]
        )
        anomaly.run(GaussianModel(DIGITS[:60]), only)
    assert not (folders / "out").exists()


def test_a_reference_without_images_is_named(folders):
    (folders / "empty").mkdir()
    with pytest.raises(ValueError, match="^--reference: .*empty"):
        anomaly.run(
            GaussianModel(DIGITS[:60]),
            dataclasses.replace(settings(folders), reference=folders / "empty"),
        )


def test_area_and_interval():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=200) + LABELS
    area = anomaly.auroc(LABELS, scores)
    assert area["auroc"] == pytest.approx(roc_auc_score(LABELS, scores))
    width = area["high"] - area["low"]  # Hanley & McNeil 1982: a standard error of 0.031
    assert width == pytest.approx(4 * 0.031, rel=0.2)
    assert anomaly.auroc(LABELS, LABELS) == {"auroc": 1.0, "low": 1.0, "high": 1.0}
    gap = anomaly.auroc(LABELS, scores, others=generator.normal(size=200))
    assert gap["low"] > 0 and gap["auroc"] < area["auroc"]


def test_baselines_find_what_they_measure():
    normal = np.random.default_rng(0).uniform(0.4, 0.6, (300, 6, 6, 1)).astype("float32")
    images = normal[100:].copy()
    images[LABELS] = 0.5 + (images[LABELS] - 0.5) / 2
    scores = anomaly.baselines(normal[:100], images, LABELS)
    areas = {name: roc_auc_score(LABELS, values) for name, values in scores.items()}
    assert areas["contrast"] > 0.99 and areas["sharpness"] > 0.99  # in spite of the sign
    assert areas["nearest neighbour"] < 0.5 and areas["brightness"] < 0.65
    normalised = anomaly.normalise_contrast(images, normal)
    np.testing.assert_allclose(normalised.mean((1, 2, 3)), normal.mean(), atol=1e-3)
    np.testing.assert_allclose(normalised.std((1, 2, 3)), normal.std((1, 2, 3)).mean(), rtol=0.02)
