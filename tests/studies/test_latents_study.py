"""The study of latents beside pixels, at toy size."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_diffusion.evaluation import classifier
from keras_diffusion.training import run
from studies import command, runs
from studies import latents as study
from studies.kept import Kept
from studies.latents import draw, measure, report


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(folder of the page, `Kept`) of a toy run, whose trainings leave no pictures and exports."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(classifier, "settings_for", lambda *_: classifier.TINY)
        patch.setattr(run, "_finish", lambda *_: None)
        assert command.main("latents", ["--tiny", "--seed", "3"]) == 0
    [settings] = (folder / "runs/studies/latents-tiny").glob("[0-9a-f]*")
    return settings.parent / "results", Kept(settings)


@pytest.fixture
def results(ran):
    return json.loads((ran[0] / "results.json").read_text())["results"]


def test_the_page_shows_every_figure(ran):
    folder, _ = ran
    text = (folder / "README.md").read_text()
    for name in ("losses", "guidance", "classes", "scales", "reconstructions"):
        assert f"({name}.png)" in text
        assert 0 < (folder / f"{name}.png").stat().st_size <= 300_000
    assert "| latents | 3 |" in text and "real, held out" in text and "toy run" in text


def test_both_are_trained_and_scored_alike(ran, results):
    _, kept = ran
    for kind in study.KINDS:
        found = results[kind]
        assert found["images"] == 2 * 64 and len(found["curve"]) == 2
        assert [row["guidance_scale"] for row in found["scores"]] == [1, 3]
        assert {row["num_images"] for row in found["scores"]} == {40}
        drawn = kept.array(f"{kind}-scores", measure.PICTURES)
        assert drawn.shape == (2, 10, measure.SHOWN, 8, 8, 1) and drawn.dtype == np.uint8
    assert results["pixels"]["codec"] is None and results["latents"]["codec"]["epochs"] == 1
    assert results["latents"]["minutes"] > results["latents"]["codec"]["minutes"] > 0


def test_a_training_that_was_stopped_goes_on(ran, results, monkeypatch, capsys):
    _, kept = ran
    monkeypatch.setattr(run, "_finish", lambda *_: None)
    config = measure.config_of("latents", study.Settings(**{**study.TINY, "seed": 3}))
    again = measure.train(config, runs.folder("latents", kept))
    assert "resuming" in capsys.readouterr().out
    assert again == {name: results["latents"][name] for name in again}


def test_every_class_is_shown_with_the_same_noise():
    def draw(sampler, indices, *, seed, num_steps, labels, guidance):
        return np.stack([indices, labels], axis=-1)[:, None, None]

    model = SimpleNamespace(num_classes=3, defaults={"sampler": "ddim", "num_steps": 2}, draw=draw)
    found = measure._of_each_class(model, {}, seed=0)
    expected = np.indices((3, measure.SHOWN))
    np.testing.assert_array_equal(found[..., 0, 0, 0], expected[1])
    np.testing.assert_array_equal(found[..., 0, 0, 1], expected[0])


def test_the_accuracy_is_that_of_the_classes(results):
    for row in results["latents"]["scores"]:
        shares = [share for share in row["by_class"] if share is not None]
        assert min(shares) <= row["accuracy"] <= max(shares)


def test_both_trainings_get_the_same_minutes():
    given = {"tiny": False, "dataset": None, "pictures": 500, "epochs": None, "minutes": 10.0}
    settings = study.settings(SimpleNamespace(**given, seed=1))
    configs = [measure.config_of(kind, settings, "there") for kind in study.KINDS]
    assert [config.latent for config in configs] == [False, True]
    for config in configs:
        assert (config.dataset, config.data_dir) == ("cifar10", "there")
        assert (config.minutes, config.seed) == (10, 1)
    assert settings.pictures == 500


def scores(accuracies, fids):
    """Rows of scores of ten classes, at the scales 1, 3, ..."""
    return [
        {"guidance_scale": 2.0 * i + 1, "num_images": 1000, "accuracy": accuracy, "fid": fid,
         "kid": fid / 100, "kid_error": 0.01, "precision": 0.5, "recall": 0.5,
         "by_class": [accuracy] * 6 + [0.1] * 4, "seconds_per_image": 0.1}
        for i, (accuracy, fid) in enumerate(zip(accuracies, fids, strict=True))
    ]  # fmt: skip


def made_up():
    """Results for which everything holds."""
    pixels = {
        "images": 50_000, "minutes": 60.0, "codec": None, "class_names": [],
        "curve": [{"loss": 1 / i, "val_loss": 2 / i} for i in range(1, 8)],
        "scores": scores((0.4, 0.7), (9.0, 8.0)), "classifier": 0.9, "sampler": "ddim",
        "floor": {**scores((0.9,), (1.0,))[0], "fid_std": 0.2}, "num_steps": 20,
    }  # fmt: skip
    latents = copy.deepcopy(pixels)
    latents.update(images=200_000, codec={"psnr": 26.0, "ssim": 0.9, "minutes": 5.0, "epochs": 4})
    latents["scores"] = scores((0.5, 0.8), (8.0, 5.0))
    for row in latents["scores"]:
        row["seconds_per_image"] = 0.02
    return {"pixels": pixels, "latents": latents}


def guided(kind, **values):
    """A change to the scores of the larger guidance scale."""
    return lambda found: found[kind]["scores"][1].update(values)


@pytest.mark.parametrize(
    ("change", "number", "verdict"),
    [
        (lambda found: None, 0, True),
        (lambda found: found["latents"]["codec"].update(psnr=23.9), 0, False),
        (lambda found: found["pixels"]["curve"][3].update(val_loss=0.9), 1, False),
        (lambda found: found["pixels"]["curve"][6].update(val_loss=0.9), 1, True),  # later
        (lambda found: found["latents"].update(curve=found["latents"]["curve"][:3]), 2, None),
        (guided("pixels", accuracy=0.3), 3, False),
        (guided("latents", accuracy=0.51), 4, None),
        (guided("pixels", by_class=[0.9] * 5 + [0.1] * 5), 5, False),
        (guided("latents", by_class=[0.9, None, 0.1, 0.9]), 6, True),
        (lambda found: found["latents"].update(images=40_000), 7, False),
        (guided("latents", seconds_per_image=0.2), 8, False),
        (guided("latents", fid=7.8), 9, None),
        (guided("latents", kid=0.081), 9, None),
        (lambda found: found["latents"].update(scores=scores((0.5, 0.8), (20.0, 12.0))), 9, False),
    ],
)  # fmt: skip
def test_verdicts_follow_the_figures(change, number, verdict):
    found = made_up()
    assert all(claim.holds for claim in report.claims(found))
    change(found)
    claims = report.claims(found)
    assert claims[number].holds is verdict
    assert all(claim.measured for claim in claims)


def test_the_autoencoder_is_no_part_of_the_pace():
    found = made_up()
    assert report.images_per_minute(found["latents"]) == 200_000 / 55
    assert "| latents | 60.0 | 5.0 | 200,000 | 3,640 | 16.5 |" in "\n".join(report.report(found))


def test_figures_without_what_was_drawn(tmp_path):
    draw.draw(made_up(), Kept(tmp_path / "a" / "b"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"losses.png", "guidance.png"}
