"""Rejected calls of train.py: exit code 2, one line that names the flag, and nothing is written."""

import os
import pathlib
import re

import pytest
from fixtures_data import DATA_DIR, class_folder, needs, save_image
from fixtures_input import check, file, other_files, run_with

from keras_diffusion.cli import train

MNIST = f"--dataset mnist --data-dir '{DATA_DIR}'"


def images(*counts, **options):
    return lambda: class_folder(pathlib.Path("pets"), counts, **options)


def folder(*names):
    return lambda: [pathlib.Path(name).mkdir(parents=True) for name in names]


def image(*paths, **options):
    return lambda: [save_image(pathlib.Path(path), **options) for path in paths]


def two_sizes():
    image("pets/8.png", size=(8, 8))()
    image("pets/16.png", size=(16, 16))()


# (arguments, the flag that is named, what prepares the folder or None)
CALLS = [
    # values
    ("--epochs many", "--epochs", None),
    ("--minutes nan", "--minutes", None),
    ("--schedule quick", "--schedule", None),
    ("--image-size 64x", "--image-size", None),
    ("--dataset ''", "--dataset", None),
    ("--frobnicate", "--frobnicate", None),
    ("--set dropout", "--set", None),
    ("--set wings=2", "--set", None),
    ("--set dropout=high", "--set dropout", None),
    ("--set 'guidance_interval=(0.8,0.1)'", "--set guidance_interval", None),
    # values that contradict each other
    ("--epochs 3 --set epochs=4", "--epochs", None),
    ("--epochs 3 --minutes 2", "--epochs", None),
    ("--image --folder .", "--image", None),
    ("--dataset digits --set image=x", "--image", None),
    ("--latent --image", "--latent", None),
    # sizes that the network does not take
    ("--image-size 7", "--image-size", None),
    ("--latent --image-size 10 --set widths=(8,8)", "--image-size", None),
    ("--image --crop-size 20", "--crop-size", None),
    ("--image --network cnn", "--network", None),
    ("--folder pets", "--image-size", images(2, 2, size=(1, 1))),
    # data sets
    ("--dataset mnits", "--dataset", None),
    ("--dataset ../../etc", "--dataset", None),
    ("--dataset mnist/nope", "--dataset", None),
    ("--dataset mnist:9.9.9", "--dataset", None),
    ("--dataset mnist --data-dir x", "data_dir", file("x")),
    ("--train-split train", "--train-split", None),
    ("--balance classes --unconditional", "balance", None),
    ("--image --score-every 1 --set score_extractor=inception", "--score-every", None),
    # images
    ("--image x.jpg", "--image", None),
    ("--image pets", "--image", folder("pets")),
    ("--image rose.jpg", "--image", file("rose.jpg", "hello")),
    ("--image rose.png", "--image", image("rose.png")),
    ("--image --balance classes", "--image", None),
    ("--image --train-split train", "--image", None),
    ("--folder pets", "--folder", None),
    ("--folder pets", "--folder", file("pets")),
    ("--folder pets/cats", "--folder", file("pets")),
    ("--folder pets", "--folder", folder("pets")),
    ("--folder pets", "--folder", folder("pets/cats", "pets/dogs")),
    ("--folder pets", "--folder", file("pets/a/notes.txt", "hello")),
    ("--folder pets", "--folder", file("pets/a.png")),
    ("--folder pets", "--folder", images(1)),
    ("--folder pets", "--folder", images(1, 1, 1)),
    ("--folder pets", "--image-size", two_sizes),
    ("--folder pets --balance classes", "--folder", image("pets/0.png", "pets/1.png")),
    ("--folder pets --train-split train", "--folder", images(2, 2)),
    # other files
    ("--latent --codec old", "--codec", None),
    ("--latent --codec a.keras", "--codec", file("a.keras", "x")),
    ("--start-from runs/x", "--start-from", None),
    ("--start-from thesis", "--start-from", other_files),
    ("--run-dir x", "--run-dir", file("x")),
    ("--run-dir x/y", "--run-dir", file("x")),
    ("--run-dir ''", "--run-dir", None),
    (f"--run-dir {'x' * 300}", "--run-dir", None),
    ("--export-dir x/y", "--export-dir", file("x")),
    ("--export-dir thesis", "--export-dir", other_files),
    # runs
    ("--resume", "--resume", None),
    ("--resume old", "--resume", None),
    ("--resume old", "--resume", file("old")),
    ("--resume old", "--resume", other_files),
    ("--resume a --run-dir b", "--run-dir", None),
    ("--resume old", "config.json", file("old/config.json")),
    ("--resume old", "config.json", file("old/config.json", '{"config": {"epochs": 5, ')),
    ("--resume old", "config.json", file("old/config.json", '{"name": "another program"}')),
    ("--resume old", "config.json", file("old/config.json", "[" * 100_000)),
    ("--resume old", "config.json", run_with({"wings": 2})),
    ("--resume old --seed 5", "--seed", run_with({"dataset": "digits"})),
]
SPLITS = [
    "--train-split trian --val-split test",
    "--train-split 'train[80' --val-split test",
    "--train-split 'train[:0]' --val-split test",
    "--train-split train",
]


def rejected(arguments, flag, capsys):
    check(train.main, f"{arguments} --dry-run", rf"{re.escape(flag)}(?![\w-])", capsys)


@pytest.mark.parametrize(("arguments", "flag", "prepare"), CALLS)
def test_a_bad_call_is_rejected(arguments, flag, prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if prepare:
        prepare()
    rejected(arguments, flag, capsys)


@needs("mnist")
@pytest.mark.parametrize("arguments", SPLITS)
def test_bad_splits_are_rejected(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rejected(f"{MNIST} {arguments}", "--dataset mnist", capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("flag", ["--run-dir", "--export-dir"])
def test_a_folder_without_write_access_is_rejected(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("shut").mkdir(mode=0o500)
    rejected(f"{flag} shut/x", flag, capsys)
