"""The model card of an export: what it says, and what of it survives a change."""

import dataclasses
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.config.resolve import resolve
from keras_diffusion.saving import export_folder, model_card

CLASSES = ("ant", "bee", "c|a*t")
TRAINED_WITH = resolve(None, {"folder": "/home/ann/my pets", "minutes": 5.0, "image_size": (4, 4)})
FACTS = {
    "config": dataclasses.asdict(TRAINED_WITH),
    "data": {"training images": 1200, "training split": "80%", "validation images": 300,
             "validation split": "20%"},
    "length": {"images": 64000, "steps": 1000, "batch size": 64, "minutes": 5.0},
    "hardware": "AVX2, 2 cores",
}  # fmt: skip
CONFIG = export_folder.ExportConfig(
    image_shape=(4, 4, 3), codec={"kind": "pixels"}, num_classes=3,
    class_names=CLASSES, prompts=None,
    schedule="cosine", prediction_type="v", samplers=("ddim",), sampler="ddim", num_steps=2,
    guidance=Guidance(2.0), training=FACTS, versions={}, parameters=1000,
)  # fmt: skip
UNLABELLED = {"num_classes": 0, "class_names": (), "guidance": Guidance()}


@pytest.fixture
def card(tmp_path):
    """A function that writes the card of an export in name only, and returns its text."""

    def write(scores=None, **changes):
        export_folder.write(dataclasses.replace(CONFIG, **changes), tmp_path)
        path = model_card.write(tmp_path, "my pets", scores)
        return path and path.read_text()

    return write


def test_the_card_of_a_real_export(export):
    text = (export[1] / "README.md").read_text()
    assert "\n# tiny\n" in text and "\nlicense: cc-by-4.0\n" in text
    assert "\npython train.py --dataset digits --set " in text
    assert f"{export[0].network.count_params()} parameters" in text
    with Image.open(export[1] / "samples.png") as sheet:
        assert sheet.width > 400 and np.asarray(sheet).std() > 20


@pytest.mark.parametrize(
    ("changes", "task"),
    [({}, "unconditional-image-generation"), (UNLABELLED, "unconditional-image-generation"),
     ({"prompts": Prompts(CLASSES)}, "text-to-image"),
     ({"training": {"config": {"dataset": "mnist"}}}, "unconditional-image-generation")],
)  # fmt: skip
def test_the_metadata_is_what_the_hub_reads(card, changes, task):
    _, block, _ = card(**changes).split("---\n", 2)
    line = r"(\w+: [\w.-]+|\w+:|- [\w./-]+)\n"
    assert re.fullmatch(f"({line})+", block)
    assert f"pipeline_tag: {task}\n" in block
    is_mnist = "ylecun/mnist" in block
    assert is_mnist == ("dataset" in changes.get("training", {}).get("config", {}))
    assert ("license: cc-by-sa-3.0" if is_mnist else "license: unknown") in block


def test_it_says_on_what_and_how_long(card):
    text = card()
    for part in ("ant, bee, c\\|a\\*t", "4x4 pixels in RGB", "ask the owner of the images", "1,200",
                 "64,000, in 1,000 steps of 64", "5 min", "AVX2, 2 cores", "1,000 parameters",
                 "python sample.py --model 'my pets' --class-name ant", 'kd.load("my pets")',
                 "--folder 'my pets' --image-size 4 --minutes 5"):  # fmt: skip
        assert part in text, part
    assert "/home" not in text, "it may be published"
    assert "was not examined" in text


def test_clips(card):
    text = card(frames=3, **UNLABELLED)
    assert "clips of 3 frames of 4x4 pixels in grey" in text and "split_frames(images, 3)" in text
    assert "evaluate.py" not in text, "it rejects them"


def test_what_is_unknown_is_left_out(card):
    text = card(training={"config": {"dataset": "kmnist", "of_a_later_version": 1}}, parameters=0)
    assert "train.py" not in text and "catalog/kmnist" in text
    assert "does not say what the model was trained on" in card(training={})


def test_other_text_survives_new_scores(card, tmp_path):
    file = tmp_path / "README.md"
    text = card().replace("license: unknown", "license: mit").replace("# my pets", "# changed")
    file.write_text(f"{text}\n## Notes\n\nof the owner\n")
    scored = card(scores="| FID |\n| 3.2 |\n")
    assert "license: mit" in scored and scored.endswith("\n## Notes\n\nof the owner\n")
    assert "| FID |\n| 3.2 |\n" in scored and "changed" not in scored
    assert "was not examined" not in scored
    assert card() == scored, "the scores are kept"
    file.unlink()
    assert "| FID |" in card(), "also if the card is made again"
    file.write_text("my own page")
    assert card(scores="new") is None and file.read_text() == "my own page"


def test_a_new_export_takes_over_the_text_of_the_owner(card, tmp_path):
    file, new = tmp_path / "README.md", tmp_path / "new"
    new.mkdir()
    export_folder.write(dataclasses.replace(CONFIG, **UNLABELLED), new)

    def replacing():
        (new / "README.md").unlink(missing_ok=True)
        model_card.write(new, "my pets", replaces=tmp_path)
        return (new / "README.md").read_bytes()

    text = card(scores="| FID |\n")
    assert b"of 3 classes" not in replacing() and b"FID |" not in replacing(), "another model"
    assert replacing().startswith(text.encode()[:20])
    export_folder.write(dataclasses.replace(CONFIG, prompts=Prompts(CLASSES)), new)
    assert b"pipeline_tag: text-to-image" in replacing(), "the head was not edited: it is new"
    file.write_bytes(text.replace("license: unknown", "license: mit").encode() + b"\nby Zo\xeb\n")
    assert b"license: mit" in replacing() and replacing().endswith(b"\nby Zo\xeb\n")
    file.write_text("my own page")
    assert replacing() == b"my own page"


def sheet(seconds, monkeypatch, **changes):
    """(sheet, calls) with images whose shade tells the label and the seed."""
    clock, calls = SimpleNamespace(now=100.0), []

    def generate(num_images, *, seed, labels, **options):
        calls.append({"seed": seed, "labels": labels, **options})
        clock.now += seconds
        shades = 80 * np.asarray(labels or [0] * num_images) + 10 * seed
        return np.broadcast_to(shades[:, None, None, None], (num_images, 4, 4, 3)).astype("uint8")

    monkeypatch.setattr(model_card.time, "monotonic", lambda: clock.now)
    return model_card.sample_sheet(dataclasses.replace(CONFIG, **changes), generate), calls


def test_samples_are_a_class_in_each_row_and_a_seed_in_each_column(monkeypatch):
    page, calls = sheet(0.1, monkeypatch)
    assert [call["seed"] for call in calls] == list(range(8))
    assert calls[0] == {
        "seed": 0, "labels": [0, 1, 2], "sampler": "ddim", "num_steps": 2,
        **Guidance(2.0).options(),
    }  # fmt: skip
    grey = np.asarray(page.convert("L"))
    tops = [np.median(np.argwhere(grey == 80 * row + 70), axis=0)[0] for row in range(3)]
    lefts = [np.median(np.argwhere(grey == 80 + 10 * seed), axis=0)[1] for seed in range(8)]
    assert tops == sorted(tops) and lefts == sorted(lefts)


def test_many_classes_are_spread_and_slow_models_get_fewer_columns(monkeypatch):
    names = tuple(map(str, range(102)))
    _, calls = sheet(2.0, monkeypatch, num_classes=102, class_names=names)
    assert calls[0]["labels"] == [0, 12, 25, 38, 51, 63, 76, 89] and len(calls) == 4
    _, calls = sheet(60.0, monkeypatch, **UNLABELLED)
    assert len(calls) == 2 and calls[0]["labels"] is None and "guidance_scale" not in calls[0]


def test_a_copied_folder_has_the_name_it_has_now(export, tmp_path):
    path = shutil.copytree(export[1], tmp_path / "renamed")
    model_card.write(path)
    assert "\n# renamed\n" in (path / "README.md").read_text()


# The models that come with keras_diffusion ----------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "oxford_flowers102"])
def test_a_shipped_model_is_marked_small_scored_and_in_the_wheel(name):
    path = export_folder.BESIDE / name
    assert export_folder.read(path).shipped
    files = [file for file in path.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 16e6
    assert "| real, held out |" in (path / "README.md").read_text()
    settings = (ROOT / "pyproject.toml").read_text()
    globs = re.findall(rf'"(saved_models/{name}/[^"]*\*[^"]*)"', settings)
    in_wheel = {file for pattern in globs for file in ROOT.glob(pattern)}
    assert set(files) <= in_wheel
