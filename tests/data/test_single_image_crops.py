"""One picture as a data set: reading, reducing, random crops."""

import numpy as np
import pytest
from fixtures_data import save_picture
from PIL import Image

from keras_diffusion.data import load, load_source, single_image

FLOWER = single_image.read("flower")


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((427, 640), (192, 192), (128, 192)),
        ((640, 427), (192, 192), (192, 128)),
        ((427, 640), (128, 192), (128, 192)),
        ((427, 640), None, (416, 640)),
        ((100, 100), (192, 192), (96, 96)),  # never enlarged
        ((48, 2000), (192, 192), None),
        ((15, 40), None, None),
    ],
)
def test_a_picture_keeps_its_shape(size, box, expected):
    if expected:
        assert single_image.reduced_size(size, box) == expected
    else:
        with pytest.raises(ValueError, match="smaller than 16x16"):
            single_image.reduced_size(size, box)


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((128, 192), None, (96, 144)),
        ((192, 128), None, (144, 96)),
        ((16, 48), None, (16, 32)),
        ((128, 192), (64, 256), (64, 192)),
    ],
)
def test_crops_are_large_and_within_the_picture(size, asked, expected):
    assert single_image.crop_of(size, asked) == expected


def test_any_picture_is_taken_upright(tmp_path):
    save_picture(tmp_path / "gray.png", mode="L", size=(40, 32))
    save_picture(tmp_path / "alpha.webp", mode="RGBA", size=(40, 32), lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    pixels = save_picture(tmp_path / "photo.tiff", size=(40, 32), exif=turned)
    assert load_source(image=str(tmp_path / "gray.png")).picture.shape == (32, 32, 1)
    assert load_source(image=str(tmp_path / "alpha.webp")).picture.shape == (32, 32, 4)
    upright = load_source(image=str(tmp_path / "photo.tiff")).picture
    np.testing.assert_array_equal(upright, np.rot90(pixels, -1)[4:-4])
    gray = load_source(image=str(tmp_path / "photo.tiff"), channels=1)
    assert gray.picture.shape == (32, 32, 1) and gray.image_shape == (32, 32, 1)


def places(batch, picture):
    """Where crops are found in a picture that has no two equal pixels."""
    values = [tuple(image[0, 0]) for image in batch]
    return [tuple(int(n[0]) for n in np.nonzero((picture == v).all(-1))) for v in values]


def numbered(tmp_path):
    """A picture of 48x64 whose pixels say where they are, and its path."""
    tops, lefts = np.mgrid[:48, :64]
    picture = np.stack([tops, lefts, tops + lefts], -1).astype("uint8")
    Image.fromarray(picture).save(tmp_path / "numbered.png")
    return picture, str(tmp_path / "numbered.png")


def test_crops_are_a_function_of_seed_and_epoch(tmp_path):
    picture, path = numbered(tmp_path)
    options = {"image": path, "crop_size": (16, 24), "batch_size": 8}

    def crops(epoch, seed=0, **more):
        data = load_source(**{**options, "limit": 20, "seed": seed, **more})
        assert data.steps_per_epoch == 2
        return np.concatenate([batch["image"] for batch in data.epoch_batches(epoch)])

    first = crops(0)
    assert first.shape == (16, 16, 24, 3) and first.dtype == np.uint8
    for image, (top, left) in zip(first, places(first, picture), strict=True):
        np.testing.assert_array_equal(image, picture[top : top + 16, left : left + 24])
    np.testing.assert_array_equal(crops(0), first)
    assert (crops(1) != first).any() and (crops(0, seed=1) != first).any()
    mirrored = crops(0, horizontal_flip=True)
    flips = [(one == other[:, ::-1]).all() for one, other in zip(mirrored, first, strict=True)]
    same = [(one == other).all() for one, other in zip(mirrored, first, strict=True)]
    assert 3 < sum(flips) < 13 and sum(flips) + sum(same) == 16


def test_a_run_goes_on_within_an_epoch(tmp_path):
    _, path = numbered(tmp_path)
    data = load_source(image=path, crop_size=16, batch_size=4, limit=12)
    whole = [batch["image"].numpy() for batch in data.training_batches().take(6)]
    rest = [batch["image"].numpy() for batch in data.training_batches(1, 1).take(2)]
    np.testing.assert_array_equal(rest, whole[4:])
    train, _ = load(image=path, crop_size=16, batch_size=4, limit=12)
    again = [batch["image"].numpy() for _ in range(2) for batch in train]
    np.testing.assert_array_equal(again, whole)


def test_corners_of_the_picture_are_seen():
    corners = single_image.crop_corners(1024, 0, 0, (128, 192), (64, 64))
    assert corners.min() == 0 and tuple(corners.max(axis=0)) == (64, 128)
    for corner in ((0, 0), (0, 128), (64, 0), (64, 128)):
        assert (corners == corner).all(axis=1).mean() > 0.02
    assert len(np.unique(corners, axis=0)) > 500
    np.testing.assert_array_equal(single_image.crop_corners(9, 0, 0, (32, 32), (32, 32)), 0)


def test_validation_does_not_depend_on_the_run():
    one, other = (
        load_source(image="flower", image_size=64, crop_size=32, batch_size=b, seed=s).validation
        for b, s in ((16, 0), (10, 3))
    )
    one, other = (np.concatenate([batch["image"] for batch in data]) for data in (one, other))
    np.testing.assert_array_equal(one, other)
    assert len(one) == single_image.VALIDATION_CROPS


def test_what_a_run_is_told():
    data = load_source(image="flower", image_size=64, crop_size=128, batch_size=512)
    assert data.picture.shape == (48, 64, 3)
    assert data.image_shape == (48, 64, 3)  # a crop is at most the picture
    assert data.steps_per_epoch == 1 and not data.horizontal_flip
    assert data.summary == (
        "flower: 48x64x3, no labels\n"
        "in an epoch 512 random crops of 48x64 from one picture of 48x64"
    )
    large = load_source(image="flower", image_size=192).picture
    assert np.abs(large.mean((0, 1)) - FLOWER.mean((0, 1))).max() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "flower", "folder": "."}, "either the name of a data set, a folder or an image"),
        ({"name": "digits", "crop_size": 8}, "crop_size is for one image"),
        ({"image": "flower", "crop_size": 0}, "crop_size must be at least 1"),
        ({"image": "flower", "balance": "classes"}, "'flower' has none"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        load_source(**options)
