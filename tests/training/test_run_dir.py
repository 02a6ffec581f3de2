"""What a run writes down about itself, and who may write in its folder."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.config.options import Config
from keras_diffusion.training import run_dir


def source_of(num_train=10, num_val=4, class_names=("cat", "dog")):
    return SimpleNamespace(
        num_train=num_train,
        num_val=num_val,
        class_names=class_names,
        train_split="train[:80%]",
        val_split="train[80%:]",
    )


def test_what_is_written_down(tmp_path):
    run_dir.write(tmp_path, Config(widths=(8, 16)), source_of())
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
    run_dir.check_data(tmp_path, Config(), source_of())


NAMES = tuple(f"class {number}" for number in range(9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 11}, "the data has changed: training images is 11, and was 10 when"),
        ({"num_val": 3}, "the data has changed: validation images is 3, and was 4 when"),
        ({"class_names": ("dog", "cat")}, r"classes is \['dog', 'cat'\], and was \['cat', 'dog'\]"),
        ({"class_names": NAMES}, r"classes is 9 names, and was \['cat', 'dog'\] when"),
    ],
)
def test_a_run_is_not_resumed_with_other_data(tmp_path, change, message):
    run_dir.write(tmp_path, Config(), source_of())
    with pytest.raises(ValueError, match=f"--resume: .*{message}"):
        run_dir.check_data(tmp_path, Config(), source_of(**change))


def test_a_run_is_not_resumed_with_another_picture(tmp_path):
    for name, light in (("one", 7), ("moved", 7), ("other", 8)):
        Image.fromarray(np.full((16, 24, 3), light, "uint8")).save(tmp_path / f"{name}.png")
    one, moved, other = (
        Config(image=str(tmp_path / f"{name}.png")) for name in ("one", "moved", "other")
    )
    run_dir.write(tmp_path, one, source_of())
    run_dir.check_data(tmp_path, moved, source_of())
    with pytest.raises(ValueError, match="picture is 16x24, hash .*, and was 16x24, hash"):
        run_dir.check_data(tmp_path, other, source_of())


HOLD = """
import sys
from keras_diffusion.training import run_dir as records
with records.alone_in(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_for_one_process_until_that_has_ended(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        message = "--run-dir: .*run is in use by another run"
        with pytest.raises(ValueError, match=message), run_dir.alone_in(tmp_path / "run"):
            pytest.fail("two processes hold the folder")
        process.kill()
    for _ in range(2):  # a lock ends with its process, and with its block
        with run_dir.alone_in(tmp_path / "run"):
            pass
