"""config.json and the lock of a run's folder."""

import contextlib
import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.config.options import Config
from keras_diffusion.training.run_dir import check_data, locked, write_config, write_history


def run_of(folder, config=None, **options):
    source = {"num_train": 10, "num_val": 4, "class_names": ("cat", "dog"), **options}
    source = SimpleNamespace(train_split="train[:80%]", val_split="train[80%:]", **source)
    data = SimpleNamespace(source=source)
    return SimpleNamespace(
        config=config or Config(), data=data, dir=folder, decided=("channels",), batch_size=8
    )


def test_config_json(tmp_path):
    write_config(run_of(tmp_path, Config(widths=(8, 16))))
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["widths"] == [8, 16]
    assert record["splits"] == {"train": "train[:80%]", "validation": "train[80%:]"}
    facts = {"training images": 10, "validation images": 4, "classes": ["cat", "dog"]}
    assert record["data"] == facts
    assert sorted(record["versions"]) == ["keras", "keras_diffusion", "python", "tensorflow"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 11}, "training images is 11, but was 10"),
        ({"num_val": 3}, "validation images is 3, but was 4"),
        ({"class_names": ("dog", "cat")}, r"classes is \['dog', 'cat'\]"),
        ({"class_names": tuple("123456789")}, r"classes is 9 names, but was \['cat', 'dog'\]"),
    ],
)
def test_a_run_is_not_resumed_with_other_data(tmp_path, change, message):
    write_config(run_of(tmp_path))
    check_data(run_of(tmp_path))
    with pytest.raises(ValueError, match=f"--resume: .*{message}"):
        check_data(run_of(tmp_path, **change))


def test_a_run_whose_classes_were_splits_is_not_resumed(tmp_path):
    write_config(run_of(tmp_path, class_names=("test", "train")))
    with pytest.raises(ValueError, match="--resume: the data is read differently now: test, train"):
        check_data(run_of(tmp_path))


def test_a_run_is_not_resumed_with_another_image(tmp_path):
    runs = []
    for name, gray in (("one", 7), ("moved", 7), ("other", 8)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.full((16, 24, 3), gray, "uint8")).save(path)
        runs.append(run_of(tmp_path, Config(image=str(path))))
    write_config(runs[0])
    check_data(runs[1])
    with pytest.raises(ValueError, match="--resume: .* 16x24, hash .*, but was 16x24, hash"):
        check_data(runs[2])


def test_a_folder_is_locked_once(tmp_path):
    for _ in range(2):  # the lock ends with its block
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(tmp_path / "run"))
            with pytest.raises(ValueError, match="--run-dir: .*in use"):
                stack.enter_context(locked(tmp_path / "run"))


def test_history_is_a_table_of_every_bit(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-12, "fid": 3.0}]
    write_history(rows, tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in read] == [0.1 + 0.2, 1e-12]
    assert [row["fid"] for row in read] == ["", "3.0"]
    write_history([], tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "epoch\n"
