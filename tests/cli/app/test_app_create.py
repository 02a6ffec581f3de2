"""The tab Create without a browser: from the form to a command, and to the same images."""

import shlex
import threading

import gradio as gr
import numpy as np
import pytest
from fixtures_page import PROMPTS
from PIL import Image, ImageSequence

from keras_diffusion.cli import edit, sample
from keras_diffusion.cli.app import compare, conditions, create
from keras_diffusion.cli.app.files import Files
from keras_diffusion.cli.app.jobs import UNEXPECTED, Cancelled, Progress, in_one_line


def progress():
    return Progress(lambda *_, **__: None, threading.Event())


# From the form to a command -------------------------------------------------------------------

# model, prompt, classes, negative prompt, guidance scale, steps, sampler; flags
FORMS = [
    ("tiny", "", [], "", 2.0, 2, "dpmpp_2m", ""),
    ("tiny", "ignored", ["digit 7", "digit 2"], "ignored", 2.0, 2, "dpmpp_2m",
     "--class-name 'digit 7' 'digit 2'"),
    ("tiny", None, [], None, 1.0, 5, "ddpm", "--guidance-scale 1 --sampler ddpm --num-steps 5"),
    ("words", " a bee ", ["ignored"], "", 2.0, 4, "dpmpp_2m", "--prompt 'a bee'"),
    ("words", "", [], "ant", 3.5, 4, "dpmpp_2m", "--negative-prompt ant --guidance-scale 3.5"),
    ("words", "--a bee", [], "", 2.0, 4, "dpmpp_2m", "'--prompt=--a bee'"),
]  # fmt: skip


@pytest.mark.parametrize("model, prompt, classes, negative, scale, steps, sampler, flags", FORMS)
def test_the_form_becomes_flags(
    page, model, prompt, classes, negative, scale, steps, sampler, flags
):
    arguments = create.flags_of(page, model, 3, 5, prompt, classes, negative, scale, steps, sampler)
    assert arguments == ["--model", model, *shlex.split(flags), "--num", "3", "--seed", "5"]
    options = page.parse("sample", arguments)
    assert (options.num, options.seed) == (3, 5)
    line = page.shell("sample", arguments)
    assert shlex.split(line) == ["python", "sample.py", *arguments]


def test_an_installed_package_shows_its_command(page):
    page.prog = "keras-diffusion app"
    assert page.shell("edit", ["a b"]) == "keras-diffusion edit 'a b'"


REJECTED = [
    ("words", "a sunflowr", "", "--prompt: 'a sunflowr' has unknown word 'sunflowr'.*sunflower"),
    ("words", "a bee", "dog", "--negative-prompt: .*dog"),
    ("words", "?", "", "--prompt"),
    ("other", "", "", "--model: unknown 'other'"),
    ("../tiny", "", "", "--model: unknown"),
]


@pytest.mark.parametrize("model, prompt, negative, message", REJECTED)
def test_what_the_library_rejects_is_shown_as_its_line(page, model, prompt, negative, message):
    @in_one_line_of([None])
    def job():
        arguments = create.flags_of(page, model, 1, 0, prompt, [], negative, 2.0, 4, "dpmpp_2m")
        create.make(page, model, arguments, progress())

    with pytest.raises(gr.Error, match=message) as error:
        job()
    assert "\n" not in error.value.message


def in_one_line_of(outputs):
    return lambda function: in_one_line(function, outputs)


# The same images ------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [
    "--model words --prompt 'a bee' --num 6 --seed 7",
    "--model tiny --class-name 'digit 7' 'digit 2' --num 5 --sampler ddpm --guidance-scale 3",
    "--model tiny --num 6 --batch-size 4",
])  # fmt: skip
def test_the_command_gives_the_same_images(page, flags, tmp_path):
    arguments = shlex.split(flags)
    made = create.make(page, arguments[1], arguments, progress())
    assert sample.main([*arguments, "--out", str(tmp_path / "grid.png")]) == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert np.array_equal(np.asarray(grid), np.asarray(made.plan.arrange(made.images)))


def test_variations_are_those_of_edit(page, tmp_path, monkeypatch):
    made = create.make(page, "words", shlex.split("--model words --prompt bee ant --num 4"),
                       progress())  # fmt: skip
    arguments, images = create.make_variations(page, made, 3, 0.7, progress())
    assert "--prompt ant" in shlex.join(arguments), "that of the image"
    Image.fromarray(made.images[3]).save(tmp_path / "image-4.png")
    place = tmp_path / "image-4.png"
    assert arguments[:2] == ["variations", "image-4.png"]
    command = ["variations", str(place), *arguments[2:], "--out", str(tmp_path / "out")]
    assert edit.main(command) == 0
    for number, image in enumerate(images, start=1):
        with Image.open(tmp_path / f"out/image-4-variations-{number}.png") as written:
            assert np.array_equal(np.asarray(written), image)


def test_the_way_from_noise_ends_at_the_image(page, tmp_path):
    made = create.make(page, "words", shlex.split("--model words --prompt bee --num 3"), progress())
    create.write_trajectory(page, made, 2, tmp_path / "way.gif", progress())
    with Image.open(tmp_path / "way.gif") as animation:
        frames = [np.asarray(f.convert("RGB"), int) for f in ImageSequence.Iterator(animation)]
    assert len(frames) > 2
    factor = len(frames[0]) // 16
    errors = [np.abs(frame[::factor, ::factor] - made.images[2]).mean() for frame in frames]
    assert errors[-1] < 8 < 20 < errors[0], "256 colours, but noise at the start"


# Compare ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, scales", [("1, 2.5 3", ["1", "2.5", "3"]), ("100", ["100"])])
def test_scales_are_numbers(text, scales):
    assert compare.guidance_scales(text) == scales


@pytest.mark.parametrize(
    "text", ["1 -h", "1 --num 9 --num-steps 9", "", None, "-1", "101", "nan", "1 " * 9]
)
def test_other_scales_are_rejected(text):
    with pytest.raises(ValueError, match="Scales: give 1 to 8 numbers from 0 to 100"):
        compare.guidance_scales(text)


def test_help_does_not_end_the_server(page, capsys):
    with pytest.raises(ValueError, match="flag"):
        page.parse("sample", ["--help"])


# Suggestions ----------------------------------------------------------------------------------


def test_words_are_offered_while_typing():
    assert conditions.suggestions(PROMPTS, "a photo of s") == ["sunflower"]
    assert conditions.suggestions(PROMPTS, "su") == ["sunflower", "a photo of a sunflower"]
    assert "an" in conditions.suggestions(PROMPTS, "A") and "ant" in conditions.suggestions(
        PROMPTS, "A"
    )
    assert conditions.suggestions(PROMPTS, "sunflower") == ["a photo of a sunflower"]
    for text in ("", None, "a photo ", "a xyz", "?!"):
        assert conditions.suggestions(PROMPTS, text) == []
    assert conditions.suggestions(None, "su") == [], "a model without prompts"


def test_a_suggestion_replaces_the_last_word():
    assert conditions.completed("a photo of s", "sunflower") == "a photo of sunflower "
    assert conditions.completed("su", "a photo of a sunflower") == "a photo of a sunflower"
    assert conditions.completed("", "bee") == "bee "


# Jobs -----------------------------------------------------------------------------------------


def test_progress_shows_the_time_that_is_left(monkeypatch):
    shown, now = [], [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    report = Progress(lambda share, desc: shown.append((share, desc)), threading.Event())
    report(0, 8)
    now[0] = 102.0
    report(2, 8)
    assert shown == [(0, "0 of 8 images"), (0.25, "2 of 8 images, 6 s left")]


def test_a_cancelled_job_stops_at_the_next_batch_and_leaves_its_outputs(page):
    cancelled, calls = threading.Event(), []

    def show(share, desc):
        calls.append(desc)
        if desc.startswith("4 of"):
            cancelled.set()

    arguments = shlex.split("--model words --num 40 --batch-size 4")
    report = Progress(show, cancelled)
    with pytest.raises(Cancelled):
        create.make(page, "words", arguments, report)
    assert sum("of 40" in call for call in calls) == 2, "none after the second batch"
    job = in_one_line(lambda: create.make(page, "words", arguments, report), [None, None])
    assert job() == [gr.skip(), gr.skip()]
    assert len(create.make(page, "words", arguments, progress()).images) == 40, "the next one runs"


def test_an_unexpected_error_is_logged_and_not_shown(caplog):
    def job():
        return {}["secret"]

    with pytest.raises(gr.Error) as error:
        in_one_line(job, [None])()
    assert error.value.message == UNEXPECTED and not error.value.print_exception
    assert "KeyError" in caplog.text


def test_a_message_is_text_not_markup():
    def job():
        raise ValueError("prompts: '<img src=x>' has unknown words.")

    with pytest.raises(gr.Error, match="--prompt: '&lt;img src=x&gt;'"):
        in_one_line(job, [None])()


def test_old_files_are_removed(tmp_path):
    files = Files(tmp_path)
    paths = [files.new("a.png"), files.new("a.png")]
    assert len(set(paths)) == 2
    for path in paths:
        path.write_bytes(b"...")
    files.remove_old(seconds=60)
    assert all(path.exists() for path in paths)
    files.remove_old(seconds=-1)
    assert list(tmp_path.iterdir()) == []
