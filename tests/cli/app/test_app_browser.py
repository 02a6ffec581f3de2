"""The page in real browsers (headless Chromium), and many visitors at once over plain HTTP."""

import json
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from commands import run
from fixtures_browser import visiting
from fixtures_page import SECONDS, Visitor, at_once, memory, serving, wait
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(exports):
    return exports


@pytest.fixture
def page(server, tmp_path):
    with visiting(server, downloads=tmp_path) as page:
        yield page


def test_images_of_a_prompt_are_those_of_the_copied_command(page, folder, tmp_path):
    field = page.field("Prompt")
    field.send_keys("a photo of a sunf")
    page.button("sunflower").click()
    wait(lambda: field.get_attribute("value") == "a photo of a sunflower ")
    page.write("Seed", "7")
    page.generate(6)
    images = page.images()
    assert len(images) == 6 and images[0].shape == (16, 16, 3)
    line = page.command()
    assert "--prompt 'a photo of a sunflower'" in line and "--seed 7" in line
    script, *arguments = shlex.split(line)[1:]
    run(script, *arguments, "--separate", "--out", "copied", cwd=folder)
    for number, image in enumerate(images):
        with Image.open(folder / f"copied/{number:05d}.png") as expected:
            assert np.array_equal(np.asarray(expected), image)
    run(script, *arguments, "--out", "copied.png", cwd=folder)
    page.button("Download the grid as PNG").click()
    wait((tmp_path / "words.png").exists)
    with Image.open(folder / "copied.png") as expected, Image.open(tmp_path / "words.png") as grid:
        assert np.array_equal(np.asarray(expected), np.asarray(grid))


def test_an_unknown_word_shows_the_nearest(page):
    page.write("Prompt", "a sunflowr")
    page.generate()
    message = page.toast()
    assert "unknown word 'sunflowr' (nearest: sunflower" in message
    assert "Traceback" not in page.driver.page_source and not page.sources()
    page.write("Prompt", "a sunflower")
    page.generate()
    assert len(page.images()) == 4, "and the next attempt works"


def test_no_click_that_follows_typing_is_lost(page):
    for number in range(2, 8):
        page.write("Prompt", "a bee" if number % 2 else "an ant")
        page.generate(number)
        wait(lambda count=number: len(page.sources()) == count, what=f"{number} images")


def test_switching_the_model_changes_the_form(page):
    page.choose_model("tiny")
    page.field("Classes")
    wait(lambda: not page.all("//label[.//span[normalize-space()='Prompt']]"))
    page.generate(2)
    assert [image.shape for image in page.images()] == [(8, 8)] * 2
    assert "--model tiny" in page.command()


def test_an_image_has_variations_and_a_way_from_noise(page):
    page.write("Prompt", "a bee")
    page.generate(3)
    page.images()
    assert [source.split("/")[-1] for source in page.sources()] == [
        "image-1.png", "image-2.png", "image-3.png",
    ]  # fmt: skip
    page.all("//*[contains(@class, 'grid-wrap')]//button")[1].click()
    page.button("Variations").click()
    box = page.field("Command for the same variations")
    assert "edit.py variations image-2.png" in box.get_attribute("value")
    page.button("From noise to image").click()
    source = page.one("//img[contains(@src, 'image-2.gif')]").get_attribute("src")
    assert page.status(source) == 200


def test_comparisons(page):
    page.tab("Compare")
    page.button("Compare").click()
    source = page.one("//img[contains(@src, 'comparison.png')]").get_attribute("src")
    assert page.download(source).ndim == 3
    text = page.command()
    assert "--model words" in text and "--model tiny" in text


IN_TABS = {
    "Create": "//button[normalize-space()='Generate']", "Edit": "//*[@id='edit-start']",
    "Compare": "//button[normalize-space()='Compare' and not(@role='tab')]",
    "Watch": "//*[@id='watch-about']",
}  # fmt: skip


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_nothing_is_cut_off(server, size, dark):
    """In light and dark, at the width of a desktop and of a phone."""
    with visiting(server, size=size, dark=dark) as page:
        page.generate(9)
        page.images()
        background = page.driver.execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )
        assert (background == "rgb(255, 255, 255)") != dark
        for tab, place in IN_TABS.items():
            page.tab(tab)
            page.one(place)
            time.sleep(0.5)
            too_wide = page.driver.execute_script("""
                return [...document.querySelectorAll("main *")].filter(e => e.checkVisibility() &&
                    e.getBoundingClientRect().width && !e.closest("svg, .thumbnails, .option-list")
                    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)
            """)
            assert not too_wide, (tab, too_wide[0][:500])


def test_cancel_ends_a_job_at_once(page):
    page.one("//span[contains(., 'More options')]").click()
    page.write("Steps", "100")
    page.generate(64)
    wait(lambda: "of 64 images" in page.driver.page_source, what="progress")
    began = time.monotonic()
    page.button("Cancel").click()
    page.write("Steps", "1")
    page.generate(1)
    assert len(page.images()) == 1, "the cancelled ones are not shown"
    assert time.monotonic() - began < 15
    assert page.command().endswith("--num-steps 1 --num 1 --seed 0")


def test_a_job_that_waits_can_be_cancelled(page, server):
    others = [Visitor(server[1]) for _ in range(8)]  # some seconds
    long = {"Number of images": 64, "Steps": 100}
    counts = []
    threads = [
        threading.Thread(target=lambda v=v: counts.append(len(v.job("Generate", long)[0])))
        for v in others
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    page.generate(7)
    wait(lambda: "queue:" in page.driver.page_source, what="the place in the queue")
    page.button("Cancel").click()
    wait(lambda: "queue:" not in page.driver.page_source)
    page.generate(3)
    for thread in threads:
        thread.join(60)
    assert counts == [64] * 8, "the jobs of others go on"
    assert len(page.images()) == 3


def test_two_visitors_get_their_own_images(server):
    with visiting(server) as one, visiting(server) as other:
        one.write("Prompt", "a bee")
        other.write("Prompt", "an ant")
        one.generate(5)
        other.generate(3)
        assert [len(one.images()), len(other.images())] == [5, 3]
        assert "a bee" in one.command() and "an ant" in other.command()
        address = one.sources()[0]
        assert "gradio_api/file=" in address and one.status(address) == 200
        path = urlsplit(address).path
        assert Visitor(server[1]).status(path.removeprefix("/")) == 404, "a stranger"
        file = unquote(path.split("file=")[1])
        assert Path(file).is_file()
        assert other.driver.execute_script("return document.cookie") == "", "hidden from scripts"
        script = """
            const [path, done] = arguments;
            const file = {path, meta: {_type: "gradio.FileData"}};
            const body = JSON.stringify({fn_index: 0, session_hash: "other", data: [file]});
            fetch("/gradio_api/queue/join", {method: "POST", body,
                headers: {"content-type": "application/json"}}).then(r => done(r.status));
        """
        assert other.driver.execute_async_script(script, file) == 403
        other.driver.get_log("browser")  # Chromium lists that answer as an error
        one.driver.get_log("browser")


# Many visitors --------------------------------------------------------------------------------


def test_twenty_visitors_at_once_are_served(server):
    visitors = [Visitor(server[1]) for _ in range(20)]

    def call(number):
        values = {"Prompt": "a bee", "Seed": number, "Number of images": 2}
        return visitors[number].job("Generate", values)

    results = at_once(call, 20)
    for number, (gallery, _, command, *_) in enumerate(results):
        assert len(gallery["value"] if isinstance(gallery, dict) else gallery) == 2
        assert f"--seed {number}" in json.dumps(command)


def test_jobs_are_served_in_the_order_of_their_requests(server):
    visitors, finished = [Visitor(server[1]) for _ in range(8)], []
    threads = []
    for number, visitor in enumerate(visitors):

        def call(number=number, visitor=visitor):
            visitor.job("Generate", {"Number of images": 16, "Steps": 30})
            finished.append(number)

        threads.append(threading.Thread(target=call))
        threads[-1].start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(60)
    assert finished == list(range(8))


def test_memory_stays_flat_over_200_requests(server):
    visitor = Visitor(server[1])

    def calls(count):
        for number in range(count):
            visitor.job("Generate", {"Seed": number, "Number of images": 8})
        return memory(server[0])

    before = calls(50)
    after = calls(200)
    assert after < before + 20, f"{before:.0f} MB, then {after:.0f} MB"


def test_what_another_visitor_sent_cannot_be_named(server):
    one, other = Visitor(server[1]), Visitor(server[1])
    gallery = one.job("Generate", {"Number of images": 1})[0]
    path = gallery[0]["image"]["path"] if isinstance(gallery, list) else None
    assert one.status(f"gradio_api/file={path}") == 200
    assert other.status(f"gradio_api/file={path}") == 404
    for outside in ("/etc/passwd", str(Path(__file__)), "app.py"):
        assert one.status(f"gradio_api/file={outside}") == 404


def test_a_model_that_is_not_listed_is_not_loaded(server, folder):
    visitor = Visitor(server[1])
    shutil.copytree(folder / "saved_models/tiny", folder / "elsewhere", dirs_exist_ok=True)
    for name in ("elsewhere", str(folder / "elsewhere"), "../tiny"):
        with pytest.raises(ValueError) as error:
            visitor.job("Generate", {"Model": name})
        assert "\n" not in str(error.value)


def test_a_job_cannot_skip_the_queue(server):
    visitor = Visitor(server[1])
    button = [visitor.component("button", "Generate"), "click"]
    [job] = [each for each in visitor.config["dependencies"] if button in each["targets"]]
    body = {"fn_index": job["id"], "session_hash": visitor.session, "data": []}
    assert visitor.status("gradio_api/run/predict", json.dumps(body).encode()) == 404


@pytest.mark.parametrize("stop, code", [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_files_are_removed_when_the_page_stops(folder, tmp_path, stop, code):
    shutil.copytree(folder / "saved_models", tmp_path / "saved_models")
    with serving(tmp_path, "--model", "words", code=code) as (process, url):
        gallery = Visitor(url).job("Generate", {"Number of images": 1})[0]
        path = Path(gallery[0]["image"]["path"])
        assert path.is_file()
        process.send_signal(stop)
        process.wait(SECONDS)
    assert not path.parents[1].exists()
