"""Files and folders are complete or absent: after errors, on a full disk, and in a power cut."""

import contextlib
import os
import resource
import threading
import time

import numpy as np
import pytest

from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime.files import check_writable, whole_file, whole_folder
from keras_diffusion.runtime.locks import exclusive, is_held
from keras_diffusion.training.run_dir import locked, write_history


@contextlib.contextmanager
def largest_file(size):
    """Limits files to `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder):
    """{path: bytes, None for a folder} of everything in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write(kind, path, text):
    """Writes a file, or a folder with one file, with `whole_file` or `whole_folder`."""
    if kind == "file":
        with whole_file(path) as part, open(part, "w") as file:
            file.write(text)
    else:
        with whole_folder(path) as part:
            (part / "deep").mkdir(parents=True)
            (part / "deep" / "file.txt").write_text(text)


every_kind = pytest.mark.parametrize("kind", ["file", "folder"])


@every_kind
def test_it_is_replaced(tmp_path, monkeypatch, kind):
    name = "model/deep/file.txt" if kind == "folder" else "model"
    for text in ("one", "two"):
        write(kind, tmp_path / "model", text)
        assert tree(tmp_path)[name] == text.encode()
        assert os.listdir(tmp_path) == ["model"]
    monkeypatch.chdir(tmp_path)
    write(kind, "model", "three")  # a relative path
    assert tree(tmp_path)[name] == b"three"


@every_kind
def test_it_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch, kind):
    calls, fsync, replace = [], os.fsync, os.replace

    def log_fsync(handle):
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def log_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "replace", log_replace)
    write(kind, tmp_path / "model", "text")
    content = [".part-model"] if kind == "file" else ["deep", "file.txt", ".part-model"]
    assert calls == [*content, "rename", tmp_path.name]  # at last the new name


@every_kind
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_one_and_leaves_nothing_else(tmp_path, kind, error):
    write(kind, tmp_path / "model", "old")
    before = tree(tmp_path)
    if kind == "file":
        with pytest.raises(error), whole_file(tmp_path / "model") as part:
            with open(part, "w") as file:
                file.write("half of the n")
            raise error
    else:
        with pytest.raises(error), whole_folder(tmp_path / "model") as part:
            part.mkdir()
            (part / "half").touch()
            raise error
    assert tree(tmp_path) == before


def test_the_old_folder_returns_if_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    write("folder", tmp_path / "model", "old")
    before = tree(tmp_path)
    replace = os.replace

    def reject_parts(source, target):
        if "part-" in str(source):
            raise OSError("not now")
        replace(source, target)

    monkeypatch.setattr(os, "replace", reject_parts)
    with pytest.raises(OSError, match="not now"):
        write("folder", tmp_path / "model", "new")
    assert tree(tmp_path) == before


def test_trying_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a/b")
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below", "x" * 300):
        with pytest.raises(OSError):
            check_writable(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_keeps_the_old_image_plot_and_history(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    rows = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 200)]
    write_history(rows, tmp_path / "history.csv")
    figures.loss_curves(tmp_path / "history.csv", tmp_path / "loss.png")
    images.save_png(tmp_path / "image.png", noise)
    before = tree(tmp_path)
    for name, save in {
        "image.png": lambda path: images.save_png(path, 255 - noise),
        "loss.png": lambda path: figures.loss_curves(tmp_path / "history.csv", path),
        "history.csv": lambda path: write_history(rows * 2, path),
    }.items():
        with largest_file(1000), pytest.raises(OSError, match=name):
            save(tmp_path / name)
        assert tree(tmp_path) == before


def test_one_of_several_processes_creates_a_file(tmp_path):
    path, created, messages = tmp_path / "cache" / "features.npy", [], []

    def need():
        with exclusive(path, tell=messages.append):
            if not path.exists():
                created.append(path)
                time.sleep(0.3)
                path.write_text("whole")

    threads = [threading.Thread(target=need) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created == [path]
    assert len(messages) == 2 and str(path) in messages[0]


def test_whether_a_run_is_locked_is_found_out_without_disturbing_it(tmp_path):
    lock = tmp_path / "run" / ".lock"
    assert not is_held(lock) and not lock.parent.exists()
    with locked(lock.parent):
        assert is_held(lock)
        with pytest.raises(ValueError, match="in use"), locked(lock.parent):
            pass
    assert not is_held(lock)
    done = threading.Event()

    def look():
        while not done.is_set():
            is_held(lock)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):  # none is rejected
            with locked(lock.parent):
                pass
    finally:
        done.set()
        looking.join()
