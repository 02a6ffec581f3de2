"""Files and folders are whole or not there: errors half-way, and a disk that is full."""

import contextlib
import os
import resource
import threading
import time

import keras
import numpy as np
import pytest
from fixtures_exports import one_sampler

from keras_diffusion import DiffusionModel, export_saved_model
from keras_diffusion.networks import unet
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime.files import whole_file, whole_folder
from keras_diffusion.runtime.locks import exclusive
from keras_diffusion.training.checkpoint_callback import write_history


@contextlib.contextmanager
def largest_file(size):
    """Lets no file grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder):
    """{path: bytes} of all that is in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    for text in ("one", "two"):
        with whole_file(path) as part:
            assert part.endswith("file.txt")
            with open(part, "w") as file:
                file.write(text)
            assert tree(tmp_path).get("file.txt") in (None, b"one")
        assert tree(tmp_path) == {"file.txt": text.encode()}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(error), whole_file(tmp_path / "file.txt") as part:
        with open(part, "w") as file:
            file.write("half of the n")
        raise error
    assert tree(tmp_path) == {"file.txt": b"old"}


def test_a_relative_name_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with whole_file("file.txt") as part, open(part, "w") as file:
        file.write("new")
    assert tree(tmp_path) == {"file.txt": b"new"}


def fill(folder, text):
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file.txt").write_text(text)


def test_a_folder_is_replaced_when_it_is_whole(tmp_path):
    for text in ("one", "two"):
        with whole_folder(tmp_path / "model") as part:
            fill(part, text)
        assert tree(tmp_path)["model/deep/file.txt"] == text.encode()
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    fill(tmp_path / "model", "old")
    before = tree(tmp_path)
    with pytest.raises(ValueError), whole_folder(tmp_path / "model") as part:
        fill(part, "new")
        raise ValueError
    assert tree(tmp_path) == before


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_put_there(tmp_path, monkeypatch):
    fill(tmp_path / "model", "old")
    before = tree(tmp_path)
    replace = os.replace

    def refuses_parts(source, target):
        if "part-" in str(source):
            raise OSError("not now")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuses_parts)
    with pytest.raises(OSError, match="not now"), whole_folder(tmp_path / "model") as part:
        fill(part, "new")
    assert tree(tmp_path) == before


# A full disk


def test_no_space_for_a_picture_a_plot_or_the_history(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    rows = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 200)]
    write_history(rows, tmp_path / "history.csv")
    figures.loss_curves(tmp_path / "history.csv", tmp_path / "loss.png")
    images.save_png(tmp_path / "picture.png", noise)
    before = tree(tmp_path)
    for name, write in {
        "picture.png": lambda path: images.save_png(path, 255 - noise),
        "loss.png": lambda path: figures.loss_curves(tmp_path / "history.csv", path),
        "history.csv": lambda path: write_history(rows * 2, path),
    }.items():
        with largest_file(1000), pytest.raises(OSError, match=name):
            write(tmp_path / name)
        assert tree(tmp_path) == before


def test_what_several_want_is_made_once(tmp_path):
    path, made, told = tmp_path / "cache" / "features.npy", [], []

    def want():
        with exclusive(path, tell=told.append):
            if not path.exists():
                made.append(path)
                time.sleep(0.5)
                path.write_text("whole")

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [path]
    assert told == [f"waiting for another process to create {path}"] * 2


def test_no_space_for_an_export(tmp_path):
    keras.utils.set_random_seed(0)
    model = DiffusionModel(unet((4, 4, 1), widths=(8,), attention=(False,), embedding_width=64))
    with one_sampler():
        export_saved_model(model, tmp_path / "model")
        before = tree(tmp_path)
        for limit in (1000, 30_000):  # of the graph, of the weights
            with largest_file(limit), pytest.raises(OSError, match="model.*cannot be written"):
                export_saved_model(model, tmp_path / "model")
            assert tree(tmp_path) == before
