"""One image as a data set: reading, reducing, random crops."""

import numpy as np
import pytest
from fixtures_data import save_image
from PIL import Image

from keras_diffusion.data import load, load_source, single_image


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((427, 640), (192, 192), (128, 192)),
        ((640, 427), (192, 192), (192, 128)),
        ((427, 640), None, (416, 640)),
        ((100, 100), (192, 192), (96, 96)),  # never enlarged
        ((48, 2000), (192, 192), None),
        ((15, 40), None, None),
    ],
)
def test_the_aspect_ratio_is_kept(size, box, expected):
    if expected:
        assert single_image.reduced_size(size, box) == expected
    else:
        with pytest.raises(ValueError, match="smaller than 16x16"):
            single_image.reduced_size(size, box)


def test_crops_are_large_and_inside_the_image():
    assert single_image.choose_crop_size((128, 192)) == (96, 144)
    assert single_image.choose_crop_size((16, 48)) == (16, 32)
    assert single_image.choose_crop_size((128, 192), (64, 256)) == (64, 192)


def test_any_image_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a rotated camera
    path = tmp_path / "photo.tiff"
    pixels = save_image(path, size=(40, 32), exif=exif)
    upright = load_source(image=str(path)).whole_image
    np.testing.assert_array_equal(upright, np.rot90(pixels, -1)[4:-4])
    gray = load_source(image=str(path), channels=1, crop_size=32)
    assert gray.whole_image.shape == gray.image_shape == (32, 32, 1)


@pytest.fixture
def numbered(tmp_path):
    """A file of 48x64 pixels whose values are their coordinates."""
    tops, lefts = np.mgrid[:48, :64]
    pixels = np.stack([tops, lefts, tops + lefts], -1).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "numbered.png")
    return str(tmp_path / "numbered.png")


def test_crops_are_a_function_of_seed_and_epoch(numbered):
    def crops(epoch, seed=0, **more):
        data = load_source(
            image=numbered, crop_size=(16, 24), batch_size=8, limit=20, seed=seed, **more
        )
        assert data.steps_per_epoch == 2
        return np.concatenate([batch["image"] for batch in data.epoch_batches(epoch)])

    whole, first = single_image.read(numbered), crops(0)
    assert first.shape == (16, 16, 24, 3) and first.dtype == np.uint8
    for image in first:
        top, left, _ = map(int, image[0, 0])
        np.testing.assert_array_equal(image, whole[top : top + 16, left : left + 24])
    np.testing.assert_array_equal(crops(0), first)
    assert (crops(1) != first).any() and (crops(0, seed=1) != first).any()
    mirrored = crops(0, horizontal_flip=True)
    flips = [(one == other[:, ::-1]).all() for one, other in zip(mirrored, first, strict=True)]
    same = [(one == other).all() for one, other in zip(mirrored, first, strict=True)]
    assert 3 < sum(flips) < 13 and sum(flips) + sum(same) == 16


def test_an_epoch_resumes_at_any_step(numbered):
    options = {"image": numbered, "crop_size": 16, "batch_size": 4, "limit": 12}
    data = load_source(**options)
    whole = [batch["image"].numpy() for batch in data.training_batches().take(6)]
    rest = [batch["image"].numpy() for batch in data.training_batches(1, 1).take(2)]
    np.testing.assert_array_equal(rest, whole[4:])
    train, _ = load(**options)
    again = [batch["image"].numpy() for _ in range(2) for batch in train]
    np.testing.assert_array_equal(again, whole)


def test_the_corners_of_the_image_are_in_many_crops():
    corners = single_image.crop_corners(1024, 0, 0, (128, 192), (64, 64))
    assert corners.min() == 0 and tuple(corners.max(axis=0)) == (64, 128)
    for corner in ((0, 0), (0, 128), (64, 0), (64, 128)):
        assert (corners == corner).all(axis=1).mean() > 0.02
    assert len(np.unique(corners, axis=0)) > 500


def test_validation_does_not_depend_on_the_run():
    one, other = (
        load_source(image="flower", image_size=64, crop_size=32, batch_size=b, seed=s).validation
        for b, s in ((16, 0), (10, 3))
    )
    one, other = (np.concatenate([batch["image"] for batch in data]) for data in (one, other))
    np.testing.assert_array_equal(one, other)


def test_training_data_of_an_image():
    data = load_source(image="flower", image_size=64, crop_size=128, batch_size=512)
    assert data.whole_image.shape == data.image_shape == (48, 64, 3)  # a crop is at most the image
    assert data.steps_per_epoch == 1 and not data.horizontal_flip
    assert "512 random crops of 48x64 from one image of 48x64" in data.summary
