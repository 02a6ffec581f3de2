"""A run on latents from the command line: interrupted in stage one, resumed, sampled."""

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
from fixtures_input import refusal
from PIL import Image

import sample
import train
from keras_diffusion import Autoencoder
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.config.resolve import preset, resolve
from keras_diffusion.evaluation import classifier, real_images
from keras_diffusion.runtime import distribution
from keras_diffusion.saving import checkpoints, loading
from keras_diffusion.training import autoencoder_stage, callbacks
from keras_diffusion.training import run as training

TINY = (
    "--dataset digits --limit 64 --batch-size 32 --precision float32 --latent --epochs 1 "
    "--set codec_widths=(8,) --set latent_channels=2 --set codec_epochs=2 --set widths=(8,) "
    "--set attention=(False,) --set embedding_width=16 --set num_steps=2 --checkpoint-minutes 0"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was terminated after the first epoch of stage one, and then resumed."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw = autoencoder_stage.draw_reconstructions

        def terminate(*arguments):
            draw(*arguments)
            signal.raise_signal(signal.SIGTERM)

        patch.setattr(autoencoder_stage, "draw_reconstructions", terminate)
        assert train.main([*shlex.split(TINY), "--run-dir", "runs/tiny"]) == 128 + signal.SIGTERM
        assert not (folder / "runs/tiny/codec/autoencoder.keras").exists()
        assert not (folder / "runs/tiny/checkpoints").exists()
        patch.setattr(autoencoder_stage, "draw_reconstructions", draw)
        with one_sampler():
            assert train.main(["--resume"]) == 0
    return folder


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_both_stages(folder):
    run = folder / "runs/tiny"
    assert [row["epoch"] for row in rows(run / "codec/history.csv")] == ["1", "2"]
    best = min(rows(run / "codec/history.csv"), key=lambda row: float(row["val_loss"]))
    quality = json.loads((run / "codec/quality.json").read_text())
    assert quality["psnr"] == pytest.approx(float(best["val_psnr"]))
    assert quality["minutes"] > 0
    with Image.open(run / "codec/reconstructions.png") as picture:
        assert picture.width > 400
    for file, epochs in (("config.json", 1), ("codec/config.json", 2)):
        assert json.loads((run / file).read_text())["config"]["epochs"] == epochs
    assert float(rows(run / "history.csv")[-1]["val_loss"]) > 0
    assert (run / "backward.png").exists() and (run / "samples/epoch-0001.png").exists()
    assert not list(folder.rglob(".part-*"))


def test_the_model_holds_the_codec_that_was_trained(folder):
    _, model, _ = checkpoints.load(folder / "runs/tiny/checkpoints")
    loading = keras.models.load_model(folder / "runs/tiny/codec/autoencoder.keras")
    assert isinstance(loading, Autoencoder)
    for one, other in zip(
        [*loading.encoder.get_weights(), *loading.decoder.get_weights()],
        [*model.codec.encoder.get_weights(), *model.codec.decoder.get_weights()],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    exported = json.loads((folder / "saved_models/tiny/assets.extra/config.json").read_text())
    assert exported["codec"] == json.loads(json.dumps(model.codec.describe()))
    assert exported["image_shape"] == [8, 8, 1] and exported["codec"]["x_shape"] == [4, 4, 2]


def test_interrupted_or_not_it_ends_the_same(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_finish", lambda *_: None)  # pictures and export
    monkeypatch.setattr(classifier, "settings_for", lambda *_: classifier.TINY)
    scored = f"{TINY} --score-every 1 --set score_num=20 --run-dir runs/whole"
    assert train.main(shlex.split(scored)) == 0
    assert float(rows(tmp_path / "runs/whole/history.csv")[-1]["fid"]) > 0
    assert "fid" not in rows(tmp_path / "runs/whole/codec/history.csv")[-1]
    _, whole, _ = checkpoints.load(tmp_path / "runs/whole/checkpoints")
    _, model, _ = checkpoints.load(folder / "runs/tiny/checkpoints")
    for one, other in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("moment", ["preview", "validation"])
def test_a_stage_that_was_left_on_its_plateau_is_not_trained_on(
    moment, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autoencoder_stage, "PATIENCE", 0)  # one epoch is a plateau
    holder, name = {
        "preview": (autoencoder_stage, "draw_reconstructions"),
        "validation": (callbacks.Plateau, "on_test_batch_end"),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(holder, name, lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        assert train.main([*shlex.split(TINY), "--run-dir", "runs/tiny"]) == 128 + signal.SIGTERM
    assert not (tmp_path / "runs/tiny/codec/quality.json").exists()
    shown = []
    monkeypatch.setattr(
        autoencoder_stage, "draw_reconstructions", lambda model, *_: shown.append(model)
    )
    monkeypatch.setattr(training, "_train", lambda *_: None)  # stage two
    monkeypatch.setattr(training, "_finish", lambda *_: None)  # pictures and export
    assert train.main(["--resume"]) == 0
    assert [row["epoch"] for row in rows(tmp_path / "runs/tiny/codec/history.csv")] == ["1"]
    [shown] = shown  # what is kept, and not what was trained last
    kept = keras.models.load_model(tmp_path / "runs/tiny/codec/autoencoder.keras")
    for one, other in zip(shown.get_weights(), kept.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "runs/tiny/codec/autoencoder.keras").write_bytes(b"torn off")
    [*_, line] = refusal(train.main, ["--resume"], capsys)
    assert "error: runs/tiny/codec/autoencoder.keras cannot be loaded" in line


def test_it_is_sampled_as_any_other(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    sample.main(["--num", "4", "--seed", "5", "--separate", "--out", "drawn"])
    _, model, _ = checkpoints.load(folder / "runs/tiny/checkpoints")
    expected = model.generate(4, num_steps=2, guidance_scale=2.0, seed=5)
    for index, image in enumerate(expected):
        drawn = np.asarray(Image.open(folder / f"drawn/{index:05d}.png")).astype(int)
        assert np.abs(drawn - image[..., 0]).max() <= 2


def test_it_is_loaded_for_scores_as_any_other(folder):
    drawn = []
    for path in ("runs/tiny", "saved_models/tiny"):
        model = loading.load(folder / path)
        assert model.image_shape == (8, 8, 1) and model.options["latent"]
        options = {"seed": 5, "num_steps": 2, "labels": [0, 1], "guidance": Guidance(2.0)}
        drawn.append(model.generate(2, **options).astype(int))
    assert drawn[0].shape == (2, 8, 8, 1) and np.abs(drawn[0] - drawn[1]).max() <= 2
    pictures = real_images.load(model, {})
    assert pictures.arrays["train_images"].shape == (64, 8, 8, 1)
    with pytest.raises(ValueError, match="is of type Autoencoder, not DiffusionModel"):
        loading.load(folder / "runs/tiny/codec")


def test_its_autoencoder_can_be_used_again(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    again = re.sub(r"--set (codec_widths|codec_epochs|latent_channels)=\S+ ", "", TINY)
    for path in ("runs/tiny", "runs/tiny/codec/autoencoder.keras"):
        assert train.main([*shlex.split(again), "--codec", path, "--dry-run"]) == 0
        assert "latents 4x4x2" in capsys.readouterr().out
    before = sorted(folder.rglob("*"))
    newest = checkpoints.list_checkpoints("runs/tiny/checkpoints")[-1]
    for options, message in (
        (f"--codec {newest}", "holds a DiffusionModel; give one of an Autoencoder"),
        ("--codec runs/tiny --channels 3", "is for images of 8x8x1; these are 8x8x3"),
        ("--codec runs/tiny --set widths=(8,8,8,8)", "8x8: .* multiples of 16"),
        ("--codec saved_models", "no autoencoder.keras in saved_models; give a run on latents"),
        ("--codec runs/tiny/config.json", "config.json cannot be loaded"),
    ):
        free = again.replace("--set widths=(8,) --set attention=(False,)", "")
        [*_, line] = refusal(train.main, shlex.split(f"{free} {options}"), capsys)
        assert re.search(message, line), line
    assert sorted(folder.rglob("*")) == before
    other = folder / "runs/other"
    other.mkdir()
    (other / "config.json").write_text('{"config": {"codec": "runs/tiny"}}')
    [*_, line] = refusal(train.main, shlex.split(f"{again} --codec runs/other"), capsys)
    assert line.endswith("no autoencoder.keras in runs/other; that run took the one of runs/tiny.")


def test_the_best_autoencoder_is_the_one_that_is_left(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for batches in (4, 6):
        (tmp_path / f"checkpoints/step-{batches:08d}.keras").write_text(str(batches))
    history = [{"val_loss": loss, "val_psnr": 30 - loss, "val_ssim": 0.9} for loss in (2, 1, 3)]
    best = {"val_loss": 1, "batches": 4}
    progress = checkpoints.Progress(epoch=3, history=history, best=best)
    assert autoencoder_stage._keep_best(progress, tmp_path)["psnr"] == 29
    assert (tmp_path / "autoencoder.keras").read_text() == "4"
    autoencoder_stage._keep_best(checkpoints.Progress(epoch=1, history=[{"loss": 1}]), tmp_path)
    assert (tmp_path / "autoencoder.keras").read_text() == "6"  # nothing was measured


def test_minutes_are_shared_by_the_stages(tmp_path):
    config = resolve("digits", {"latent": True, "minutes": 10.0})
    votes = distribution.Votes(distribution.make_strategy("single"))
    assert autoencoder_stage.second_stage(config, tmp_path, votes).minutes == 10
    (tmp_path / "codec").mkdir()
    for spent, left in ((2.5, 7.5), (11.0, 1.0)):
        (tmp_path / "codec/quality.json").write_text(json.dumps({"minutes": spent}))
        assert autoencoder_stage.second_stage(config, tmp_path, votes).minutes == pytest.approx(
            left
        )


def test_encoding_counts_as_training(monkeypatch, capsys):
    config, progress = resolve("digits", {"latent": True}), checkpoints.Progress(seconds=5.0)
    codec = SimpleNamespace(encode=lambda images: images, x_shape=(4, 4, 2))
    monkeypatch.setattr(
        autoencoder_stage.latents, "encoded", lambda *_, **__: time.sleep(0.05) or "kept"
    )
    assert autoencoder_stage.encoded(codec, "images", config, progress) == "kept"
    assert progress.seconds >= 5.05
    monkeypatch.setattr(autoencoder_stage.latents, "encoded", lambda *_, **__: None)
    assert autoencoder_stage.encoded(codec, "images", config, progress) == "images"
    assert "too many for memory" in capsys.readouterr().out


def test_presets_of_latents():
    for name in ("cifar10", "oxford_flowers102"):
        assert preset(name, latent=True).latent and preset(name, latent=True).dataset == name
        assert not preset(name).latent
    assert preset("mnist", latent=True).widths == preset("mnist").widths[1:]
    assert resolve("cifar10", {"widths": (8,)}).attention is None, "it was for other widths"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 5.0, "codec_epochs": 3}, "--codec-epochs: .* Give codec_share"),
        ({"codec_share": 0.5}, "--codec-share: .* Give codec_epochs"),
    ],
)
def test_the_length_of_stage_one_is_given_as_that_of_the_run(options, message):
    with pytest.raises(ValueError, match=message):
        resolve("cifar10", {"latent": True, **options})
