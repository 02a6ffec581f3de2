"""Folders of odd pictures, which are read as they were meant, and of bad ones, which are named
and skipped."""

import os
import re
import struct
import zlib

import numpy as np
import pytest
from fixtures_data import class_folder, save_picture
from PIL import Image

import train
from keras_diffusion.data import load_source

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (8, 10, 3), np.uint8)
GRAY = COLOR[..., 0]
ALPHA = RNG.integers(0, 256, (8, 10, 4), np.uint8)
# JPEG smooths: flat colours come back as they were, but for rounding.
FLAT = np.full((8, 8, 3), (200, 40, 90), np.uint8)
RED, BLUE = (np.full((6, 4, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))


def image(pixels, mode=None):
    picture = Image.fromarray(pixels)
    return picture.convert(mode) if mode else picture


def turned():
    """What a camera held upright writes: the pixels lying, and how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def palette():
    """(palette picture of 8 colours, its pixels)."""
    picture = Image.fromarray(COLOR).quantize(8)
    return picture, np.array(picture.convert("RGB"))


PALETTE, PALETTE_PIXELS = palette()
FADING = np.arange(8, dtype=np.uint8) * 30  # alpha of each of the palette's colours
FRAMES = {"save_all": True, "append_images": [image(BLUE)], "duration": 100}

# (name, file, picture, options of save, the pixels that are meant, how near)
ODD = [
    ("gray", "a.png", image(GRAY), {}, GRAY[..., None], 0),
    ("black and white", "a.png", image(GRAY, "1"), {}, np.array(image(GRAY, "1").convert("L")), 0),
    ("transparent", "a.png", image(ALPHA), {}, ALPHA, 0),
    ("gray with alpha", "a.png", image(ALPHA, "LA"), {}, np.array(image(ALPHA, "LA").convert(
        "RGBA")), 0),
    ("palette", "a.png", PALETTE, {}, PALETTE_PIXELS, 0),
    ("palette, fading", "a.png", PALETTE, {"transparency": FADING.tobytes()},
     np.dstack([PALETTE_PIXELS, FADING[np.array(PALETTE)]]), 0),
    ("16 bit", "a.png", image(GRAY.astype(np.uint16) * 256 + 77), {}, GRAY[..., None], 0),
    ("CMYK", "a.jpg", image(FLAT, "CMYK"), {"quality": 100}, FLAT, 3),
    ("turned", "a.jpg", image(FLAT[:4]), {"exif": turned()}, FLAT[:, :4], 3),
    ("turned, exactly", "a.png", image(COLOR), {"exif": turned()}, np.rot90(COLOR, -1), 0),
    ("animated GIF", "a.gif", image(RED), FRAMES, RED, 0),
    ("animated PNG", "a.png", image(RED), FRAMES, RED, 0),
    ("animated WebP", "a.webp", image(RED), {**FRAMES, "lossless": True}, RED, 0),
    ("another's extension", "a.png", image(COLOR), {"format": "BMP"}, COLOR, 0),
]  # fmt: skip


@pytest.mark.parametrize("row", ODD, ids=[row[0] for row in ODD])
def test_odd_pictures_are_read_as_they_were_meant(row, tmp_path):
    _, name, picture, options, pixels, near = row
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    for copy in (f"1{name}", f"2{name}"):  # one to train on, one to validate
        picture.save(tmp_path / copy, **options)
    data = load_source(folder=tmp_path, batch_size=1)
    assert not data.source.skipped
    assert data.image_shape == pixels.shape
    for batches in (data.epoch_batches(0), data.validation):
        (batch,) = batches.as_numpy_iterator()
        assert np.abs(batch["image"][0].astype(int) - pixels).max() <= near


def test_odd_pictures_together_are_of_one_kind(tmp_path):
    for index, (_, name, picture, options, _, _) in enumerate(ODD):
        picture.save(tmp_path / f"{index}{name}", **options)
    data = load_source(folder=tmp_path, image_size=8, channels=3, batch_size=1)
    assert not data.source.skipped
    assert data.source.num_train + data.source.num_val == len(ODD)
    assert data.image_shape == (8, 8, 3)


# Bad ones --------------------------------------------------------------------------------


def png(width, height):
    """A PNG that says it has this size, and holds next to nothing."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def written(suffix, change):
    """A picture whose file is changed, bytes -> bytes."""

    def make(path):
        save_picture(path, size=(32, 32))
        path.write_bytes(change(path.read_bytes()))

    return make


def half(whole):
    return whole[: len(whole) // 2]


def hit(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 8]) + whole[middle + 8 :]


# (file, what is said of it, what makes it)
BAD = [
    ("zero-byte.png", "an empty file", lambda path: path.write_bytes(b"")),
    ("truncated.png", "truncated", written(".png", half)),
    ("truncated.jpg", "[Tt]runcated", written(".jpg", half)),
    ("truncated.gif", ".", written(".gif", half)),
    ("truncated.bmp", "truncated", written(".bmp", half)),
    ("truncated.webp", ".", written(".webp", half)),
    ("corrupt.png", ".", written(".png", hit)),
    ("text.jpg", "not a picture by its content", lambda path: path.write_text("hello")),
    ("page.png", "not a picture by its content", lambda path: path.write_text("<html>404</html>")),
    ("no-width.png", "not a picture by its content", lambda path: path.write_bytes(png(0, 8))),
    ("large.png", "more than 89478485 pixels", lambda path: path.write_bytes(png(10_000, 10_000))),
    ("bomb.png", "more than 89478485 pixels", lambda path: path.write_bytes(png(60_000, 60_000))),
    ("notes.txt", "not a picture by its name", lambda path: path.write_text("hello")),
    ("model.keras", "not a picture by its name", lambda path: path.write_bytes(b"PK")),
    ("link.png", "a link to nothing", lambda path: path.symlink_to("nowhere.png")),
    ("pipe.png", "not a file", lambda path: os.mkfifo(path)),
]


@pytest.mark.parametrize(("name", "reason", "make"), BAD, ids=[row[0] for row in BAD])
def test_bad_pictures_are_named_and_skipped(name, reason, make, tmp_path):
    class_folder(tmp_path, [4, 4])
    make(tmp_path / "a" / name)
    data = load_source(folder=tmp_path, batch_size=2)
    (skipped,) = data.source.skipped
    assert skipped.startswith(f"a/{name}: ")
    assert re.search(reason, skipped.partition(": ")[2])
    assert data.summary.splitlines()[-2:] == ["skipped 1 file:", f"  {skipped}"]
    assert data.source.num_train + data.source.num_val == 8


def test_a_folder_of_bad_pictures_among_good_ones(tmp_path, monkeypatch, capfd):
    class_folder(tmp_path / "pets", [4, 4])
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / "rotten").mkdir()
    for name, _, make in BAD:
        make(tmp_path / "pets" / "rotten" / name)
    save_picture(tmp_path / "pets" / "loose.png")
    monkeypatch.chdir(tmp_path)
    assert train.main(["--folder", "pets", "--image-size", "8", "--dry-run"]) == 0
    told = capfd.readouterr()
    assert "pets: 8x8x3, 2 classes" in told.out  # "empty" and "rotten" are none
    assert f"skipped {len(BAD) + 2} files:" in told.out
    assert f"  and {len(BAD) + 2 - 10} more" in told.out
    assert "Warning" not in told.err
