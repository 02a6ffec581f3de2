"""Folders: classes, unusual image files, which are decoded, and files that are skipped."""

import os
import re
import unicodedata

import numpy as np
import pytest
from fixtures_data import class_folder, save_image
from PIL import Image

from keras_diffusion.cli import train
from keras_diffusion.data import folder, load, load_source, sources

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (8, 10, 3), np.uint8)
GRAY = COLOR[..., 0]
ALPHA = RNG.integers(0, 256, (8, 10, 4), np.uint8)
# JPEG smooths: flat colours are decoded as they were, up to rounding.
FLAT = np.full((8, 8, 3), (200, 40, 90), np.uint8)
RED, BLUE = (np.full((6, 4, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))


def image(pixels, mode=None):
    return Image.fromarray(pixels).convert(mode)


EXIF = Image.Exif()
EXIF[0x0112] = 6  # the orientation of a camera held upright
PALETTE = Image.fromarray(COLOR).quantize(8)
PALETTE_PIXELS = np.array(PALETTE.convert("RGB"))
FADING = np.arange(8, dtype=np.uint8) * 30  # alpha of each of the palette's colours
FRAMES = {"save_all": True, "append_images": [image(BLUE)], "duration": 100}

# (name, file, image, options of save, expected pixels, tolerance)
UNUSUAL = [
    ("gray", "a.png", image(GRAY), {}, GRAY[..., None], 0),
    ("black and white", "a.png", image(GRAY, "1"), {}, np.array(image(GRAY, "1").convert("L")), 0),
    ("transparent", "a.png", image(ALPHA), {}, ALPHA, 0),
    ("gray with alpha", "a.png", image(ALPHA, "LA"), {}, np.array(image(ALPHA, "LA").convert(
        "RGBA")), 0),
    ("opaque alpha", "a.png", image(COLOR, "RGBA"), {}, COLOR, 0),
    ("opaque gray alpha", "a.png", image(GRAY, "LA"), {}, GRAY[..., None], 0),
    ("palette", "a.png", PALETTE, {}, PALETTE_PIXELS, 0),
    ("palette, fading", "a.png", PALETTE, {"transparency": FADING.tobytes()},
     np.dstack([PALETTE_PIXELS, FADING[np.array(PALETTE)]]), 0),
    ("16 bit", "a.png", image(GRAY.astype(np.uint16) * 256 + 77), {}, GRAY[..., None], 0),
    ("16 bit, transparent", "a.png", image(GRAY.astype(np.uint16) * 256), {
        "transparency": int(GRAY[0, 0]) * 256},
     np.dstack([GRAY, GRAY, GRAY, np.where(GRAY[0, 0] == GRAY, 0, 255).astype(np.uint8)]), 0),
    ("CMYK", "a.jpg", image(FLAT, "CMYK"), {"quality": 100}, FLAT, 3),
    ("rotated", "a.png", image(COLOR), {"exif": EXIF}, np.rot90(COLOR, -1), 0),
    ("animated GIF", "a.gif", image(RED), FRAMES, RED, 0),
    ("animated PNG", "a.png", image(RED), FRAMES, RED, 0),
    ("animated WebP", "a.webp", image(RED), {**FRAMES, "lossless": True}, RED, 0),
    ("wrong extension", "a.png", image(COLOR), {"format": "BMP"}, COLOR, 0),
]  # fmt: skip


@pytest.mark.parametrize("row", UNUSUAL, ids=[row[0] for row in UNUSUAL])
def test_unusual_images_are_decoded_correctly(row, tmp_path):
    _, name, picture, options, expected, tolerance = row
    expected = expected if expected.ndim == 3 else expected[..., None]
    picture.save(tmp_path / name, **options)
    files = folder.scan(tmp_path)
    assert not files.skipped
    assert files.image_shape == expected.shape
    pixels = files.decode(0, expected.shape[-1])
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_all_images_of_a_folder_have_the_same_channels(tmp_path):
    for index, (_, name, picture, options, _, _) in enumerate(UNUSUAL):
        picture.save(tmp_path / f"{index}{name}", **options)
    assert folder.scan(tmp_path).image_shape == (None, None, 4)
    data = load_source(folder=tmp_path, image_size=8, channels=3, batch_size=1)
    assert not data.source.skipped
    assert data.source.num_train + data.source.num_val == len(UNUSUAL)
    assert data.image_shape == (8, 8, 3)
    (batch, *_) = data.epoch_batches(0)
    assert batch["image"].shape == (1, 8, 8, 3)


# Classes -------------------------------------------------------------------------------------


def test_sub_folders_are_classes(tmp_path):
    class_folder(tmp_path, [10, 5, 1])
    save_image(tmp_path / "b" / "deep" / "er.png", seed=999)
    source = sources.folder(tmp_path)
    assert source.class_names == ("a", "b", "c")
    assert (source.num_train, source.num_val) == (8 + 5 + 1, 2 + 1)
    assert source.image_shape == (8, 10, 3)
    originals = {np.array(Image.open(p)).tobytes(): "abc".index(p.relative_to(tmp_path).parts[0])
                 for p in tmp_path.rglob("*.png")}  # fmt: skip
    examples = list(source.train.as_numpy_iterator())
    labels = [example["label"] for example in examples]
    assert [originals[example["image"].tobytes()] for example in examples] == labels
    assert np.array_equal(labels, source.train_labels)


def test_class_names_are_normalised_and_a_folder_without_classes_has_no_labels(tmp_path):
    class_folder(tmp_path, [4])
    (tmp_path / "a").rename(tmp_path / unicodedata.normalize("NFD", "café"))
    assert sources.folder(tmp_path).class_names == ("café",)
    (images,) = tmp_path.iterdir()
    train, validation = load(folder=images, batch_size=4)
    assert train.element_spec.keys() == {"image"}
    assert validation.element_spec.keys() == {"image", "index"}


def test_train_and_val_folders_are_splits(tmp_path):
    for split, counts in {"Train": [4, 4], "valid": [2, 2, 1], "test": [3]}.items():
        class_folder(tmp_path / split, counts)
    data = load_source(folder=tmp_path)
    assert data.source.class_names == ("a", "b")
    assert (data.source.num_train, data.source.num_val) == (8, 4)
    assert sum("held out" in line for line in data.source.skipped) == 1  # class c
    assert sum("in test/" in line for line in data.source.skipped) == 3
    assert "training from Train/, held-out from valid/" in data.summary
    (tmp_path / "Train").rename(tmp_path / "testing")
    with pytest.raises(ValueError, match="no train folder"):
        load(folder=tmp_path)
    (tmp_path / "testing").rename(tmp_path / "bus")  # not only splits: classes
    for name in ("valid", "test"):
        (tmp_path / name).rename(tmp_path / name[::-1])
    assert sources.folder(tmp_path).class_names == ("bus", "dilav", "tset")


def test_what_the_folders_may_mean_is_said(tmp_path):
    class_folder(tmp_path / "one/data", [2, 2])
    assert "all images are one class, 'data'" in load_source(folder=tmp_path / "one").summary
    class_folder(tmp_path / "alone/train", [5, 5])
    summary = load_source(folder=tmp_path / "alone").summary
    assert "training and held-out images from train/" in summary
    for name in ("bus", "cat", "train"):
        save_image(tmp_path / "mixed" / name / "test" / "0.png")
        save_image(tmp_path / "mixed" / name / "1.png")
    summary = load_source(folder=tmp_path / "mixed").summary
    assert "train: read as a class" in summary
    assert "test below the classes: not read as splits" in summary
    class_folder(tmp_path / "twice/train", [5])
    class_folder(tmp_path / "twice/test", [1])
    os.symlink(tmp_path / "twice/train/a/0.png", tmp_path / "twice/test/a/linked.png")
    save_image(tmp_path / "twice/train/a/scan.tif")
    skipped = load_source(folder=tmp_path / "twice").source.skipped
    assert any("linked.png: also a training image" in line for line in skipped)
    assert any(".tif is not read" in line for line in skipped)


def test_links_are_followed_once(tmp_path):
    class_folder(tmp_path / "store", [3])
    class_folder(tmp_path / "p", [2, 2])
    links = {"a/batch": "../../store/a", "a/0_link.png": "0.png", "b/up": "../..", "c": "a"}
    for name, target in links.items():
        (tmp_path / "p" / name).symlink_to(target)
    files = folder.scan(tmp_path / "p")
    assert np.bincount(files.labels).tolist() == [5, 2, 5]
    assert {line.split(":")[0] for line in files.skipped} == {
        "a/0_link.png",
        "b/up",
        "c/0_link.png",
    }
    assert str(tmp_path / "p" / "a" / "0.png") in files.paths


def test_file_names_that_are_not_text(tmp_path, capfd):
    class_folder(tmp_path / "p", [2])
    os.rename(tmp_path / "p" / "a" / "0.png", os.fsencode(tmp_path / "p" / "a") + b"/\xff.png")
    (tmp_path / "p" / os.fsdecode(b"\xfe.txt")).write_text("")
    data = load_source(folder=tmp_path / "p")
    assert data.source.num_train == 1
    print(data.summary)
    assert "not an image by its name: \\udcfe.txt" in capfd.readouterr().out


# Files that cannot be used -------------------------------------------------------------------


def damaged(change):
    """Writes an image whose bytes are then changed."""

    def write(path):
        save_image(path, size=(32, 32))
        path.write_bytes(change(path.read_bytes()))

    return write


half = damaged(lambda data: data[: len(data) // 2])
# (file, reason, function that writes it)
BAD = [
    ("zero-byte.png", "an empty file", lambda path: path.write_bytes(b"")),
    ("truncated.png", "truncated", half),
    ("truncated.jpg", "[Tt]runcated", half),
    ("truncated.gif", ".", half),
    ("truncated.webp", ".", half),
    ("corrupt.png", ".", damaged(lambda data: data[:1000] + b"8bytes!!" + data[1008:])),
    ("text.jpg", "not an image by its content", lambda path: path.write_text("hello")),
    ("large.png", "more than 89478485 pixels", Image.new("1", (10_000, 10_000)).save),
    ("bomb.png", "more than 89478485 pixels", Image.new("1", (14_000, 14_000)).save),
    ("notes.txt", "not an image by its name", lambda path: path.write_text("hello")),
    ("link.png", "a broken link", lambda path: path.symlink_to("nowhere.png")),
    ("pipe.png", "not a file", lambda path: os.mkfifo(path)),
]


def test_unusable_files_are_named_and_skipped(tmp_path, monkeypatch, capfd):
    class_folder(tmp_path / "pets", [4, 4])
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / "damaged").mkdir()
    save_image(tmp_path / "pets" / "loose.png")
    (tmp_path / "pets" / "a" / ".hidden.png").write_text("")
    for name, _, write in BAD:
        write(tmp_path / "pets" / "damaged" / name)
    data = load_source(folder=tmp_path / "pets")
    assert data.source.class_names == ("a", "b")
    assert data.source.num_train + data.source.num_val == 8
    reasons = dict(line.split(": ", 1) for line in data.source.skipped)
    others = {"empty", "loose.png", "damaged", "a/.hidden.png"}
    assert set(reasons) == {*others, *(f"damaged/{name}" for name, *_ in BAD)}
    for name, reason, _ in BAD:
        assert re.search(reason, reasons[f"damaged/{name}"]), name
    monkeypatch.chdir(tmp_path)
    assert train.main(["--folder", "pets", "--image-size", "8", "--dry-run"]) == 0
    printed = capfd.readouterr()
    assert f"not used: {len(BAD) + 4} files" in printed.out
    assert "1 not an image by its name: damaged/notes.txt" in printed.out
    assert "  1 hidden: a/.hidden.png" in printed.out
    assert "Warning" not in printed.err


def test_a_folder_that_is_missing_empty_or_too_small(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(folder=tmp_path / "nowhere")
    for file in (None, "notes.txt", "empty.png"):
        if file:
            (tmp_path / file).write_bytes(b"")
        with pytest.raises(ValueError, match="^[^\n]*no readable image[^\n]*$"):
            load(folder=tmp_path)
    save_image(tmp_path / "one.png")
    with pytest.raises(ValueError, match="no two images"):
        load(folder=tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file"):
        load(folder=tmp_path / "one.png")
