"""Windows of images of any size, and what goes back into them."""

import numpy as np
import pytest

from keras_diffusion.data import fitting

RNG = np.random.default_rng(0)


def smooth(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [40 + 100 * y / height + 80 * x / width, 200 - 150 * x / width, 90 + 60 * y / height]
    return np.stack(planes[:channels], axis=-1).astype("uint8")


@pytest.mark.parametrize(
    ("size", "shape", "around", "window"),
    [
        ((8, 8), (8, 8), None, (0, 0, 8, 8)),
        ((40, 60), (8, 8), None, (0, 10, 40, 40)),
        ((40, 60), (8, 8), (5, 50, 4, 10), (0, 20, 40, 40)),
        ((60, 40), (8, 8), (0, 0, 1, 1), (0, 0, 40, 40)),
        ((40, 60), (8, 16), None, (5, 0, 30, 60)),
        ((1, 9), (8, 8), None, (0, 4, 1, 1)),
    ],
)
def test_the_largest_window_is_inside_and_near(size, shape, around, window):
    assert fitting.largest_window(size, shape, around) == window


def test_the_whole_window_contains_the_image():
    for size, shape in [((40, 60), (8, 8)), ((61, 40), (8, 16)), ((5, 5), (64, 64))]:
        window = fitting.whole_window(size, shape)
        assert fitting.contains(window, (0, 0, *size))
        assert window[2] / window[3] == pytest.approx(shape[0] / shape[1], rel=0.05)


def test_cut_fills_what_is_outside():
    pixels = RNG.integers(1, 255, (4, 6, 1), "uint8")
    part = fitting.cut(pixels, (-1, 0, 6, 6))
    np.testing.assert_array_equal(part[1:5], pixels)
    assert not part[[0, 5]].any()
    np.testing.assert_array_equal(fitting.cut(pixels, (-1, 0, 6, 6), "reflect")[0], pixels[1])


def test_an_image_of_the_models_size_is_unchanged():
    pixels, mask = RNG.integers(0, 256, (8, 8, 3), "uint8"), np.zeros((8, 8), bool)
    mask[2:4, 3:] = True
    window = fitting.largest_window((8, 8), (8, 8))
    np.testing.assert_array_equal(fitting.fit(pixels, window, (8, 8, 3)), pixels)
    part, known = fitting.fit_masked(pixels, mask, window, (8, 8, 3))
    np.testing.assert_array_equal(part[known], pixels[~mask])
    np.testing.assert_array_equal(known, ~mask)


@pytest.mark.parametrize("size", [(41, 60), (5, 6)])
def test_nothing_masked_gets_into_known_pixels(size):
    pixels, mask = smooth(*size), np.zeros(size, bool)
    mask[: size[0] // 2, 2:5] = True
    window = fitting.whole_window(size, (16, 16))
    results = []
    for hidden in (0, 255):
        changed = np.where(mask[..., None], np.uint8(hidden), pixels)
        results.append(fitting.fit_masked(changed, mask, window, (16, 16, 3)))
    (part, known), (other, _) = results
    np.testing.assert_array_equal(part[known], other[known])
    np.testing.assert_array_equal(
        fitting.fit(pixels, window, (16, 16, 3), "reflect").shape, part.shape
    )
    outside = fitting.fit_masked(pixels, np.zeros(size, bool), window, (16, 16, 3))[1]
    assert known.any() and not known[~outside].any()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_put_back_changes_masked_pixels_only(channels):
    pixels, mask = RNG.integers(0, 256, (30, 20, channels), "uint8"), np.zeros((30, 20), bool)
    mask[10:20, 5:25] = True
    window = fitting.whole_window((30, 20), (8, 8))
    result = np.full((8, 8, 3), 100, "uint8")
    edited = fitting.put_back(pixels, mask, window, result)
    np.testing.assert_array_equal(edited[~mask], pixels[~mask])
    assert (edited[mask][:, : min(3, channels)] == 100).all()


def test_a_result_returns_to_its_place():
    image, mask = smooth(60, 90), np.zeros((60, 90), bool)
    mask[20:40, 50:80] = True
    window = fitting.largest_window((60, 90), (32, 32), fitting.bounding_box(mask))
    result = fitting.fit(image, window, (32, 32, 3))
    edited = fitting.put_back(image, mask, window, result)
    assert np.abs(edited.astype(int) - image).max() <= 4


def test_colours_are_added_and_the_brightness_stays():
    image = smooth(30, 50)
    grey = fitting.fit(image, (0, 0, 30, 50), (30, 50, 1))
    window = fitting.whole_window((30, 50), (16, 16))
    result = fitting.fit(image, window, (16, 16, 3), "reflect")
    coloured = fitting.colour(grey, window, result)
    assert np.abs(coloured.astype(int) - image).mean() < 3
    assert np.abs(coloured @ [0.299, 0.587, 0.114] - grey[..., 0]).max() <= 1
