import os

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.plotting import images


def numbered(count, height, width, channels=1):
    """Image i has the value i everywhere."""
    values = np.arange(count, dtype="uint8")[:, None, None, None]
    return np.broadcast_to(values, (count, height, width, channels))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_grid_fills_rows_from_the_left_with_gaps(channels, mode):
    gap = 20  # a sixteenth of the height
    sheet = images.grid(numbered(5, 320, 200, channels), columns=3)
    assert sheet.mode == mode
    pixels = np.atleast_3d(sheet)
    expected = np.full((2 * 320 + 3 * gap, 3 * 200 + 4 * gap, channels), 255, "uint8")
    for index in range(5):
        row, column = divmod(index, 3)
        top, left = gap + row * (320 + gap), gap + column * (200 + gap)
        expected[top : top + 320, left : left + 200] = index
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("count", "columns", "layout"),
    [(1, None, (1, 1)), (5, None, (2, 3)), (10, None, (3, 4)), (3, 10, (1, 3)), (4, 1, (4, 1))],
)
def test_rows_and_columns(count, columns, layout):
    sheet = images.grid(numbered(count, 600, 600), columns)
    gap = 600 // 16
    assert sheet.size[::-1] == tuple(n * (600 + gap) + gap for n in layout)


def test_frames_of_clips_are_split_and_shown_side_by_side():
    clips = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3 * 2), "uint8")
    frames = images.split_frames(clips, 3)
    assert frames.shape == (2, 3, 4, 5, 2)
    for f, c in np.ndindex(3, 2):
        np.testing.assert_array_equal(frames[:, f, ..., c], clips[..., f * 2 + c])
    strips = images.strips(clips, 3)
    assert strips.shape == (2, 4, 3 * 5 + 2, 2) and (strips[:, :, [5, 11]] == 255).all()
    np.testing.assert_array_equal(strips[:, :, 6:11], frames[:, 1])
    assert images.strips(clips, 1) is clips


def test_small_grids_are_enlarged_by_a_whole_factor():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    sheet = np.asarray(images.grid(pixels))
    factor = round(images.MIN_SIDE / 19)  # 2 images of 8 pixels, 3 gaps of 1
    assert sheet.shape == (19 * factor, 19 * factor, 3)
    small = sheet[::factor, ::factor]
    np.testing.assert_array_equal(small.repeat(factor, 0).repeat(factor, 1), sheet)
    np.testing.assert_array_equal(small[1:9, 10:18], pixels[1])


def test_labels_stand_beside_the_grid():
    sheet = images.grid(numbered(6, 300, 300), columns=2)
    labelled = images.add_labels(sheet, ["one", "two", "three"], ["left", "right"], "corner")
    left, top = labelled.width - sheet.width, labelled.height - sheet.height
    pixels = np.asarray(labelled.convert("L"))
    np.testing.assert_array_equal(pixels[top:, left:], np.asarray(sheet))
    assert all(part.min() < 128 for part in np.array_split(pixels[top:, :left], 3))
    assert all(part.min() < 128 for part in np.array_split(pixels[:top, left:], 2, axis=1))
    assert pixels[:top, :left].min() < 128


def test_transparent_images_are_shown_over_white():
    pixels = np.zeros((3, 600, 600, 4), "uint8")
    pixels[..., 1], pixels[:, ..., 3] = 200, np.array([0, 255, 51])[:, None, None]
    sheet = np.asarray(images.grid(pixels, 3))
    shown = [sheet[300, 300 + 637 * i].tolist() for i in range(3)]
    assert shown == [[255, 255, 255], [0, 200, 0], [204, 244, 204]]


def test_labels_that_the_font_lacks_are_numbers(monkeypatch):
    assert [images.readable(x, 7) for x in ("a\n b", "Kühe", "Ёж", "猫", "a🐈")] == [
        "a b", "Kühe", "Ёж", "7", "7"]  # fmt: skip
    assert len(images.readable("long " * 40, 0)) == images.LONGEST_LABEL
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)  # no matplotlib
    images._font.cache_clear()
    assert [images.readable(x, 7) for x in ("cat", "猫")] == ["cat", "7"]
    images._font.cache_clear()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_png_has_the_same_pixels(tmp_path, channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    path = tmp_path / "new" / "folder" / "image.png"
    images.save_png(path, pixels)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (7, 5))
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert os.listdir(path.parent) == ["image.png"]


def test_png_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.save_png("image.png", np.zeros((2, 2, 1), "uint8"))
    assert os.listdir() == ["image.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    images.save_png(path, np.zeros((4, 4, 1), "uint8"))
    before = path.read_bytes()

    def half(self, file, **options):
        with open(file, "wb") as part:
            part.write(b"half an im")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", half)
        with pytest.raises(OSError, match="No space left"):
            images.save_png(path, np.ones((4, 4, 1), "uint8"))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["image.png"]


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)], ids=["grey", "colour"])
def test_gifs_are_kept_below_a_size(tmp_path, shape):
    still = np.linspace(0, 255, np.prod(shape)).reshape(shape).astype("uint8")
    frames = [still, *np.random.default_rng(0).integers(0, 256, (3, *shape), "uint8")]
    frames, path = [Image.fromarray(frame) for frame in frames], tmp_path / "new" / "a.gif"
    durations = [500, 500, 500, 1500]
    images.save_gif(path, frames, durations)
    size = path.stat().st_size
    for limit, tolerance in ((None, 6), (int(0.8 * size), 20)):
        images.save_gif(path, frames, durations, limit)
        assert path.stat().st_size <= (limit or size)
        with Image.open(path) as gif:
            assert gif.n_frames == 4 and gif.info["duration"] == 500
            first = np.asarray(gif.convert("RGB" if len(shape) == 3 else "L"), int)
            gif.seek(3)
            assert gif.info["duration"] == 1500
        assert np.abs(first - still).mean() < tolerance
    with pytest.raises(ValueError, match="fewer frames"):
        images.save_gif(tmp_path / "b.gif", frames, durations, max_bytes=1000)
    assert not (tmp_path / "b.gif").exists()
