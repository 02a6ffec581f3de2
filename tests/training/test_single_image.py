"""Runs on one picture and their study, at toy size."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fixtures_exports import one_sampler
from PIL import Image

import train
from keras_diffusion import build
from keras_diffusion.config import resolve as configuration
from keras_diffusion.saving import checkpoints
from keras_diffusion.training.callbacks import SampleGrid, TrainingStopped
from studies import command, runs
from studies.kept import key
from studies.one_image import IDENTIFIABLE, measure, report, settings


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a toy run of the study, stopped after its first epoch and run again."""
    folder, arguments = tmp_path_factory.mktemp("study"), ["--tiny", "--seed", "3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(
                SampleGrid, "on_epoch_end", lambda *_: signal.raise_signal(signal.SIGINT)
            )
            assert command.main("one_image", arguments) == 128 + signal.SIGINT
        with contextlib.redirect_stdout(io.StringIO()) as told, one_sampler():
            assert command.main("one_image", arguments) == 0
    (folder / "told.txt").write_text(told.getvalue())
    return folder


@pytest.fixture
def run_dir(study):
    [path] = study.rglob("training-1-run")
    return path


def test_a_run_leaves_what_it_says(run_dir):
    names = ("forward", "backward", "reconstruction", "variations", "other_size", "quality", "loss")
    for name in names:
        with Image.open(run_dir / f"{name}.png") as picture:
            assert picture.size[0] > 200, name
    with Image.open(run_dir / "other_size.png") as picture:
        assert picture.size[0] > 1.2 * picture.size[1] / 2  # two pictures of 32x72 in a column
    with open(run_dir / "reconstruction.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["t"] for row in rows] == [0.3, 0.5, 0.7, 0.9]
    noised = [row["noised_psnr"] for row in rows]
    assert noised == sorted(noised, reverse=True) and 5 < noised[-1] < noised[0] < 20
    assert all(0 < row["reconstructed_ssim"] < 1 for row in rows)
    arrays = np.load(run_dir / "pictures.npz")
    shapes = {name: arrays[name].shape[:-3] for name in arrays}
    assert shapes == {
        "picture": (), "forward": (6, 1), "backward": (6, 6), "noised": (4,),
        "reconstructed": (4,), "variations": (4, 4), "wide": (2,),
    }  # fmt: skip
    assert arrays["wide"].shape == (2, 32, 72, 3)
    np.testing.assert_array_equal(arrays["forward"][0, 0], arrays["picture"])


def test_history_has_the_quality_of_each_epoch(run_dir):
    with open(run_dir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    minutes = [float(row["minutes"]) for row in rows]
    assert 0 < minutes[0] < minutes[1]
    assert all(5 < float(row["psnr"]) < 20 and 0 < float(row["ssim"]) < 1 for row in rows)
    with open(run_dir / "reconstruction.csv", newline="") as file:
        [at_half] = [row for row in csv.DictReader(file) if row["t"] == "0.5"]
    # The last weights again: what is measured in training is what is drawn in the end.
    assert float(rows[-1]["psnr"]) == pytest.approx(float(at_half["reconstructed_psnr"]), abs=0.2)


def test_a_stopped_training_goes_on(study):
    told = (study / "told.txt").read_text()
    assert "resuming" in told and " 1 epochs and " in told


def test_the_export_draws_whole_pictures(run_dir):
    model = tf.saved_model.load(str(run_dir / "export"))
    drawn = model.generate_dpmpp_2m(tf.constant(0), tf.range(2), tf.constant(2))
    assert drawn.shape == (2, 32, 48, 3)
    config = json.loads((run_dir / "export/assets.extra/config.json").read_text())
    assert config["image_shape"] == [32, 48, 3]


def test_a_training_that_fails_is_one_line(monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise TrainingStopped("the loss is nan.")

    monkeypatch.setattr(runs.training, "run", fail)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command.main("one_image", ["--tiny"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("the training has failed: the loss is nan.")


def test_another_picture_of_the_same_name_is_kept_elsewhere(tmp_path):
    def made(image):
        return settings(SimpleNamespace(image=image, seed=0, tiny=True, epochs=None, minutes=None))

    path = tmp_path / "photo.png"
    keys = []
    for grey in (100, 100, 200):
        Image.fromarray(np.full((20, 20, 3), grey, "uint8")).save(path)
        keys.append(key(made(str(path))))
    assert keys[0] == keys[1] != keys[2]
    assert "sha256" not in dataclasses.asdict(made(None))  # what is bundled stays what it is


def test_the_best_blur_is_among_those_that_are_tried():
    ramp = np.linspace(90, 160, 64).astype("uint8")
    wide = np.broadcast_to(ramp[None, :, None], (48, 64, 3))
    sigmas = [row["sigma"] for row in measure.blurred(wide, seed=0)]
    assert sigmas == sorted(sigmas) and 12 < sigmas[-1] < 64


def test_a_run_is_resumed_with_its_picture(run_dir, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--resume", str(run_dir), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "16 random crops of 16x16 from one picture of 32x48" in printed
    config = configuration.resumed(run_dir, {})
    assert (config.image, config.crop_size, config.image_size) == ("flower", (16, 16), (32, 48))


def test_the_same_weights_at_another_size(run_dir):
    _, model, _ = checkpoints.load(run_dir / "checkpoints")
    config = configuration.resumed(run_dir, {})
    whole = build.resized(model, config, (32, 48, 3))
    for one, other in zip(model.ema_network.weights, whole.ema_network.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.image_shape == (32, 48, 3)
    with pytest.raises(ValueError, match="needs multiples of 2"):
        build.resized(model, config, (32, 47, 3))


def test_image_flags(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((300, 200, 3), "uint8")).save("my photo.bmp")
    for arguments, name, size in (
        (["--image"], "flower", "128x192"),
        (["--dataset", "one_image"], "flower", "128x192"),
        (["--image", "china", "--image-size", "96"], "china", "64x96"),
        (["--image", "my photo.bmp", "--crop-size", "32x48"], "my-photo", "192x128"),
    ):
        assert train.main([*arguments, "--dry-run"]) == 0
        printed = capsys.readouterr().out
        assert f"runs/{name}-" in printed
        assert f"from one picture of {size}" in printed


def test_epochs_come_before_the_minutes_of_a_preset():
    assert configuration.resolve("one_image").minutes > 0
    config = configuration.resolve("one_image", {"epochs": 7})
    assert (config.minutes, config.epochs) == (None, 7)
    assert configuration.resolve("one_image", {"minutes": 2.0}).minutes == 2


def test_crops_need_a_picture():
    size = {"crop_size": (8, 8)}
    assert configuration.resolve("one_image", size).crop_size == (8, 8)
    with pytest.raises(ValueError, match="--crop-size: has no effect without --image"):
        configuration.resolve("digits", size)


# The study ------------------------------------------------------------------------------------


def test_the_study_writes_its_page(study):
    [page] = study.rglob("results/README.md")
    text = page.read_text()
    assert "toy run" in text and "16x16" in text
    for name in ("reconstruction", "quality", "forward", "backward", "variations", "wide"):
        assert f"({name}.png)" in text
        assert (page.parent / f"{name}.png").stat().st_size <= 300_000
    results = json.loads((page.parent / "results.json").read_text())["results"]
    assert [row["t"] for row in results["blur"]] == [0.3, 0.5, 0.7, 0.9]
    sigmas = [row["sigma"] for row in results["blur"]]
    assert sigmas == sorted(sigmas)  # more noise, more blur
    assert results["trainings"][0]["crops"] == 2 * 16
    assert all(math.isfinite(value) for value in results["trainings"][0]["from_noise"])


def training(psnr, from_noise=(12.0, 14.0), minutes=3.0):
    """Results of a training whose reconstruction has these PSNRs: halfway and at the end."""
    curve = [
        {"minutes": minutes * share, "psnr": value, "ssim": value / 30}
        for share, value in zip((0.5, 1.0), psnr, strict=True)
    ]
    row = {"t": 0.5, "noised_psnr": 10.0, "noised_ssim": 0.1}
    row.update(reconstructed_psnr=psnr[-1], reconstructed_ssim=psnr[-1] / 30)
    found = {"curve": curve, "table": [row], "from_noise": list(from_noise), "crops": 1000}
    return {**found, "size": [32, 48], "crop_size": [16, 16]}


BLUR = [{"t": 0.5, "sigma": 3.0, "psnr": 22.0, "ssim": 0.5}]
GOOD = [training((20.0, 24.5)), training((23.0, 26.0), minutes=10.0)]


@pytest.mark.parametrize(
    ("trainings", "verdicts"),
    [
        (GOOD, [True, True, True, True, True]),
        ([training((20.0, 21.0)), GOOD[1]], [False, True, True, True, True]),
        ([GOOD[0], training((20.0, 23.0), minutes=10.0)], [True, True, False, True, True]),
        ([GOOD[0], training((20.0, 21.5), minutes=10.0)], [True, True, False, False, True]),
        ([training((20.0, 23.0), (12.0, 25.0))], [False, False, None, True, False]),
        ([training((20.0, 30.0), minutes=100.0)], [None, None, None, True, True]),
    ],
)
def test_claims_are_decided_by_what_was_measured(trainings, verdicts):
    claims = report.claims({"trainings": trainings, "blur": BLUR})
    assert [claim.holds for claim in claims] == verdicts
    assert all(claim.measured for claim in claims)
    text = "\n".join(report.report({"trainings": trainings, "blur": BLUR}))
    assert f"{trainings[-1]['table'][0]['reconstructed_psnr']:.1f} dB" in text


def test_a_goal_that_is_reached_late_is_told():
    late = [training((20.0, 21.0)), training((23.0, IDENTIFIABLE + 1), minutes=10.0)]
    [identifiable, *_] = report.claims({"trainings": late, "blur": BLUR})
    assert identifiable.holds is False
    assert identifiable.measured == "21 after 3.0 minutes; reached after 10.0"
