import os

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.plotting.images import SMALLEST_SIDE, grid, save_png


def numbered(count, height, width, channels=1):
    """Picture i is filled with the value i."""
    values = np.arange(count, dtype="uint8")[:, None, None, None]
    return np.broadcast_to(values, (count, height, width, channels))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grid_fills_rows_from_the_left_with_gaps(channels):
    gap = 20  # a sixteenth of the height
    sheet = grid(numbered(5, 320, 200, channels), columns=3)
    assert sheet.shape == (2 * 320 + 3 * gap, 3 * 200 + 4 * gap, channels)
    assert sheet.dtype == np.uint8
    expected = np.full(sheet.shape, 255, "uint8")
    for index in range(5):
        row, column = divmod(index, 3)
        top, left = gap + row * (320 + gap), gap + column * (200 + gap)
        expected[top : top + 320, left : left + 200] = index
    np.testing.assert_array_equal(sheet, expected)


@pytest.mark.parametrize(
    ("count", "columns", "layout"),
    [
        (1, None, (1, 1)),
        (2, None, (1, 2)),
        (5, None, (2, 3)),
        (9, None, (3, 3)),
        (10, None, (3, 4)),
        (3, 10, (1, 3)),
        (12, 10, (2, 10)),
        (4, 1, (4, 1)),
    ],
)
def test_rows_and_columns(count, columns, layout):
    sheet = grid(numbered(count, 600, 600), columns)
    gap = 600 // 16
    assert sheet.shape[:2] == tuple(n * (600 + gap) + gap for n in layout)


def test_tiny_pictures_are_enlarged_by_a_whole_factor():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    sheet = grid(images)
    factor = round(SMALLEST_SIDE / 19)  # 2 pictures of 8 pixels, 3 gaps of 1
    assert sheet.shape == (19 * factor, 19 * factor, 3)
    assert abs(sheet.shape[0] - SMALLEST_SIDE) < 19
    small = sheet[::factor, ::factor]
    np.testing.assert_array_equal(small.repeat(factor, 0).repeat(factor, 1), sheet)
    np.testing.assert_array_equal(small[1:9, 10:18], images[1])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_holds_the_same_pixels(tmp_path, channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    path = tmp_path / "new" / "folder" / "picture.png"
    save_png(path, image)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (7, 5))
        np.testing.assert_array_equal(np.asarray(picture).reshape(image.shape), image)
    assert os.listdir(path.parent) == ["picture.png"]


def test_png_by_a_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_png("picture.png", np.zeros((2, 2, 1), "uint8"))
    assert os.listdir() == ["picture.png"]


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    save_png(path, np.zeros((4, 4, 1), "uint8"))
    before = path.read_bytes()

    def half(self, file, **options):
        with open(file, "wb") as part:
            part.write(b"half a pic")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", half)
        with pytest.raises(OSError, match="No space left"):
            save_png(path, np.ones((4, 4, 1), "uint8"))
        with pytest.raises(OSError, match="No space left"):
            save_png(tmp_path / "other.png", np.ones((4, 4, 1), "uint8"))
    assert path.read_bytes() == before
    assert not (tmp_path / "other.png").exists()
    save_png(path, np.ones((4, 4, 1), "uint8"))
    assert path.read_bytes() != before
    assert not (tmp_path / "picture.png.part").exists()
