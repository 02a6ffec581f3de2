"""Runs on latents: stage one, interrupted and resumed, then the diffusion model."""

import csv
import json
import re
import shlex
import signal
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from fixtures_exports import one_sampler
from fixtures_input import contents, rejection
from PIL import Image

from keras_diffusion.cli import train
from keras_diffusion.config.resolve import resolve
from keras_diffusion.evaluation import classifier, real_images
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.signals import Interrupted
from keras_diffusion.saving import checkpoints, loading
from keras_diffusion.training import autoencoder_stage
from keras_diffusion.training import run as training
from keras_diffusion.training.run import Run

TINY = (
    "--dataset digits --limit 64 --batch-size 32 --precision float32 --latent --epochs 1 "
    "--set codec_widths=(8,) --set latent_channels=2 --set codec_epochs=2 --network cnn "
    "--set widths=(8,) --set embedding_width=8 --set num_steps=2 --checkpoint-minutes 0"
)
TERMINATED = 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was terminated after the first epoch of stage one, and then resumed."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plot = autoencoder_stage.plot_reconstructions

        def terminate(*arguments):
            plot(*arguments)
            signal.raise_signal(signal.SIGTERM)

        patch.setattr(autoencoder_stage, "plot_reconstructions", terminate)
        assert train.main([*shlex.split(TINY), "--run-dir", "runs/tiny"]) == TERMINATED
        assert not (folder / "runs/tiny/codec/autoencoder.keras").exists()
        assert not (folder / "runs/tiny/checkpoints").exists()
        patch.setattr(autoencoder_stage, "plot_reconstructions", plot)
        with one_sampler():
            assert train.main(["--resume"]) == 0
    return folder


def assert_equal_weights(one, other, **tolerance):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, **{"rtol": 0, **tolerance})


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_both_stages(folder):
    run = folder / "runs/tiny"
    history = rows(run / "codec/history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    best = min(history, key=lambda row: float(row["val_loss"]))
    quality = json.loads((run / "codec/quality.json").read_text())
    assert quality["psnr"] == pytest.approx(float(best["val_psnr"])) and quality["minutes"] > 0
    with Image.open(run / "codec/reconstructions.png") as image:
        assert image.width > 400
    for file, epochs in (("config.json", 1), ("codec/config.json", 2)):
        assert json.loads((run / file).read_text())["config"]["epochs"] == epochs
    assert float(rows(run / "history.csv")[-1]["val_loss"]) > 0
    assert not list(folder.rglob(".part-*"))


def test_the_model_and_the_export_have_the_trained_codec(folder):
    _, model, _ = checkpoints.load(folder / "runs/tiny/checkpoints")
    autoencoder = keras.models.load_model(folder / "runs/tiny/codec/autoencoder.keras")
    for name in ("encoder", "decoder"):
        assert_equal_weights(getattr(autoencoder, name), getattr(model.codec, name))
    exported = json.loads((folder / "saved_models/tiny/assets.extra/config.json").read_text())
    assert exported["codec"] == json.loads(json.dumps(model.codec.describe()))
    assert exported["image_shape"] == [8, 8, 1] and exported["codec"]["x_shape"] == [4, 4, 2]
    loaded = [loading.load(folder / path) for path in ("runs/tiny", "saved_models/tiny")]
    options = {"seed": 5, "num_steps": 2, "labels": [0, 1], "guidance_scale": 2.0}
    one, other = (each.generate(2, **options).astype(int) for each in loaded)
    assert one.shape == (2, 8, 8, 1) and np.abs(one - other).max() <= 2


def test_its_autoencoder_can_be_used_again(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    again = re.sub(r"--set (codec_widths|codec_epochs|latent_channels)=\S+ ", "", TINY)
    for path in ("runs/tiny", "runs/tiny/codec/autoencoder.keras"):
        assert train.main([*shlex.split(again), "--codec", path, "--dry-run"]) == 0
        assert "latents 4x4x2" in capsys.readouterr().out
    (folder / "runs/other").mkdir()
    (folder / "runs/other/config.json").write_text('{"config": {"codec": "runs/tiny"}}')
    before = contents(folder)
    newest = checkpoints.list_checkpoints("runs/tiny/checkpoints")[-1]
    for options, flag in (
        (f"--codec {newest}", "--codec: .*contains a DiffusionModel"),
        ("--codec runs/tiny --channels 3", "--codec: .*images of 8x8x1; these are 8x8x3"),
        ("--codec runs/tiny --network unet", "--image-size: .* multiples of 16"),
        ("--codec runs/tiny/config.json", "--codec: .*config.json"),
        ("--codec runs/other", "--codec: .*runs/tiny"),
    ):
        deep = again.replace("--network cnn --set widths=(8,)", "--set widths=(8,8,8,8)")
        [*_, line] = rejection(train.main, shlex.split(f"{deep} {options}"), capsys)
        assert re.search(f"error: {flag}", line), line
    assert contents(folder) == before


# Stage one alone -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return training.build.load_data(resolve("digits", {"limit": 64, "batch_size": 32}))


def run_of(folder, data, **options):
    config = resolve("digits", {"limit": 64, "batch_size": 32, "latent": True, **options})
    votes = distribution.Votes(distribution.make_strategy("single"))
    return Run(config, data, folder, votes)


def test_a_stage_that_was_left_on_its_plateau_is_not_trained_on(data, monkeypatch, tmp_path):
    monkeypatch.setattr(autoencoder_stage, "PATIENCE", 0)  # one epoch is a plateau
    options = {"codec_widths": (4,), "latent_channels": 2, "codec_epochs": 9}
    run = run_of(tmp_path, data, checkpoint_minutes=0.0, **options)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop = signal.raise_signal
        patch.setattr(autoencoder_stage, "plot_reconstructions", lambda *_: stop(signal.SIGTERM))
        autoencoder_stage.make_codec(run)
    assert not (tmp_path / "codec/quality.json").exists()
    plotted = []
    monkeypatch.setattr(
        autoencoder_stage, "plot_reconstructions", lambda model, *_: plotted.append(model)
    )
    autoencoder_stage.make_codec(run)
    assert [row["epoch"] for row in rows(tmp_path / "codec/history.csv")] == ["1"]
    kept = keras.models.load_model(tmp_path / "codec/autoencoder.keras")
    assert_equal_weights(plotted[-1], kept)
    (tmp_path / "codec/autoencoder.keras").write_bytes(b"torn off")
    with pytest.raises(ValueError, match="codec/autoencoder.keras cannot be loaded"):
        autoencoder_stage.make_codec(run)


def test_the_best_autoencoder_is_kept(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for batches in (4, 6):
        (tmp_path / f"checkpoints/step-{batches:08d}.keras").write_text(str(batches))
    history = [{"val_loss": loss, "val_psnr": 30 - loss, "val_ssim": 0.9} for loss in (2, 1, 3)]
    best = {"val_loss": 1, "batches": 4}
    progress = checkpoints.Progress(epoch=3, history=history, best=best)
    assert autoencoder_stage._keep_best(progress, tmp_path)["psnr"] == 29
    assert (tmp_path / "autoencoder.keras").read_text() == "4"
    autoencoder_stage._keep_best(checkpoints.Progress(epoch=1, history=[{"loss": 1}]), tmp_path)
    assert (tmp_path / "autoencoder.keras").read_text() == "6"  # there was no validation


def test_the_stages_share_the_minutes(data, tmp_path):
    run = run_of(tmp_path, data, minutes=10.0)
    assert autoencoder_stage._first_stage(run).config.minutes == pytest.approx(3)
    assert autoencoder_stage.second_stage(run).config.minutes == 10
    (tmp_path / "codec").mkdir()
    for spent, left in ((2.5, 7.5), (11.0, 1.0)):
        (tmp_path / "codec/quality.json").write_text(json.dumps({"minutes": spent}))
        minutes = autoencoder_stage.second_stage(run).config.minutes
        assert minutes == pytest.approx(left)


def test_encoding_counts_as_training(data, tmp_path, monkeypatch, capsys):
    run, progress = run_of(tmp_path, data), checkpoints.Progress(seconds=5.0)
    codec = SimpleNamespace(encode=lambda images: images, x_shape=(4, 4, 2))
    monkeypatch.setattr(
        autoencoder_stage.latents, "encoded", lambda *_, **__: time.sleep(0.05) or "latents"
    )
    assert autoencoder_stage.encode(run, codec, progress).data == "latents"
    assert progress.seconds >= 5.05
    monkeypatch.setattr(autoencoder_stage.latents, "encoded", lambda *_, **__: None)
    assert autoencoder_stage.encode(run, codec, progress) is run


@pytest.mark.slow
def test_a_run_without_an_interruption_ends_the_same_and_has_scores(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_finish", lambda *_: None)  # figures and export
    monkeypatch.setattr(classifier, "settings_for", lambda *_: classifier.TINY)
    scored = f"{TINY} --score-every 1 --set score_num=20 --run-dir runs/whole"
    assert train.main(shlex.split(scored)) == 0
    assert float(rows(tmp_path / "runs/whole/history.csv")[-1]["fid"]) > 0
    assert "fid" not in rows(tmp_path / "runs/whole/codec/history.csv")[-1]
    _, whole, _ = checkpoints.load(tmp_path / "runs/whole/checkpoints")
    _, model, _ = checkpoints.load(folder / "runs/tiny/checkpoints")
    assert_equal_weights(whole, model, rtol=1e-3, atol=1e-4)
    images = real_images.load(loading.load(folder / "runs/tiny"), {})
    assert images.arrays["train_images"].shape == (64, 8, 8, 1)
