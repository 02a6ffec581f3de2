"""The tab Edit without a browser: uploads, masks, and the same results as edit.py."""

import io
import re
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from fixtures_data import save_image
from PIL import Image, ImageSequence

from keras_diffusion.cli import edit as edit_command
from keras_diffusion.cli.app import edit, edit_form, edits
from keras_diffusion.cli.app.jobs import Cancelled, Progress
from keras_diffusion.data import decoding

FORM = {
    "ends": edit_form.IMAGES, "first": None, "second": None, "seed_a": 1, "seed_b": 2,
    "editor": None, "way": edit_form.NOISE, "strength": 0.6, "factor": edit_form.AUTOMATIC,
    "num": 3, "scale": 2.0, "steps": 0, "seed": 0, "prompt": "", "class": None,
    "from_prompt": "", "from_class": None,
}  # fmt: skip


def progress():
    return Progress(lambda *_, **__: None, threading.Event())


def painted(size, rows, columns, soft=0):
    """The painted layer over an image of size (height, width), as it is shown."""
    layer = np.zeros((*size, 4), "uint8")
    layer[rows, columns] = [255, 45, 143, 255]
    layer[..., 3] = np.maximum(layer[..., 3], soft)
    file = io.BytesIO()
    Image.fromarray(layer).save(file, "PNG")
    return file


def run(page, kind, model="words", **form):
    """The values of the results, as {name: value}; updates are replaced by their value."""
    values = edit._run(page, progress(), model, kind, {**FORM, **form})
    names = ("images", "animation", "lines", "command", "mask")
    values = [value["value"] if isinstance(value, dict) else value for value in values]
    return dict(zip(names, values, strict=True))


def upload(path, **options):
    save_image(path, **options)
    return str(path), path.name


# The same as edit.py --------------------------------------------------------------------------

CASES = {
    "inpaint": ("inpaint", {"prompt": "a bee", "seed": 4, "num": 3}),
    "inpaint without a prompt": ("inpaint", {"num": 1, "steps": 2}),
    "upscale": ("upscale", {"factor": "4", "scale": 3.5, "prompt": "an ant", "num": 1}),
    "restyle": ("restyle", {"prompt": "a bee", "strength": 0.35, "num": 2, "seed": -7}),
    "inversion": (
        "restyle",
        {
            "prompt": "a bee",
            "way": edit_form.INVERSION,
            "from_prompt": "an ant",
            "steps": 3,
            "num": 4,
        },
    ),
    "colorize": ("colorize", {"num": 2, "steps": 2}),
    "variations": ("variations", {"num": 3, "strength": 1.0, "steps": 2}),
    "two images": ("interpolate", {"num": 3, "steps": 2, "prompt": "--"}),
    "two seeds": ("interpolate", {"ends": edit_form.SEEDS, "seed_a": 5, "num": 2, "steps": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_shown_command_gives_the_same_results(case, page, exports, tmp_path, monkeypatch):
    kind, form = CASES[case]
    form = {**form, "first": upload(tmp_path / "my photo.png", size=(30, 20))}
    form["second"] = upload(tmp_path / "other.png", mode="L", size=(16, 16), seed=1)
    if form.get("prompt") == "--":
        form["prompt"] = ""
    if kind == "inpaint":
        form["editor"] = painted((20, 30), slice(4, 12), slice(6, 20))
    results = run(page, kind, **form)
    folder = tmp_path / "shell"
    shutil.copytree(exports / "saved_models", folder / "saved_models")
    for name in ("my photo.png", "other.png"):
        shutil.copy(tmp_path / name, folder / name)
    if results["mask"]:
        shutil.copy(results["mask"], folder / "mask.png")
    monkeypatch.chdir(folder)
    program, script, *arguments = shlex.split(results["command"])
    assert (program, script) == ("python", "edit.py")
    assert edit_command.main(arguments) == 0
    written = sorted(folder.glob("edits/*-[0-9]*.png"))
    mine = [path for path, caption in results["images"] if caption.startswith("result")]
    assert [Path(path).name for path in mine] == [path.name for path in written]
    for path, other in zip(mine, written, strict=True):
        np.testing.assert_array_equal(decoding.read(path), decoding.read(other))
    if kind == "interpolate":
        [gif] = folder.glob("edits/*.gif")
        assert Path(results["animation"]).read_bytes() == gif.read_bytes()
        with Image.open(gif) as image:
            assert len(list(ImageSequence.Iterator(image))) == form["num"]


def test_by_inversion_there_is_one_result_and_no_batch():
    values = {"model": "words", "num": 4, "to": "a bee", "source": "an ant"}
    words = edits.arguments("restyle", ["a.png"], **values, invert=True)
    assert words[words.index("--num") + 1] == "1" and "--batch-size" not in words
    assert "--batch-size" in edits.arguments("restyle", ["a.png"], **values)


def test_classes_instead_of_prompts(page, tmp_path):
    first = upload(tmp_path / "digit.png", mode="L", size=(8, 8))
    results = run(page, "variations", "tiny", first=first, **{"class": "digit 3"}, num=1)
    assert "--class-name 'digit 3'" in results["command"]
    results = run(page, "restyle", "tiny", first=first, **{"class": "digit 3"}, num=1, steps=2)
    assert "--to 'digit 3'" in results["command"]


# Uploads and masks ----------------------------------------------------------------------------


def test_known_pixels_are_unchanged_and_the_painted_ones_are_not(page, tmp_path):
    first = upload(tmp_path / "photo.png", size=(900, 640))
    scale = edits.SHOWN_SIDE / 900  # the editor shows a reduced image
    size = round(640 * scale), edits.SHOWN_SIDE
    editor = painted(size, slice(100, 200), slice(100, 300))
    results = run(page, "inpaint", first=first, editor=editor, num=1, steps=2)
    before, after = decoding.read(first[0]), decoding.read(results["images"][0][0])
    mask = decoding.read(results["mask"])[..., 0] == 255
    assert after.shape == before.shape and mask.shape == before.shape[:2]
    np.testing.assert_array_equal(after[~mask], before[~mask])
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    for found, expected in zip((rows, columns), ((100, 200), (100, 300)), strict=True):
        assert found[[0, -1]] == pytest.approx([each / scale for each in expected], abs=2)
    assert (after[mask] != before[mask]).mean() > 0.9
    assert "640x900" in results["lines"]


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_transparent_and_grey_images_keep_their_kind(mode, page, tmp_path):
    first = upload(tmp_path / "photo.png", mode=mode, size=(20, 20))
    editor = painted((20, 20), slice(4, 12), slice(4, 12))
    results = run(page, "inpaint", first=first, editor=editor, num=1, steps=2)
    with Image.open(results["images"][0][0]) as image:
        assert image.mode == mode and image.size == (20, 20)
        assert edits.shown(decoding.read(first[0])).mode == "RGB"


def test_a_photo_is_shown_upright(tmp_path):
    pixels = save_image(tmp_path / "photo.jpg", size=(20, 10), quality=100)
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
    name, read = edits.read_upload((str(tmp_path / "photo.jpg"), "photo.jpg"))
    assert name == "photo.jpg" and read.shape == (20, 10, 3)
    assert edits.shown(read).size == (10, 20)


def test_soft_edges_of_the_brush_and_an_empty_canvas():
    mask = edits.painted_mask(painted((8, 8), slice(2, 4), slice(2, 4), soft=20), (8, 8))
    assert mask.sum() == 4 and mask[2:4, 2:4].all()
    with pytest.raises(ValueError, match="Nothing is painted"):
        edits.painted_mask(painted((8, 8), slice(0), slice(0)), (8, 8))
    with pytest.raises(ValueError, match="Nothing is painted"):
        edits.painted_mask(None, (8, 8))


def make_text(path):
    path.write_text("hello")


def make_empty(path):
    path.write_bytes(b"")


def make_huge(path):
    Image.new("L", (5000, 4000)).save(path)


@pytest.mark.parametrize("make", [make_text, make_empty, make_huge])
def test_a_wrong_upload_is_rejected_in_one_line_without_its_path(make, page, tmp_path):
    path = tmp_path / "secret" / "upload"
    path.parent.mkdir()
    make(path.with_suffix(".png"))
    with pytest.raises(ValueError, match="cannot be read") as error:
        run(page, "upscale", first=(str(path.with_suffix(".png")), "<b>my photo.png"))
    message = str(error.value)
    assert "\n" not in message and "secret" not in message and "_b_my photo.png" in message


@pytest.mark.parametrize(
    ("kind", "form", "message"),
    [
        ("inpaint", {}, "There is no image"),
        ("restyle", {"first": True}, "--to: is missing"),
        ("restyle", {"first": True, "prompt": "a zebra"}, "zebra"),
        ("upscale", {"first": True, "factor": "7"}, "--factor"),
        ("interpolate", {"first": True}, "There is no image"),
        ("interpolate", {"ends": edit_form.SEEDS, "seed_b": 1}, "are the same"),
        ("inpaint", {"first": True, "editor": painted((8, 10), slice(8), slice(10))}, "--mask"),
    ],
)
def test_what_the_library_rejects_is_a_line(kind, form, message, page, tmp_path):
    if form.get("first"):
        form = {**form, "first": upload(tmp_path / "photo.png")}
    with pytest.raises(ValueError, match=message) as error:
        run(page, kind, **form)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [make_text, make_empty, make_huge])
def test_a_wrong_layer_is_rejected_in_one_line(make, tmp_path):
    make(tmp_path / "layer.png")
    with pytest.raises(ValueError, match="^What is painted cannot be read. Paint again.$"):
        edits.painted_mask(str(tmp_path / "layer.png"), (8, 8))


def test_names_of_uploads_are_safe_and_unique():
    for given, safe in (
        ("photo.jpg", "photo.jpg"), ("../../etc/passwd", "passwd.png"), ("-rf.png", "rf.png"),
        ("a'b$(x).png", "a_b_(x).png"), ("", "image.png"), (None, "image.png"),
        ("12", "12.png"), ("x" * 300 + ".png", "x" * 60 + ".png"), ("Blüte 1.png", "Blüte 1.png"),
        ("a\nb.png", "a_b.png"), (".png", "png.png"),
    ):  # fmt: skip
        assert edits.safe_name(given) == safe
    assert list(edits.named([("a.png", 1), ("a.jpg", 2)])) == ["a.png", "a_2.jpg"]
    assert edits.mask_name(["mask.png"]) != "mask.png"


def test_a_cancelled_edit_ends_after_the_batch(page, tmp_path):
    event, calls = threading.Event(), []

    def report(share, desc):
        calls.append(desc)
        if len(calls) == 3:
            event.set()

    with pytest.raises(Cancelled):
        form = {**FORM, "first": upload(tmp_path / "photo.png"), "num": 9, "steps": 1}
        edit._run(page, Progress(report, event), "words", "variations", form)
    assert len(calls) == 3 and re.match("2 of 9 images, .* left", calls[2])


def test_all_fields_are_shown_or_hidden():
    options = (edit_form.IMAGES, edit_form.NOISE, ("path", "name"))
    shown = {kind: edit_form.visible(kind, *options) for kind in edit.KINDS.values()}
    assert [kind for kind in shown if shown[kind]["editor"]] == ["inpaint"]
    assert not edit_form.visible("inpaint", *options[:2], None)["editor"]
    assert set(edit.HELP) == set(shown)
    by_inversion = edit_form.visible("restyle", edit_form.IMAGES, edit_form.INVERSION, None)
    assert not any(by_inversion[name] for name in ("num", "seed", "strength"))
    assert not shown["inpaint"]["uploads"] and shown["upscale"]["uploads"]
    by_seeds = edit_form.visible("interpolate", edit_form.SEEDS, edit_form.NOISE, None)
    assert by_seeds["seeds"] and not by_seeds["uploads"]
