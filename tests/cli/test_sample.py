"""sample.py as a user meets it, with the export of the session and with stand-ins for one."""

import dataclasses
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from commands import ROOT
from fixtures_input import check, file, rejection
from PIL import Image, ImageSequence

from keras_diffusion.cli import sample
from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.saving import export_folder
from keras_diffusion.saving.export_folder import CONFIG_FILE, ExportConfig

CLASSES = ("ant", "bee", "cat")
LABELLED = ExportConfig(
    image_shape=(4, 4, 1), codec={"kind": "pixels"}, num_classes=3,
    class_names=CLASSES, prompts=None,
    schedule="cosine", prediction_type="v", samplers=("ddim",), sampler="ddim", num_steps=2,
    guidance=Guidance(2.0, (0.2, 0.7), 0.3), training={}, versions={},
)  # fmt: skip
PROMPTED = dataclasses.replace(LABELLED, prompts=Prompts(CLASSES, ("{a} {name}",)))
UNLABELLED = dataclasses.replace(LABELLED, num_classes=0, class_names=(), guidance=Guidance())
UNNAMED = dataclasses.replace(LABELLED, class_names=())


def write(config):
    """An export in name only."""
    file("saved_models/ant/saved_model.pb")()
    file(f"saved_models/ant/{CONFIG_FILE}", json.dumps(config.to_json()))()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(LABELLED)
    return tmp_path


# A real export ------------------------------------------------------------------------------


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, dtype=int)


@pytest.fixture
def exported(export, monkeypatch, tmp_path):
    """The model of the session's export, which is saved_models/tiny in the current folder."""
    model, path = export
    shutil.copytree(path, tmp_path / "saved_models/tiny")
    monkeypatch.chdir(tmp_path)
    return model


def test_separate_images_are_those_of_generate_whatever_the_batch(exported, capsys):
    flags = "--separate --gif --num 5 --batch-size 3 --seed 4 --out many"
    assert sample.main([*shlex.split(flags), "--class-name", "digit 7", "digit 2"]) == 0
    assert (
        "wrote many: 5 images of saved_models/tiny, 2 steps of dpmpp_2m" in capsys.readouterr()[0]
    )
    expected = exported.generate(5, labels=[7, 2, 7, 2, 7], num_steps=2, seed=4, guidance_scale=2.0,
                                 guidance_interval=(0.1, 0.8))  # fmt: skip
    for index, image in enumerate(expected):
        assert np.abs(pixels(f"many/{index:05d}.png") - image[..., 0]).max() <= 1
    with Image.open("many.gif") as animation:
        assert animation.n_frames == 3  # noise and two steps; Pillow joins equal frames


BLOCKED = """
import sys
import keras_diffusion
for name in ("keras", "sklearn", "scipy", "matplotlib", "tensorflow_datasets"):
    sys.modules[name] = None
from keras_diffusion.cli.sample import main, parser
parser().format_help()
assert "tensorflow" not in sys.modules
main(["--out", "grid.png"])
assert not [name for name in sys.modules if name.startswith("keras.")]
"""


def test_tensorflow_numpy_and_pillow_are_enough(exported):
    command = [sys.executable, "-c", BLOCKED]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "80 images" in done.stdout and pixels("grid.png").ndim == 2


# A stand-in for the SavedModel --------------------------------------------------------------


@pytest.fixture
def calls(folder, monkeypatch):
    """A list of the arguments of every call of the endpoint, as arrays."""
    calls = []

    def generate_ddim(**arguments):
        calls.append({name: value.numpy() for name, value in arguments.items()})
        shade = tf.cast(50 * len(calls), tf.uint8)
        return tf.fill((len(arguments["indices"]), 4, 4, 1), shade)

    loaded = SimpleNamespace(generate_ddim=generate_ddim)
    monkeypatch.setattr(tf.saved_model, "load", lambda path: loaded)
    return calls


def test_defaults_are_those_of_the_model(calls, folder):
    assert sample.main([]) == 0
    [arguments] = calls
    assert arguments.pop("indices").tolist() == list(range(24))
    assert arguments.pop("labels").tolist() == [0, 1, 2] * 8
    rounded = {name: np.round(value.astype(float), 6) for name, value in arguments.items()}
    assert {name: value.tolist() for name, value in rounded.items()} == {
        "seed": 0, "num_steps": 2, "guidance_scale": 2.0, "guidance_interval": [0.2, 0.7],
        "guidance_rescale": 0.3,
    }  # fmt: skip
    assert (folder / "samples/ant.png").exists()


def test_clips_become_a_grid_of_frames_and_a_gif_that_plays(folder, monkeypatch, capsys):
    write(dataclasses.replace(UNLABELLED, image_shape=(4, 4, 3), frames=3))
    shades = tf.constant([10, 100, 200], tf.uint8)  # of each frame
    loaded = SimpleNamespace(
        generate_ddim=lambda indices, **_: tf.zeros((len(indices), 4, 4, 3), tf.uint8) + shades
    )
    monkeypatch.setattr(tf.saved_model, "load", lambda path: loaded)
    assert sample.main([]) == 0
    sheet = pixels("samples/ant.png")
    factor = sheet.shape[0] // (12 * (4 + 1) + 1)  # 12 rows
    row = sheet[factor * 3, ::factor]
    assert row.tolist() == [255, *[10] * 4, 255, *[100] * 4, 255, *[200] * 4, 255]
    assert sample.main(["--num", "2", "--separate"]) == 0
    for path in ("samples/ant.gif", "samples/ant/00000.gif", "samples/ant/00001.gif"):
        with Image.open(path) as animation:
            frames = [np.asarray(f.convert("L")) for f in ImageSequence.Iterator(animation)]
            assert [frame.min() for frame in frames] == [10, 100, 200]
    check(sample.main, "--gif", "--gif", capsys)


def test_prompts_become_tokens(calls):
    write(PROMPTED)
    sample.main(["--prompt", "a CAT!", "bee", "--num", "3", "--negative-prompt", "ant"])
    sample.main(["--class-name", "bee", "--num", "1"])
    assert calls[0]["tokens"].tolist() == [[1, 2, 6], [1, 5, 0], [1, 2, 6]]
    assert calls[0]["negative_tokens"].tolist() == [[1, 4, 0]] * 3
    assert [calls[1][name].tolist() for name in ("tokens", "negative_tokens")] == [
        [[1, 2, 5]], [[1, 0, 0]],
    ]  # fmt: skip


def test_several_scales_are_columns_beside_the_names(calls):
    write(PROMPTED)
    scales = ["--guidance-scale", "1", "2", "3.5", "--negative-prompt", "ant"]
    sample.main([*scales, "--batch-size", "2"])
    assert [call["indices"].tolist() for call in calls] == [[0, 1], [2]] * 3, "one of each class"
    assert [float(call["guidance_scale"]) for call in calls] == [1, 1, 2, 2, 3.5, 3.5]
    with Image.open("samples/ant.png") as page:
        grey = np.asarray(page.convert("L"))
    edge_images = np.array([50, 100, 150, 200, 250, 44])
    left = [np.flatnonzero((grey == shade).sum(axis=0) > 20).mean() for shade in edge_images]
    assert left[0] == left[1] < left[2] == left[3] < left[4] == left[5]
    assert (grey[:, : int(left[0]) - 75] < 128).sum() > 50, "names"


def raising(error):
    def endpoint(**arguments):
        raise error

    return endpoint


ENDPOINTS = {
    "another shape": lambda indices, **_: tf.zeros((len(indices), 8, 8, 1), tf.uint8),
    "another dtype": lambda indices, **_: tf.zeros((len(indices), 4, 4, 1)),
    "other arguments": lambda seed: None,
    "no endpoint": None,
    "out of memory": raising(tf.errors.ResourceExhaustedError(None, None, "OOM\n of a tensor")),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_a_model_that_is_not_what_its_config_says(case, folder, monkeypatch, capsys):
    loaded = SimpleNamespace(generate_ddim=ENDPOINTS[case])
    if ENDPOINTS[case] is None:
        del loaded.generate_ddim
    monkeypatch.setattr(tf.saved_model, "load", lambda path: loaded)
    flag = "--batch-size" if case == "out of memory" else "--model: saved_models/ant"
    check(sample.main, "", flag, capsys)


def test_a_damaged_model_ends_in_one_line(folder, capsys):
    file("saved_models/ant/saved_model.pb", b"\x00damaged")()
    errors = rejection(sample.main, [], capsys)
    assert errors[-1].startswith("sample.py: error: --model: saved_models/ant cannot be loaded")


# Rejected flags -----------------------------------------------------------------------------

REJECTED = [
    (LABELLED, "--num", "0"), (LABELLED, "--num", "1.5"), (LABELLED, "--num", f"{10**12}"),
    (LABELLED, "--batch-size", "0"), (LABELLED, "--num-steps", "1001"),
    (LABELLED, "--seed", f"{2**31}"), (LABELLED, "--sampler", "heun"),
    (LABELLED, "--guidance-scale", "high"), (LABELLED, "--guidance-scale", "nan"),
    (LABELLED, "--guidance-scale", "1 -1"), (LABELLED, "--guidance-interval", "0.5"),
    (LABELLED, "--guidance-interval", "0.8 0.1"), (LABELLED, "--guidance-interval", "0 2"),
    (LABELLED, "--guidance-interval", "0 0.5 --guidance-scale 1 1"),
    (LABELLED, "--guidance-rescale", "2"),
    (LABELLED, "--guidance-rescale", "0.7 --guidance-scale 1"),
    (UNLABELLED, "--guidance-scale", "2"), (UNLABELLED, "--labels", "0"),
    (UNLABELLED, "--class-name", "ant"), (UNNAMED, "--class-name", "ant"),
    (LABELLED, "--class-name", "bat"), (LABELLED, "--labels", "1 3"), (LABELLED, "--labels", "-1"),
    (LABELLED, "--labels", "ant"), (LABELLED, "--class-name", "ant --labels 1"),
    (LABELLED, "--prompt", "cat"), (LABELLED, "--negative-prompt", "cat"),
    (PROMPTED, "--prompt", "'a red cta'"), (PROMPTED, "--prompt", "'a cat' 'a bea'"),
    (PROMPTED, "--prompt", "'a cat a bee'"), (PROMPTED, "--negative-prompt", "dog"),
    (PROMPTED, "--negative-prompt", "cat --guidance-scale 1"),
    (LABELLED, "--out", "a.jpg"), (LABELLED, "--out", "saved_models/ant/saved_model.pb/a.png"),
    (LABELLED, "--out", "saved_models/ant/saved_model.pb --separate"),
    (LABELLED, "--model", "nowhere"), (LABELLED, "--model", "saved_models/ant/saved_model.pb"),
    (LABELLED, "--model", "saved_models"), (LABELLED, "--frobnicate", ""),
]  # fmt: skip


@pytest.mark.parametrize(("config", "flag", "value"), REJECTED)
def test_rejected(config, flag, value, folder, capsys):
    write(config)
    check(sample.main, f"{flag} {value}", flag, capsys)


def test_a_prompt_for_a_model_without_them_names_one_that_has_them(folder, capsys):
    write(LABELLED)
    named = "trained without prompts.*--model oxford_flowers102"
    check(sample.main, "--prompt 'a sunflower'", named, capsys)
    shipped = export_folder.read(export_folder.SHIPPED_ROOT / "oxford_flowers102")
    assert "sunflower" in shipped.prompts.words


def test_the_model_is_named_and_why(calls, capsys):
    assert sample.main([]) == sample.main(["--model", "ant"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model: ")]
    assert lines == [
        "model: saved_models/ant (the newest of yours in saved_models/)",
        "model: saved_models/ant",
    ]


def test_without_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_folder, "SHIPPED_ROOT", tmp_path / "beside")
    check(sample.main, "", "--model: there is no model in .*saved_models/", capsys)


def test_a_full_disk(calls, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample, "save_png", full)
    [*_, error] = rejection(sample.main, [], capsys)
    assert error.startswith("sample.py: error: --out: samples/ant.png cannot be written")


def test_a_folder_is_no_png(folder, capsys):
    pathlib.Path("x.png").mkdir()
    check(sample.main, "--out x.png", "--out: x.png", capsys)


@pytest.mark.parametrize(("error", "code"), [(MemoryError, 2), (KeyboardInterrupt, 130)])
def test_what_ends_a_call_early_is_one_line(error, code, monkeypatch, capsys):
    def end(options):
        raise error

    monkeypatch.setattr(sample, "sample", end)
    if code == 130:
        assert sample.main([]) == code
    else:
        with pytest.raises(SystemExit) as stop:
            sample.main([])
        assert stop.value.code == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
