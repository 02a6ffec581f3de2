import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.plotting import figures


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def test_curves_have_legends_and_scales():
    curves = {"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}
    one = {"a": ([1, 2], [1e-4, 4])}
    figure = figures.line_figure(
        {"curves": curves, "xlabel": "x", "ylabel": "y"},
        {"curves": one, "xlabel": "x", "ylabel": "y", "log": "y", "reference": (3.5, "baseline")},
        {"curves": one, "xlabel": "x", "ylabel": "y"},
    )
    figure.draw_without_rendering()
    legends = [axes.get_legend() for axes in figure.axes]
    texts = [[text.get_text() for text in legend.get_texts()] for legend in legends[:2]]
    assert texts == [["a", "b"], ["a", "baseline"]] and legends[2] is None
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear"]
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert "0.001" in labels and "1" in labels  # not powers of ten


def test_image_table_has_titles_notes_and_empty_cells():
    single, several = noise(6, 8, 3), noise(4, 6, 8, 3)
    figure = figures.image_table(
        [[single, None], [several, several[:1]]], ["a", "b"], ["one", "two"],
        notes=[["PSNR", None], [None, "SSIM"]],
    )  # fmt: skip
    shown = [len(axes.images) for axes in figure.axes]
    assert shown == [1, 0, 1, 1]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), single)
    assert figure.axes[2].images[0].get_array().shape[0] > 100  # a grid
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["one", "", "two", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["PSNR", "", "", "SSIM"]


def test_grey_images_are_written_in_grey_with_fewer_dots_if_need_be(tmp_path):
    grey = noise(2, 4, 28, 28, 1)
    figure = figures.image_table([list(grey)], ["a", "b"])
    path = tmp_path / "new" / "table.png"
    figures.save(figure, path, max_bytes=10**6)
    size = path.stat().st_size
    with Image.open(path) as image:
        assert image.mode == "L"
        width = image.width
    figures.save(figure, path, max_bytes=int(0.7 * size))
    with Image.open(path) as image:
        assert image.width < width and path.stat().st_size <= 0.7 * size
    with pytest.raises(ValueError, match="fewer images"):
        figures.save(figure, tmp_path / "large.png", max_bytes=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_photos_are_written_in_fewer_colours(tmp_path, monkeypatch):
    figure = figures.image_table([[noise(8, 32, 32, 3)]], ["a"])
    monkeypatch.setattr(figures, "DPI", (80,))
    figures.save(figure, tmp_path / "all.png", max_bytes=10**7)
    limit = int(0.6 * (tmp_path / "all.png").stat().st_size)
    figures.save(figure, tmp_path / "few.png", max_bytes=limit)
    assert (tmp_path / "few.png").stat().st_size <= limit
    with Image.open(tmp_path / "all.png") as one, Image.open(tmp_path / "few.png") as other:
        assert one.size == other.size
        distance = np.abs(np.int32(one.convert("RGB")) - np.int32(other.convert("RGB"))).mean()
    assert 0 < distance < 30


def test_figures_of_runs_and_evaluations_are_written(tmp_path):
    history = tmp_path / "history.csv"
    history.write_text("epoch,minutes,psnr,ssim\n1,0.5,20,0.6\n2,1.0,22,0.7\n")
    images = noise(3, 8, 8, 1)
    nearest = SimpleNamespace(distances=np.linspace(1, 2, 50))
    cells = [
        {"sampler": "ddim", "network_calls": n, "seconds_per_image": n / 10, "fid": 30 / n}
        for n in (20, 5)
    ]
    figures.restoration_curves(history, tmp_path / "restoration.png", 0.5)
    figures.process_strip(noise(3, 2, 8, 8, 1), ["a", "b", "c"], tmp_path / "strip.png")
    figures.sampler_report(cells, {"fid": 1.0, "num_images": 10}, tmp_path / "samplers.png")
    figures.memorisation({"pixels": (nearest, nearest)}, tmp_path / "memorisation.png")
    figures.closest_pairs({"pairs": (images, images[:2])}, tmp_path / "pairs.png")
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert image.width > 200, path
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_any_title_is_readable(tmp_path, recwarn):
    cell = np.zeros((4, 4, 4), "uint8")
    figure = figures.image_table([[cell]] * 2, ["cost: $5 or $7"], ["Kühe\n2", "猫"])
    figures.save(figure, tmp_path / "a.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["Kühe\n2", "1"]
    assert figure.axes[0].images[0].get_array().min() == 255  # transparent: white
    assert not recwarn.list


def test_a_figure_for_a_page_takes_the_colours_around_it():
    panel = {"curves": {"a": ([1, 2], [3, 4])}, "xlabel": "x", "ylabel": "y"}
    text = figures.svg(figures.line_figure({**panel, "reference": (3.5, "base")}), 'a "title"')
    assert ElementTree.fromstring(text).attrib["aria-label"] == 'a "title"'
    assert "currentColor" in text and "#1f77b4" in text
    assert not re.search("#000000|#ffffff", text)
    opening = text[: text.index(">")]
    assert "viewBox" in opening and not re.search(" (width|height)=", opening)
