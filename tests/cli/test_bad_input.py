"""Bad calls and bad files: each ends with exit code 2 and one line that names what is wrong and
what would be right, and leaves the folder as it was.

sample.py is in test_bad_exports.py, single pictures in test_bad_data.py, what `fit` refuses in
test_batches.py.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from fixtures_data import DATA_DIR, class_folder, needs, save_picture
from fixtures_input import check, contents, file, saved, thesis

import train

ROOT = pathlib.Path(__file__).resolve().parents[2]
MNIST = f"--dataset mnist --data-dir '{DATA_DIR}' --dry-run"


def pictures(counts, **options):
    return lambda: class_folder(pathlib.Path("pets"), counts, **options)


def several_sizes():
    for side in (8, 16):
        save_picture(pathlib.Path(f"pets/{side}.png"), size=(side, side))


def empty_classes():
    for name in ("cats", "dogs"):
        pathlib.Path("pets", name).mkdir(parents=True)


# (name, arguments, what the line must say, what prepares the folder or None)
TRAIN = [
    # of the wrong type
    ("epochs: a word", "--epochs many", "--epochs: invalid int value: 'many'", None),
    ("epochs: a fraction", "--epochs 1.5", "--epochs: invalid int value: '1.5'", None),
    ("minutes: a word", "--minutes long", "--minutes: invalid float value: 'long'", None),
    ("seed: a word", "--seed lucky", "--seed: invalid int value: 'lucky'", None),
    ("set: no value", "--set dropout", "'dropout' is not KEY=VALUE.*dropout", None),
    ("set: no key", "--set =3", "'=3' is not KEY=VALUE with one of the keys: dataset", None),
    ("set: nothing", "--set ''", "'' is not KEY=VALUE", None),
    ("set: unknown key", "--set wings=2", "wings=2.*one of the keys:.*widths", None),
    ("set: a word", "--set dropout=high", "dropout=high' is not a number", None),
    ("set: a bool", "--set block_depth=True", "block_depth=True' is not a whole number", None),
    ("set: a number", "--set widths=64", r"widths=64' is not a tuple such as \(64, 64\)", None),
    ("set: a side", "--set image_size=32", "image_size=32' is not a tuple such as", None),
    ("set: yes", "--set horizontal_flip=yes", "is not True or False or None", None),
    ("set: code", "--set 'widths=exit(3)'", "widths=exit.*is not a tuple such as", None),
    ("set: 400 digits", f"--set dropout={'9' * 400}", "is not a number", None),
    # out of range
    ("epochs 0", "--epochs 0", "--epochs: 0 must be at least 1", None),
    ("epochs -1", "--epochs -1", "--epochs: -1 must be at least 1", None),
    ("epochs beyond int32", f"--epochs {10**20}", "must be .* at most 2147483647", None),
    ("minutes 0", "--minutes 0", "--minutes: 0.0 must be above 0", None),
    ("minutes nan", "--minutes nan", "--minutes: nan must be above 0", None),
    ("minutes inf", "--minutes inf", "--minutes: inf must be above 0 and at most", None),
    ("batch size", "--batch-size -3", "--batch-size: -3 must be at least 1", None),
    ("batch size, huge", f"--batch-size {10**30}", "--batch-size: 1000.*at most 2147", None),
    ("limit", "--limit 0", "--limit: 0 must be at least 1", None),
    ("limit, huge", f"--limit {10**30}", "--limit: 1000.* at most 2147483647", None),
    ("learning rate 0", "--learning-rate 0", "--learning-rate: 0.0 must be above 0", None),
    ("learning rate nan", "--learning-rate nan", "--learning-rate: nan must be above 0", None),
    ("learning rate inf", "--learning-rate inf", "--learning-rate: inf .* at most 1", None),
    ("seed -1", "--seed -1", "--seed: -1 must be at least 0", None),
    ("seed beyond int32", f"--seed {2**31}", "--seed: 2147483648 .* at most 2147483647", None),
    ("channels", "--channels 2", "--channels.*2.*1, 3, 4", None),
    ("dropout", "--set dropout=1.5", r"--dropout: 1.5 must be in \[0, 1\)", None),
    ("dropout inf", "--set dropout=1e999", r"--dropout: inf must be in \[0, 1\)", None),
    ("weight decay", "--set weight_decay=-1", "--weight-decay: -1.0 must be at least 0", None),
    ("weight decay inf", "--set weight_decay=1e999", "--weight-decay: inf .* at most 1", None),
    ("guidance", "--set guidance_scale=-5", "--guidance-scale: -5.0 must be at least 0", None),
    ("guidance inf", "--set guidance_scale=1e999", "--guidance-scale: inf .*at most 100", None),
    ("interval, upside down", "--set 'guidance_interval=(0.8,0.1)'",
     r"--guidance-interval: \(0.8, 0.1\) must be two times, 0 <= low <= high <= 1", None),
    ("interval, beyond 1", "--set 'guidance_interval=(0,2)'", "interval.*must be two times", None),
    ("interval, below 0", "--set 'guidance_interval=(-1,1)'", "interval.*must be two times", None),
    ("interval, three", "--set 'guidance_interval=(0,.5,1)'", "interval.*must be two times", None),
    ("interval, one", "--set guidance_interval=0.5", "guidance_interval=0.5' is not a tuple", None),
    ("interval, none", "--set guidance_interval=None", "interval=None' is not a tuple", None),
    ("interval, inf", "--set 'guidance_interval=(0,1e999)'", "inf\\) must be two times", None),
    ("interval, words", "--set \"guidance_interval=('a','b')\"", "must be two times", None),
    ("interval, bools", "--set 'guidance_interval=(False,True)'", "must be two times", None),
    ("clip norm inf", "--set clip_norm=1e999", "--clip-norm: inf .* at most", None),
    ("checkpoints inf", "--set checkpoint_minutes=1e999", "inf .* at most 1000000", None),
    ("num steps", "--set num_steps=1001", "--num-steps: 1001 .* at most 1000", None),
    ("widths, none", "--set widths=()", r"--widths: \(\) must be channels", None),
    ("widths, huge", f"--set widths=({10**9},)", "--widths.* 1 to 16384", None),
    ("widths, words", "--set widths=('a','b')", r"widths=.* is not a tuple such as", None),
    ("attention, values", "--set attention=(2,3)", "--attention.*must be True or False", None),
    ("cnn, depth", "--network cnn --set block_depth=2", "--block-depth: .*'cnn' has no", None),
    ("cnn, remat", "--network cnn --remat", "--remat: .*takes widths, embedding_width", None),
    ("attention, too few", "--set attention=(False,)", "must be one for each of the widths", None),
    ("embedding, huge", f"--set embedding_width={10**12}", "at most 16384", None),
    # sizes
    ("size 0", "--image-size 0", "--image-size: '0' is not a size such as 64 or 48x64", None),
    ("size -8", "--image-size -8", "'-8' is not a size such as 64", None),
    ("size ''", "--image-size ''", "'' is not a size such as 64", None),
    ("size 8x", "--image-size 8x", "'8x' is not a size such as 64", None),
    ("size 8x8x8", "--image-size 8x8x8", "'8x8x8' is not a size such as 64", None),
    ("size ²", "--image-size ²", "'²' is not a size such as 64", None),
    ("size 1", "--image-size 1", "1x1: .* multiples of 2. Nearest: 2x2", None),
    ("size 7", "--image-size 7", "7x7: .* multiples of 2. Nearest: 6x6 or 8x8", None),
    ("size 10000", "--image-size 10000", "--image-size: .*10000.* 1 to 4096 pixels", None),
    ("size ()", "--set 'image_size=()'", "--image-size: .* two sides of 1 to 4096", None),
    ("size () of flowers", "--dataset oxford_flowers102 --set 'image_size=()'",
     "--image-size: .* two sides of 1 to 4096", None),
    ("size of latents", "--latent --image-size 10 --set widths=(8,8)",
     "10x10: .* multiples of 4. Nearest: 8x8 or 12x12", None),
    # latents
    ("codec alone", "--codec runs/old", "--codec: is for latents; give it with --latent", None),
    ("its widths alone", "--set codec_widths=(8,)", "--codec-widths: is for latents", None),
    ("its widths, trained", "--latent --codec old --set codec_widths=(8,)",
     "--codec-widths: is for an autoencoder to be trained", None),
    ("latents of one picture", "--latent --image", "--latent: not allowed with --image", None),
    ("crops of latents", "--latent --crop-size 8", "--crop-size: is for crops of one pict", None),
    ("codec, missing", "--latent --codec old", "--codec: there is no autoencoder.keras in old",
     None),
    ("codec, damaged", "--latent --codec a.keras", "--codec: a.keras cannot be loaded",
     file("a.keras", "x")),
    ("codec widths", "--set codec_widths=()", r"--codec-widths: \(\) must be channels", None),
    ("share of the codec", "--set codec_share=1", "--codec-share: 1.0 .* at most 0.9", None),
    ("latent channels", "--set latent_channels=0", "--latent-channels: 0 must be at least", None),
    # names
    ("data set", "--dataset mnits", "unknown data set 'mnits'; did you mean .*mnist", None),
    ("data set ''", "--dataset ''", "--dataset: is empty; give a value or leave", None),
    ("data set ..", "--dataset ../../etc", "unknown data set .*; the presets are digits", None),
    ("variant", "--dataset mnist/nope", "cannot open .*mnist/nope.*nope not found", None),
    ("version", "--dataset mnist:9.9.9", "9.9.9, only: [0-9.]+", None),
    ("schedule", "--schedule quick", "--schedule.*quick.*cosine", None),
    ("prediction type", "--prediction-type z", "--prediction-type.*'z'.*eps", None),
    ("precision", "--precision float16", "--precision.*'float16'.*float32", None),
    ("sampler", "--set sampler=dpm", "--sampler: unknown 'dpm'. Choose from: cold", None),
    ("flag", "--frobnicate", "unrecognized arguments: --frobnicate", None),
    # one picture
    ("image, missing", "--image x.jpg", "--image x.jpg: there is no picture .x.jpg.", None),
    ("image ''", "--image ''", "--image: is empty; give a value", None),
    ("image, a folder", "--image pets", "'pets' cannot be read: not a file",
     lambda: pathlib.Path("pets").mkdir()),
    ("image, text", "--image rose.jpg", "cannot be read: not a picture by its content",
     file("rose.jpg", "hello")),
    ("image, tiny", "--image rose.png", "10x8? .*smaller than 16x16|8x10 .*smaller than 16x16",
     lambda: save_picture(pathlib.Path("rose.png"))),
    ("image, crops of 20", "--image --crop-size 20", "--crop-size: .*20x20.* Nearest: 16x16 or 24",
     None),
    ("image, cnn", "--image --network cnn", "--network: 'cnn' has weights for each pixel", None),
    ("image, scores", "--image --score-every 1 --set score_extractor=inception",
     "--score-every: one picture is no data set to score against", None),
    ("image, labels", "--image --balance classes", "'flower' has none", None),
    ("image, splits", "--image --train-split train", "for tfds data sets.*one image is not", None),
    ("scores of none", "--set score_num=50", "--score-num: is for scores; give --score-ev", None),
    ("start, missing", "--start-from runs/x", "--start-from: runs/x does not exist", None),
    ("start, a thesis", "--start-from thesis", "--start-from: thesis is neither an export nor",
     thesis),
    ("image and folder", "--image --folder .", "--folder.*not allowed with.*--image", None),
    ("image and data, by set", "--dataset digits --set image=x", "--dataset: not allowed w", None),
    ("crops of many", "--dataset digits --crop-size 8", "--crop-size: is for crops of one", None),
    # contradicting
    ("two data", "--dataset digits --folder .", "--folder.*not allowed with.*--dataset", None),
    ("two data, by set", "--dataset digits --set folder=x", "--dataset: not allowed with", None),
    ("two lengths", "--epochs 3 --minutes 2", "--minutes.*not allowed with.*--epochs", None),
    ("two lengths, by set", "--epochs 3 --set minutes=2", "--epochs: not allowed with --m", None),
    ("two values", "--epochs 3 --set epochs=4", "epochs=4' contradicts 3; give one", None),
    ("two settings", "--set epochs=3 --set epochs=4", "'epochs=4' contradicts 3", None),
    ("guidance what", "--unconditional --set guidance_scale=3", "--guidance-scale: is for l", None),
    ("balance what", "--balance classes --unconditional", "needs labels, and 'digits' has", None),
    ("splits of digits", "--train-split train", "--train-split .* tfds.*digits .* 80/20", None),
    # paths
    ("folder, missing", "--folder pets", "there is no folder 'pets'", None),
    ("folder ''", "--folder ''", "--folder: is empty; give a value", None),
    ("folder, a file", "--folder pets", "'pets' is a file, not a folder", file("pets")),
    ("folder in a file", "--folder pets/cats", "no folder 'pets/cats'", file("pets")),
    ("folder, empty", "--folder pets", "no readable picture .*takes .png, .jpg",
     lambda: pathlib.Path("pets").mkdir()),
    ("folder, no pictures", "--folder pets", "skipped a/notes.txt: not a picture by its name",
     file("pets/a/notes.txt", "hello")),
    ("folder, a dying disk", "--folder pets", "skipped a.png: an empty file", file("pets/a.png")),
    ("folder, empty classes", "--folder pets", "no readable picture.*cats: a folder without files",
     empty_classes),
    ("folder, one picture", "--folder pets", "no two pictures of one class.*give each",
     pictures([1])),
    ("folder, one of each", "--folder pets", "no two pictures of one class.*two or more",
     pictures([1, 1, 1])),
    ("folder, sizes", "--folder pets", "differ in size; give --image-size", several_sizes),
    ("folder, tiny pictures", "--folder pets", "1x1: .* multiples of 4. Nearest: 4x4",
     pictures([2, 2], size=(1, 1))),
    ("folder, balance", "--folder pets --balance classes", "balance='classes' needs labels",
     lambda: [save_picture(pathlib.Path(f"pets/{i}.png")) for i in range(4)]),
    ("folder, splits", "--folder pets --train-split train", "for tfds data sets; .*folders are cut",
     pictures([2, 2])),
    ("data dir, a file", "--dataset mnist --data-dir x", "data_dir 'x' is a file; give the folder",
     file("x")),
    ("run dir, a file", "--run-dir x", "--run-dir: 'x' is not a folder.* a file", file("x")),
    ("run dir in a file", "--run-dir x/y", "'x/y' is not a folder to write to: .*x is a file",
     file("x")),
    ("run dir ''", "--run-dir ''", "--run-dir: '' is not a folder to write to: it is empty", None),
    ("run dir, too long", f"--run-dir {'x' * 300}", "File name too long", None),
    ("export dir, a file", "--export-dir x", "--export-dir: 'x' is not a folder", file("x")),
    ("export dir in a file", "--export-dir x/y", "x is a file", file("x")),
    ("export dir, a thesis", "--export-dir thesis",
     "thesis: is not empty and not a SavedModel; it is left as it is", thesis),
    # a run to resume
    ("resume, missing", "--resume old", "--resume: there is no run in old", None),
    ("resume, no newest", "--resume", "--resume: there is no run with a checkpoint in runs/", None),
    ("resume, a file", "--resume old", "there is no run in old", file("old")),
    ("resume, another folder", "--resume thesis", "there is no run in thesis", thesis),
    ("resume and run dir", "--resume a --run-dir b", "--run-dir: --resume names the run", None),
    ("config, empty", "--resume old", "old/config.json: is not the configuration of a run",
     file("old/config.json")),
    ("config, truncated", "--resume old", "is not the configuration of a run, as train.py writes",
     file("old/config.json", '{"config": {"epochs": 5, ')),
    ("config, a list", "--resume old", "is not the configuration", file("old/config.json", "[]")),
    ("config, a number inside", "--resume old", "is not the configuration",
     file("old/config.json", '{"config": 3}')),
    ("config, another program's", "--resume old", "is not the configuration .*KeyError: 'config'",
     file("old/config.json", '{"name": "webapp"}')),
    ("config, not text", "--resume old", "is not the configuration .*UnicodeDecodeError",
     file("old/config.json", b"\xff\xfe\x00")),
    ("config, too deep", "--resume old", "is not the configuration .*RecursionError",
     file("old/config.json", "[" * 100_000)),
    ("config, unknown keys", "--resume old", "unknown options 'tails', 'wings'; go on with the",
     saved({"wings": 2, "tails": 1})),
    ("config, word", "--resume old", "config.json: --epochs: 'ten' is not a whole number",
     saved({"epochs": "ten"})),
    ("config, null", "--resume old", "--epochs: None is not a whole number",
     saved({"epochs": None})),
    ("config, fraction", "--resume old", "--epochs: 1.5 is not a whole number",
     saved({"epochs": 1.5})),
    ("config, side", "--resume old", "--image-size: 8 is not a tuple", saved({"image_size": 8})),
    ("config, name", "--resume old", "--dataset: 7 is not text", saved({"dataset": 7})),
    ("config, nan", "--resume old", "--weight-decay: nan must be at least 0",
     saved({"weight_decay": float("nan")})),
    ("config, choice", "--resume old", "--schedule: unknown 'quick'. Choose from: con",
     saved({"schedule": "quick"})),
    ("resume otherwise", "--resume old --seed 5", "--seed: 5 contradicts 0 of old/config.json",
     saved({"dataset": "digits"})),
]  # fmt: skip
SPLITS = [  # of a prepared data set
    ("unknown", "--train-split trian --val-split test", "bad split 'trian' .* are train, test"),
    (
        "open",
        "--train-split 'train[80' --val-split test",
        r"bad split .*write for example 'train\[:80%\]'",
    ),
    ("empty", "--train-split 'train[:0]' --val-split test", "has no images; 'mnist' has train"),
    ("one of two", "--train-split train", "give both --train-split and --val-split, or neither"),
]


@pytest.mark.parametrize(
    ("arguments", "pattern", "prepare"), [row[1:] for row in TRAIN], ids=[row[0] for row in TRAIN]
)
def test_train(arguments, pattern, prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if prepare:
        prepare()
    check(train.main, f"{arguments} --dry-run", pattern, capsys)  # what is not refused ends soon


@needs("mnist")
@pytest.mark.parametrize(
    ("arguments", "pattern"), [row[1:] for row in SPLITS], ids=[row[0] for row in SPLITS]
)
def test_train_splits(arguments, pattern, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check(train.main, f"{MNIST} {arguments}", pattern, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("flag", ["--run-dir", "--export-dir"])
def test_train_where_nothing_may_be_written(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("shut").mkdir(mode=0o500)
    check(train.main, f"{flag} shut/x", f"{flag}: .*shut is not writable", capsys)


# As a user meets it: another process ------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        ("train.py --set dropout=nan", "dropout=nan' is not a number"),
        ("train.py --image-size 7 --dry-run --precision float32", "7x7: .*Nearest: 6x6 or 8x8"),
        ("sample.py --model nowhere", "--model: nowhere does not exist; give the folder"),
    ],
)
def test_in_a_process(command, pattern, tmp_path):
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    ours = [line for line in done.stderr.splitlines() if line.startswith(f"{script}: error: ")]
    assert len(ours) == 1, done.stderr
    assert re.search(pattern, ours[0]), ours
    assert "Traceback" not in done.stderr + done.stdout
    assert not contents(tmp_path)
