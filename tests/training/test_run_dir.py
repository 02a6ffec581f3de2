"""config.json and the lock of a run's folder."""

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.config.options import Config
from keras_diffusion.training.run_dir import check_data, locked, write_config


def run_of(folder, config=None, num_train=10, num_val=4, class_names=("cat", "dog")):
    source = SimpleNamespace(
        num_train=num_train,
        num_val=num_val,
        class_names=class_names,
        train_split="train[:80%]",
        val_split="train[80%:]",
    )
    data = SimpleNamespace(source=source)
    return SimpleNamespace(config=config or Config(), data=data, dir=folder)


def test_config_json(tmp_path):
    run = run_of(tmp_path, Config(widths=(8, 16)))
    write_config(run)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["widths"] == [8, 16]
    assert record["splits"] == {"train": "train[:80%]", "validation": "train[80%:]"}
    assert record["data"] == {
        "training images": 10,
        "validation images": 4,
        "classes": ["cat", "dog"],
    }
    assert sorted(record["versions"]) == ["keras", "keras_diffusion", "python", "tensorflow"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    check_data(run)


NAMES = tuple(f"class {number}" for number in range(9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 11}, "training images is 11, but was 10"),
        ({"num_val": 3}, "validation images is 3, but was 4"),
        ({"class_names": ("dog", "cat")}, r"classes is \['dog', 'cat'\]"),
        ({"class_names": NAMES}, r"classes is 9 names, but was \['cat', 'dog'\]"),
    ],
)
def test_a_run_is_not_resumed_with_other_data(tmp_path, change, message):
    write_config(run_of(tmp_path))
    with pytest.raises(ValueError, match=f"--resume: .*{message}"):
        check_data(run_of(tmp_path, **change))


def test_a_run_is_not_resumed_with_another_image(tmp_path):
    for name, gray in (("one", 7), ("moved", 7), ("other", 8)):
        Image.fromarray(np.full((16, 24, 3), gray, "uint8")).save(tmp_path / f"{name}.png")
    one, moved, other = (
        run_of(tmp_path, Config(image=str(tmp_path / f"{name}.png")))
        for name in ("one", "moved", "other")
    )
    write_config(one)
    check_data(moved)
    with pytest.raises(ValueError, match="--resume: .* 16x24, hash .*, but was 16x24, hash"):
        check_data(other)


def test_a_folder_is_locked_once(tmp_path):
    for _ in range(2):  # the lock ends with its block
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(tmp_path / "run"))
            with pytest.raises(ValueError, match="--run-dir: .*in use"):
                stack.enter_context(locked(tmp_path / "run"))
