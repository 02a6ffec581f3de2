"""sample.py as a user meets it."""

import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
from commands import run
from fixtures_input import refusal
from PIL import Image

import sample


def opened(path):
    """Reads an image file: (width, mode, number of frames, pixels)."""
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        return image.width, image.mode, frames, np.asarray(image, dtype=int)


def test_sample_needs_no_flags(trained):
    folder, _ = trained
    printed = run("sample.py", cwd=folder)
    assert re.search(r"wrote samples/tiny.png: 80 pictures of saved_models/tiny, 3 steps", printed)
    assert opened(folder / "samples/tiny.png")[1] == "L"


def test_separate_pictures_do_not_depend_on_the_batch(trained, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(folder)
    for batch in ("3", "8"):
        options = ["--num", "8", "--separate", "--gif", "--batch-size", batch]
        options += ["--guidance-interval", "0.5", "0.6"]
        sample.main([*options, "--out", f"b{batch}"])
    for index in range(8):
        one, other = (opened(folder / b / f"{index:05d}.png")[3] for b in ("b3", "b8"))
        assert np.abs(one - other).max() <= 1
    assert opened(folder / "b8.gif")[2] == 4  # 3 steps; Pillow joins frames that are equal


def test_separate_pictures_into_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    flags, here = SimpleNamespace(separate=True), pathlib.Path(".")
    sample.write(images, [images, images], here, flags, lambda frame: sample.to_picture(frame[0]))
    names = {"00000.png", "00001.png", f"{tmp_path.name}.gif"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_broken_model_ends_in_one_line(trained, tmp_path, capsys):
    shutil.copytree(trained[0] / "saved_models/tiny", tmp_path / "broken")
    (tmp_path / "broken/saved_model.pb").write_bytes(b"\x00broken")
    errors = refusal(sample.main, ["--model", str(tmp_path / "broken")], capsys)
    assert "broken cannot be loaded" in errors[-1]
