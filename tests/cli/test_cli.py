"""train.py and sample.py as a user meets them."""

import csv
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ROOT, TINY
from fixtures_exports import one_sampler
from fixtures_input import refusal
from PIL import Image

import sample
from keras_diffusion.cli import evaluate, train
from keras_diffusion.config import options as configuration
from keras_diffusion.config import rules
from keras_diffusion.config.rules import CHOICES, NETWORK_OPTIONS
from keras_diffusion.diffusion.process import LOSS_WEIGHTINGS, PREDICTION_TYPES
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.diffusion.schedules import SCHEDULES
from keras_diffusion.networks import NETWORKS
from keras_diffusion.sampling import request as of_graphs
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import run as training
from keras_diffusion.training import run_dir as records


def opened(path):
    """Reads a picture: (width, mode, number of frames, pixels)."""
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        return picture.width, picture.mode, frames, np.asarray(picture, dtype=int)


def history(folder):
    with open(folder / "runs/tiny/history.csv", newline="") as file:
        return list(csv.DictReader(file))


def exported(folder):
    """The config.json of the run's SavedModel."""
    return json.loads((folder / "saved_models/tiny/assets.extra/config.json").read_text())


# Arguments ------------------------------------------------------------------------------


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, ROOT / "train.py", "--help"], capture_output=True, check=True
        )
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1.0, seconds


def test_choices_are_those_of_the_tables():
    tables = {
        "schedule": SCHEDULES,
        "prediction_type": PREDICTION_TYPES,
        "loss_weighting": LOSS_WEIGHTINGS,
        "network": NETWORKS,
        "sampler": SAMPLERS,
    }
    for name, table in tables.items():
        assert set(CHOICES[name]) == set(table), name
    assert rules.GUIDANCE == of_graphs.GUIDANCE == sample.GUIDANCE


def test_networks_take_what_their_builders_take():
    for name, options in NETWORK_OPTIONS.items():
        arguments = inspect.signature(NETWORKS[name]).parameters.values()
        defaults = {each.name: each.default for each in arguments}
        for shared in ("image_shape", "num_classes", "name"):
            defaults.pop(shared)
        assert options.items() <= defaults.items(), name
        preset = configuration.resolve("oxford_flowers102", {"network": name})
        chosen = configuration.resolve("oxford_flowers102", {"network": name, "widths": (8,)})
        assert chosen.network_options == {**options, "widths": (8,)}
        if name != "unet":  # whose options the presets name
            assert preset.network_options == options


def test_settings_are_parsed_as_the_type_of_the_option():
    parsed = dict(map(configuration.parse_setting, ["widths=[8, 16]", "dropout=0", "minutes=3"]))
    assert parsed == {"widths": (8, 16), "dropout": 0.0, "minutes": 3.0}
    assert type(parsed["dropout"]) is float
    parsed = configuration.parse_setting("guidance_interval=(0.1,0.8)")
    assert configuration.resolve("digits", [parsed]).guidance_interval == (0.1, 0.8)


def test_presets_answer_to_their_names():
    for path in (ROOT / "keras_diffusion/config/presets").glob("[a-z]*.py"):
        assert configuration.preset(path.stem).dataset == path.stem
    assert configuration.resolve("oxford_flowers102", {"image_size": (32, 32)}).widths[0] == 32
    own = [configuration.resolve(None, {"folder": "pets", "image_size": size})
           for size in (None, (28, 28), (64, 48))]  # fmt: skip
    assert [len(config.widths) for config in own] == [3, 3, 4]
    assert configuration.resolve("kmnist").widths == own[0].widths


def test_an_export_is_named_after_its_run(tmp_path, monkeypatch):
    targets = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", lambda config, run, export, *_: targets.append(export) or 0)
    for run_dir in (".", "runs/tiny"):
        assert train.main(["--dataset", "digits", "--run-dir", run_dir]) == 0
    assert [path.name for path in targets] == [tmp_path.name, "tiny"]


def test_dry_run_tells_all_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main([*TINY, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for part in ("precision: float32", "validation", "parameters", "GFLOP", "GiB", '"widths"'):
        assert part in printed
    assert not list(tmp_path.iterdir())


# A run ----------------------------------------------------------------------------------


def test_a_run_leaves_all_that_it_says(trained):
    folder, printed = trained
    for name in ("loss.png", "health.png", "forward.png", "backward.png", "samples/epoch-0001.png"):
        assert opened(folder / "runs/tiny" / name)[0] > 200
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["skipped"] for row in rows] == ["0", "0"]
    assert 0 < float(rows[1]["learning_rate"]) < 1e-3
    assert float(rows[1]["val_loss"]) > 0
    assert 0.5 < float(rows[1]["zero_loss"]) < 2
    saved = sorted(path.name for path in (folder / "runs/tiny/checkpoints").iterdir())
    assert saved == ["step-00000003.keras", "step-00000004.keras"]
    record = json.loads((folder / "runs/tiny/config.json").read_text())
    assert record["config"]["widths"] == [8, 16]
    assert record["config"]["guidance_interval"] == [0.1, 0.8]
    assert exported(folder)["guidance_interval"] == [0.1, 0.8]
    assert record["versions"]["keras"]
    assert list((folder / "runs/tiny/logs").rglob("events*"))
    assert not list(folder.rglob("*part*"))
    assert "python sample.py --model saved_models/tiny" in printed
    named = re.search(r"checkpoints/, best by val_loss: (step-0000000\d.keras)", printed)
    assert named[1] in saved


def test_resumed_run_ends_as_the_uninterrupted_one(trained, monkeypatch, capsys):
    folder, _ = trained
    copy = folder.parent / "resumed"
    shutil.copytree(folder, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setattr(training, "_finish", lambda *_: None)  # pictures and export
    (copy / "runs/tiny/checkpoints/step-00000004.keras").write_bytes(b"torn off by a power cut")
    assert train.main(["--resume"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"warning: skipping .*step-00000004.keras, which does not read", printed)
    message = r"resuming .*step-00000003.keras: step 3, 1 epochs and 1 batches, learning rate"
    assert re.search(message, printed)
    assert len(history(copy)) == 2
    first, second = history(folder)[1], history(copy)[1]
    for name in first:
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-4), name


def test_a_finished_run_is_not_trained_again(trained, monkeypatch, capsys):
    folder, _ = trained
    copy = folder.parent / "finished"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "saved_models")
    record = json.loads((copy / "runs/tiny/config.json").read_text())
    del record["config"]["guidance_interval"]  # as runs were before there was one
    (copy / "runs/tiny/config.json").write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in copy.glob("runs/tiny/checkpoints/*")}
    drawn = ("--set", "guidance_scale=3.5", "--set", "num_steps=3")
    monkeypatch.chdir(copy)
    with one_sampler():
        assert train.main(["--resume", "runs/tiny", *drawn]) == 0
    printed = capsys.readouterr().out
    assert "this run is finished; only its pictures and its export are made again" in printed
    assert {path: path.read_bytes() for path in copy.glob("runs/tiny/checkpoints/*")} == before
    assert history(copy) == history(folder)
    assert (copy / "saved_models/tiny/saved_model.pb").exists()
    assert exported(copy)["guidance_interval"] == [0.0, 1.0]
    assert (exported(copy)["guidance_scale"], exported(copy)["num_steps"]) == (3.5, 3)


def test_a_run_begins_with_another(trained, tmp_path, monkeypatch, capsys):
    folder, models = trained[0], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_train", lambda model, *_: models.append(model))
    monkeypatch.setattr(training, "_finish", lambda *_: None)
    start = str(folder / "runs/tiny")
    assert train.main([*TINY, "--start-from", start, "--run-dir", "runs/again"]) == 0
    assert f"starting from {start}/checkpoints/step-00000004.keras\n" in capsys.readouterr().out
    _, other, _ = checkpoints.load(f"{start}/checkpoints")
    for one, expected in zip(
        models[0].network.get_weights(), other.ema_network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, expected)
    record = json.loads((tmp_path / "runs/again/config.json").read_text())
    assert record["config"]["start_from"] == start


def test_a_run_in_use_is_left_alone(trained, monkeypatch, capsys):
    folder, _ = trained
    copy = folder.parent / "in use"
    shutil.copytree(folder, copy)
    monkeypatch.chdir(copy)
    with records.alone_in("runs/tiny"):
        lines = refusal(train.main, ["--resume", "runs/tiny"], capsys)
    assert "--run-dir: runs/tiny is in use by another run" in lines[-1]


def test_run_directory_is_not_overwritten_and_contradictions_are_named(
    trained, monkeypatch, capsys
):
    folder, _ = trained
    monkeypatch.chdir(folder)
    for arguments, pattern in (
        ([*TINY, "--run-dir", "runs/tiny"], "--run-dir: runs/tiny holds a run already; --resume"),
        (["--resume", "runs/tiny", "--seed", "5"], "--seed: 5 contradicts 0"),
    ):
        assert re.search(pattern, refusal(train.main, arguments, capsys)[-1])


def test_own_pictures_in_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(8):
            pixels = noise.integers(0, 256, (12, 16, 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{index}.png")
    (tmp_path / "pets" / "dogs" / "broken.jpg").write_bytes(b"no picture")
    tiny = TINY[TINY.index("--batch-size") + 2 :]
    options = ["--folder", "pets", "--image-size", "12x16", "--batch-size", "4", *tiny]
    with one_sampler():
        assert train.main([*options, "--run-dir", "runs/pets"]) == 0
    assert "broken.jpg" in capsys.readouterr().out
    sample.main(["--class-name", "dogs", "--num", "3", "--out", "dogs.png"])
    assert opened(tmp_path / "dogs.png")[1] == "RGB"


# The README -----------------------------------------------------------------------------


def fenced(language):
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_commands_of_the_readme_are_understood():
    lines = [line.split("#")[0] for block in fenced("bash") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.strip()]
    scripts = [command[1:] for command in commands if command[0] == "python"]
    assert len(scripts) >= 4
    for script, *arguments in scripts:
        if script == "train.py":
            flags = vars(train.parser().parse_args(arguments))
            given = [flags[name] for name in ("dataset", "folder", "image", "resume")]
            assert any(value is not None for value in given)
        elif script == "sample.py":
            sample.parse(arguments)
        elif script == "evaluate.py":
            evaluate.parser().parse_args(arguments)
    targets = (ROOT / "Makefile").read_text()
    for command in commands:
        if command[0] == "make":
            assert f"\n{command[1]}:" in targets


def small(code, changes):
    """Code of the README at toy size, {of what: by what}."""
    for large, tiny in changes.items():
        assert large in code, large
        code = code.replace(large, tiny)
    return code


ONE_SAMPLER = """from keras_diffusion.saving import saved_model
saved_model.SAMPLERS = {"dpmpp_2m": saved_model.SAMPLERS["dpmpp_2m"]}"""


def test_user_code_of_the_readme_runs(tmp_path):
    code, prompts, latents = (
        next(block for block in fenced("python") if part in block)
        for part in ("model.fit", "kd.Prompts", "kd.Autoencoder")
    )
    data, widths = '"digits", batch_size=64, limit=64', "widths=(8,), embedding_width=16"
    code = "\n".join((
        small(code, {
            '"oxford_flowers102", image_size=64, batch_size=64': data,
            "unet((64, 64, 3), num_classes=102)": f"unet((8, 8, 1), num_classes=10, {widths})",
            "epochs=50": "epochs=1",
            "num_steps=20": "num_steps=2",
            "kd.export_saved_model(": f"{ONE_SAMPLER}\nkd.export_saved_model(",
        }),
        "assert images.shape == (16, 8, 8, 1) and images.dtype == 'uint8'",
        small(prompts, {
            "(prompts.num_tokens, prompts.length)":
                "(prompts.num_tokens, prompts.length, width=8, depth=1)",
            "(64, 64, 3), text=text": f"(8, 8, 1), text=text, {widths}",
            "guidance_scale=3.0": "guidance_scale=3.0, num_steps=2",
        }),
        "assert images.shape == (4, 8, 8, 1)",
        small(latents, {
            "(32, 32, 3)": "(8, 8, 1), widths=(8,)",
            "epochs=5": "epochs=1",
            '"cifar10"': data,
            "codec.x_shape": f"codec.x_shape, {widths}",
        }),
        "assert model.generate(2, num_steps=1).shape == (2, 8, 8, 1)",
    ))  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "saved_models/flowers/saved_model.pb").exists()
