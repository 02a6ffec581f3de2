import numpy as np
import pytest

from keras_diffusion.plotting import comparisons
from keras_diffusion.plotting.images import add_labels


def test_masked_pixels_are_grey_and_opaque():
    pixels, mask = np.full((2, 2, 4), 7, "uint8"), np.array([[True, False], [False, False]])
    shaded = comparisons.shade(pixels, mask)
    assert shaded[0, 0].tolist() == [128, 128, 128, 255] and (shaded[~mask] == 7).all()


@pytest.mark.parametrize(
    ("size", "shown"), [((28, 28), (168, 168)), ((90, 60), (180, 120)), ((384, 768), (96, 192))]
)
def test_images_are_enlarged_by_whole_factors_or_reduced(size, shown):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 1), "uint8")
    tile = np.asarray(comparisons.tile(pixels))
    assert tile.shape == (*shown, 3)
    if size < shown:
        factor = shown[0] // size[0]
        np.testing.assert_array_equal(tile[::factor, ::factor, :1], pixels)


def test_more_results_than_fit_continue_below(monkeypatch):
    seen = {}

    def spy(sheet, rows, columns):
        seen.update(rows=rows, columns=columns)
        return add_labels(sheet, rows, columns)

    monkeypatch.setattr(comparisons, "add_labels", spy)
    image = np.zeros((192, 192, 1), "uint8")
    rows = [("one", [image], [image + 50] * 10), ("two", [image], [image + 100] * 10)]
    page = np.asarray(comparisons.comparison(rows, ["given"]))
    assert seen["rows"] == ["one", "", "two", ""]
    assert len(seen["columns"]) == 9 and seen["columns"][0] == "given"
    counts = [(page == shade).all(axis=-1).sum() // 192**2 for shade in (50, 100)]
    assert counts == [10, 10]
    comparisons.comparison([("one", [], [image])], [])
    assert seen["columns"] == ["result"]
