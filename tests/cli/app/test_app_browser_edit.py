"""The tabs Edit and Watch in a real browser (headless Chromium)."""

import contextlib
import io
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, TINY, run
from fixtures_browser import By, visiting
from fixtures_data import save_image
from fixtures_page import SECONDS, wait, write_prompt_export
from PIL import Image, ImageSequence

from keras_diffusion.data import decoding

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with saved_models/words, and images of several kinds."""
    folder = tmp_path_factory.mktemp("edit")
    write_prompt_export(folder)
    save_image(folder / "photo.png", size=(400, 300))
    save_image(folder / "other.jpg", size=(64, 64), seed=1)
    (folder / "text.png").write_text("hello")
    return folder


@pytest.fixture
def downloads(tmp_path):
    return tmp_path


@pytest.fixture
def page(server, downloads):
    with visiting(server, downloads=downloads) as page:
        page.tab("Edit")
        yield page


def choose(page, text):
    page.one(f"//*[@id='edit-kind']//label[normalize-space()='{text}']").click()


def upload(page, path, place="edit-first"):
    page.at_rest(page.one(f"//*[@id='{place}']//button[contains(., 'Click to Upload')]"))
    page.driver.find_element(By.CSS_SELECTOR, f"#{place} input[type=file]").send_keys(str(path))


def results(page):
    """The images of the results; waits for them."""
    sources = "//*[@id='edit-results']//*[contains(@class, 'grid-wrap')]//img"
    images = wait(lambda: page.all(sources), what="results")
    return [page.download(image.get_attribute("src")) for image in images]


def command(page):
    """The arguments of the shown command, without "python edit.py"."""
    line = page.one("//*[contains(@class, 'command')]//textarea").get_attribute("value")
    return shlex.split(line)[2:]


def is_photo(png):
    """Whether an image has more colours than the controls of a page."""
    with Image.open(io.BytesIO(png)) as image:
        return image.getcolors(5000) is None


def downloaded(folder, name):
    return wait(lambda: (folder / name).exists() and folder / name, what=name)


def test_a_mask_is_painted_and_filled_and_all_other_pixels_stay(page, folder, downloads):
    from selenium.webdriver.common.action_chains import ActionChains

    upload(page, folder / "photo.png")
    canvas = page.one("//*[@id='edit-editor']//canvas")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    wait(lambda: is_photo(canvas.screenshot_as_png), what="the photo")
    page.at_rest(canvas)  # the editor moves the image into place
    strokes = ActionChains(page.driver).move_to_element_with_offset(canvas, -30, 0).click_and_hold()
    for _ in range(6):
        strokes = strokes.move_by_offset(10, 5)
    strokes.release().perform()
    page.write("Prompt", "a bee")
    page.write("Number of results", "2")
    page.one("//*[@id='edit-start']").click()
    images = results(page)
    page.one("//*[@id='edit-mask']").click()
    mask = decoding.read(downloaded(downloads, "mask.png"))[..., 0] == 255
    before = decoding.read(folder / "photo.png")
    assert mask.shape == before.shape[:2] and 500 < mask.sum() < 20_000
    assert mask[150, 200], "the stroke goes through the middle"
    assert len(images) == 2
    for image in images:
        np.testing.assert_array_equal(image[~mask], before[~mask])
        assert (image[mask] != before[mask]).any(axis=-1).mean() > 0.9
    shutil.copy(downloads / "mask.png", folder / "mask.png")
    run("edit.py", *command(page), "--out", "filled", cwd=folder)
    for number, image in enumerate(images, start=1):
        expected = decoding.read(folder / f"filled/photo-inpaint-{number}.png")
        np.testing.assert_array_equal(image, expected)


def test_an_image_is_enlarged(page, folder):
    choose(page, "Enlarge")
    upload(page, folder / "other.jpg")
    page.one("//*[@id='edit-first']//img")
    page.write("Number of results", "1")
    page.one("//*[@id='edit-start']").click()
    images = results(page)
    assert [image.shape for image in images] == [(16, 16, 3), (4, 4, 3), (16, 16, 3)]
    run("edit.py", *command(page), "--out", "enlarged", cwd=folder)
    expected = decoding.read(folder / "enlarged/other-upscale-1.png")
    np.testing.assert_array_equal(images[0], expected)
    assert "enlarged by 4" in page.one("//*[@id='edit-done']//textarea").get_attribute("value")


def test_between_two_images_with_an_animation(page, folder):
    choose(page, "In-betweens")
    upload(page, folder / "photo.png")
    upload(page, folder / "other.jpg", "edit-second")
    wait(lambda: len(page.all("//*[@id='edit-first' or @id='edit-second']//img")) == 2)
    page.write("Number of results", "4")
    page.one("//*[@id='edit-start']").click()
    assert len(results(page)) == 4
    source = page.one("//*[@id='edit-animation']//img").get_attribute("src")
    assert source.endswith("photo-other-interpolate.gif") and page.status(source) == 200
    run("edit.py", *command(page), "--out", "between", cwd=folder)
    with Image.open(folder / "between/photo-other-interpolate.gif") as gif:
        assert len(list(ImageSequence.Iterator(gif))) == 4


def test_a_wrong_upload_is_one_line_and_the_next_one_works(page, folder):
    upload(page, folder / "text.png")
    assert page.toast() == (
        "'text.png' cannot be read: not an image by its content. Choose another image."
    )
    wait(lambda: not page.all("//*[@id='edit-first']//img"))
    assert "Traceback" not in page.driver.page_source
    choose(page, "Variations")
    upload(page, folder / "other.jpg")
    page.one("//*[@id='edit-first']//img")
    page.write("Number of results", "1")
    page.one("//*[@id='edit-start']").click()
    assert len(results(page)) == 1


def test_an_image_of_the_tab_create_is_edited(page):
    page.tab("Create")
    page.write("Prompt", "a bee")
    page.generate(2)
    page.images()
    page.all("//*[contains(@class, 'grid-wrap')]//button")[1].click()
    page.button("Edit it").click()
    page.one("//*[@id='edit-editor']//canvas")
    choose(page, "Colour")
    page.one("//*[@id='edit-first']//img")
    page.write("Number of results", "1")
    page.one("//*[@id='edit-start']").click()
    assert results(page)[0].shape == (16, 16, 3)


# Watch ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def training(folder):
    """A training of app.py's folder that goes on until the end of the block."""
    flags = [*TINY, "--epochs", "100000", "--run-dir", "runs/tiny"]
    program = [sys.executable, str(ROOT / "train.py"), *flags]
    log = open(folder / "train.log", "wb")  # noqa: SIM115  closed with the process
    process = subprocess.Popen(program, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            log.close()


def test_a_run_that_is_training_is_followed(page, folder):
    page.tab("Watch")

    def about():
        return page.one("//*[@id='watch-about']").text

    wait(lambda: "There are no runs in runs" in about(), what="no runs")
    with training(folder):
        shown = "//*[@id='watch-samples']//img"
        samples = wait(lambda: page.all(shown), 3 * SECONDS, what="samples")[0]
        assert page.download(samples.get_attribute("src")).shape[0] > 100
        wait(lambda: "training now" in about() and " left" in about(), what="training now")
        first = about()
        wait(lambda: about() != first, what="another state")
        assert page.all("//*[@id='watch-losses']//*[name()='svg']")
        source = samples.get_attribute("src")
        wait(
            lambda: page.one(shown).get_attribute("src") != source,
            what="new samples",
        )
    wait(lambda: "stopped" in about() and "Resume it with" in about(), what="stopped")
    grids = sorted((folder / "runs/tiny/samples").glob("epoch-*.png"))
    epoch = int(grids[1].stem.removeprefix("epoch-"))
    page.write("Samples after epoch", str(epoch))
    caption = "//*[@id='watch-caption']"
    shown = f"Samples after epoch {epoch},"
    wait(lambda: page.one(caption).text.startswith(shown), what="the second grid")
    page.one("//button[contains(., 'Health')]").click()
    wait(lambda: len(page.all("//*[@id='watch-health']//*[name()='svg']")) == 4, what="health")
    shutil.rmtree(folder / "runs")
    wait(lambda: "There are no runs" in about(), what="no runs")
