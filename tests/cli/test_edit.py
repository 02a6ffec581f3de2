"""edit.py as a user meets it: with stand-ins for the model, and once with the session's export."""

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_data import save_image
from fixtures_input import check, file
from PIL import Image

from keras_diffusion.cli import edit
from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.data import decoding as reading
from keras_diffusion.saving import loading

CLASSES = ("ant", "bee", "cat")


def fake_model(channels=3, frames=1, **options):
    return SimpleNamespace(**{
        "name": "tiny", "image_shape": (8, 8, channels * frames), "num_classes": 3,
        "class_names": CLASSES, "prompts": None, "guidance": Guidance(2.0, (0.1, 0.8)),
        "frames": frames, **options,
    })  # fmt: skip


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A list of (function of `kd.editing`, its arguments); images are 100 where nothing is known.

    The images in the current folder: wide.png 12x20, alpha.png 10x8 (left half transparent),
    grey.png 8x8, mask.png for wide.png.
    """
    from keras_diffusion.sampling import editing

    calls = []

    def stand_in(name, count_of):
        def call(model, *arguments, **options):
            calls.append((name, arguments, options))
            count = count_of(*arguments)
            result = np.full((count, *model.image_shape), 100, "uint8")
            if name == "restore" and arguments[1].is_projection:
                known = np.asarray(arguments[1].apply(np.ones(result.shape, "float32")))
                result = np.where(known == 1, arguments[0], result)
            return result

        monkeypatch.setattr(editing, name, call)

    stand_in("restore", lambda measurement, operator: len(measurement))
    stand_in("variations", lambda image, num: num)
    stand_in("img2img", len)
    stand_in("translate", len)
    stand_in("interpolate", lambda a, b, num: num)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(edit, "locate_model", Path)
    use(monkeypatch, fake_model())
    save_image(Path("wide.png"), size=(20, 12))
    pixels = save_image(Path("alpha.png"), "RGBA", size=(8, 10))
    pixels[..., 3] = np.where(np.arange(8) < 4, 90, 255)
    Image.fromarray(pixels).save("alpha.png")
    save_image(Path("grey.png"), "L", size=(8, 8))
    mask = np.zeros((12, 20), "uint8")
    mask[2:6, 15:18] = 255
    Image.fromarray(mask).save("mask.png")
    return calls


def use(monkeypatch, model):
    monkeypatch.setattr(loading, "load", lambda path: model)


def run(arguments):
    assert edit.main([*shlex.split(arguments), "--model", "x"]) == 0


def written():
    return sorted(path.name for path in Path("edits").iterdir())


# Restoration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags", ["wide.png --mask mask.png", "wide.png --box 15 2 3 4", "wide.png --box 0 2 20 4"]
)
def test_inpaint_changes_what_is_masked_and_nothing_else(flags, calls, capsys):
    run(f"inpaint {flags} --num 2 --seed 5 --class-name bee")
    assert written() == ["inpaint.png", "wide-inpaint-1.png", "wide-inpaint-2.png"]
    before, after = reading.read("wide.png"), reading.read("edits/wide-inpaint-2.png")
    mask = np.zeros((12, 20), bool)
    mask[2:6, slice(0, 20) if "20" in flags else slice(15, 18)] = True
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert (np.abs(after[mask].astype(int) - 100) < 9).mean() > 0.5  # others are near known ones
    [(_, (measurement, operator), options)] = calls
    assert measurement.shape == (2, 8, 8, 3) and operator.arrays[0].shape == (2, 8, 8, 1)
    assert options.pop("labels") == [1, 1] and options.pop("guidance_interval") == (0.1, 0.8)
    assert options == {
        "seed": 5, "batch_size": 16, "guidance_scale": 2.0, "guidance_rescale": 0.0,
    }  # fmt: skip
    assert "wide: 12x20" in capsys.readouterr().out


def test_inpaint_fills_what_is_transparent(calls):
    run("inpaint alpha.png --mask alpha --num 1 --num-steps 3")
    before, after = reading.read("alpha.png"), reading.read("edits/alpha-inpaint-1.png")
    np.testing.assert_array_equal(after[:, 4:], before[:, 4:, :3])
    assert calls[0][2] == {"seed": 0, "batch_size": 16, "num_steps": 3}


def test_inpaint_takes_images_of_several_kinds_and_sizes(calls):
    Path("other").mkdir()
    shutil.copy("wide.png", "other/wide.png")
    Image.fromarray(np.full((8, 8), 65535, "uint16")).save("deep.png")
    run("inpaint wide.png other/wide.png grey.png alpha.png deep.png --box 1 1 3 3 --num 1")
    names = ["alpha", "deep", "grey", "wide", "wide_2"]
    assert written() == sorted([f"{name}-inpaint-1.png" for name in names] + ["inpaint.png"])
    modes = {"alpha": "RGBA", "deep": "L", "grey": "L", "wide_2": "RGB"}
    for name, mode in modes.items():
        with Image.open(f"edits/{name}-inpaint-1.png") as image:
            assert image.mode == mode
    [(_, (measurement, operator), _)] = calls
    assert len(measurement) == len(operator.arrays[0]) == 5


@pytest.mark.parametrize(
    ("flags", "factor", "size"),
    [("wide.png", 4, 2), ("wide.png --factor 2", 2, 4), ("small.png", 2, 4), ("half.png", 2, 4)],
)
def test_upscale_reduces_to_what_the_model_enlarges(flags, factor, size, calls):
    save_image(Path("small.png"), size=(5, 7))
    save_image(Path("half.png"), size=(4, 4))
    run(f"upscale {flags} --num 2")
    [(_, (measurement, operator), _)] = calls
    assert measurement.shape == (2, size, size, 3)
    reduced = operator.apply(np.zeros((1, 8, 8, 3), "float32"))
    assert reduced.shape == (1, 8 // factor, 8 // factor, 3)
    if flags == "half.png":
        np.testing.assert_array_equal(measurement[0], reading.read("half.png"))
    with Image.open(f"edits/{flags[:4]}{flags[4:].partition('.')[0]}-upscale-1.png") as image:
        assert image.size == (8, 8)


def test_colorize_keeps_size_and_brightness(calls):
    run("colorize wide.png grey.png --num 1 --labels 0 2")
    [(_, (measurement, _), options)] = calls
    assert measurement.shape == (2, 8, 8, 1) and options["labels"] == [0, 2]
    with Image.open("wide.png") as before, Image.open("edits/wide-colorize-1.png") as after:
        assert after.size == (20, 12) and after.mode == "RGB"
        luma = [np.asarray(image.convert("L"), int) for image in (before, after)]
        assert np.abs(luma[0] - luma[1]).max() <= 1


def test_fill_frames_writes_all_frames_and_an_animation(calls, monkeypatch):
    use(monkeypatch, fake_model(frames=4))
    run("fill-frames wide.png grey.png")
    frames = [f"wide-grey-fill-frames-{number}.png" for number in (1, 2, 3, 4)]
    assert written() == ["fill-frames.png", *frames, "wide-grey-fill-frames.gif"]
    first, middle, *_ = (reading.read(f"edits/{frame}") for frame in frames)
    assert (middle == 100).all() and first.shape == (8, 8, 3) and first.std() > 10
    run("fill-frames wide.png grey.png --num 2 --out two")
    assert {"wide-grey-1-fill-frames.gif", "wide-grey-2-fill-frames-4.png"} <= {
        path.name for path in Path("two").iterdir()
    }


# Generation ---------------------------------------------------------------------------------


def test_variations(calls):
    run("variations wide.png --num 3 --strength 0.3")
    [(_, (image, num), options)] = calls
    assert image.shape == (8, 8, 3) and num == 3 and options["strength"] == 0.3
    assert written() == ["variations.png", *(f"wide-variations-{i}.png" for i in (1, 2, 3))]


def test_restyle_by_noise_or_by_inversion(calls):
    run("restyle wide.png grey.png --to cat --num 2 --guidance-scale 3")
    run("restyle wide.png --to 1 --from ant --invert")
    (name, (images,), options), (other, (image,), inversion) = calls
    assert name == "img2img" and images.shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(images[0], images[1])
    assert (options["labels"], options["strength"]) == ([2] * 4, 0.6)
    assert options["guidance_scale"] == 3
    assert other == "translate" and image.shape == (1, 8, 8, 3)
    assert (inversion["source"], inversion["target"]) == (0, 1)


def test_restyle_to_a_prompt_or_a_class_of_its_model(calls, capsys, monkeypatch):
    use(monkeypatch, fake_model(prompts=Prompts(CLASSES)))
    run("restyle wide.png --to 'a bee'")
    run("restyle wide.png --to 2")
    run("restyle wide.png --from ant --to bee --invert")
    assert calls[0][2]["prompts"] == ["a bee"] and calls[1][2]["labels"] == [2]
    assert (calls[2][2]["source"], calls[2][2]["target"]) == ("ant", "bee")
    check(edit.main, "restyle wide.png --to dog --model x", "--to: .*unknown word", capsys)
    check(edit.main, "restyle wide.png --to bee --from dog --invert --model x", "--from", capsys)
    check(edit.main, "restyle wide.png --to 3 --model x", "--to", capsys)


def test_interpolate_between_images_or_seeds(calls):
    run("interpolate wide.png grey.png --num 10 --gif")
    run("interpolate 3 14 --num 2")
    assert [call[1][2] for call in calls] == [10, 2] and calls[1][1][:2] == (3, 14)
    assert {"interpolate.png", "3-14-interpolate-2.png", "wide-grey-interpolate.gif"} <= set(
        written()
    )


def test_guidance_would_change_the_ends_of_an_interpolation(calls):
    run("interpolate wide.png grey.png --class-name bee")
    run("interpolate wide.png grey.png --class-name bee --guidance-scale 3")
    run("interpolate 3 14 --class-name bee")
    scales = [options.get("guidance_scale") for _, _, options in calls]
    assert scales == [None, 3.0, 2.0] and all(call[2]["labels"] == 1 for call in calls)


# A real export ------------------------------------------------------------------------------


def test_an_export_gives_what_the_model_gives(export, tmp_path, monkeypatch):
    from keras_diffusion.diffusion import operators
    from keras_diffusion.sampling import editing

    model, path = export
    monkeypatch.chdir(tmp_path)
    pixels = save_image(Path("digit.png"), "L", size=(8, 8))
    flags = "--box 2 1 3 4 --num 2 --num-steps 2 --seed 3 --class-name 'digit 7'"
    arguments = ["inpaint", "digit.png", "--model", str(path), *shlex.split(flags)]
    assert edit.main(arguments) == 0
    known = np.ones((2, 8, 8))
    known[:, 1:5, 2:5] = 0
    expected = editing.restore(
        model, np.stack([pixels[..., None]] * 2), operators.mask(known), labels=[7, 7], num_steps=2,
        seed=3, guidance_scale=2.0, guidance_interval=(0.1, 0.8),
    )  # fmt: skip
    for number, image in enumerate(expected, start=1):
        result = reading.read(f"edits/digit-inpaint-{number}.png").astype(int)
        np.testing.assert_array_equal(result[known[0] == 1], pixels[known[0] == 1][:, None])
        assert np.abs(result - image).max() <= 2


# Rejected calls -----------------------------------------------------------------------------

REJECTED = [
    ("anomaly nowhere", "FOLDER"), ("anomaly wide.png", "FOLDER"),
    ("anomaly . --times 2", "--times"), ("anomaly . --noise salt", "--noise"),
    ("anomaly . --reference nowhere", "--reference"),
    ("anomaly . --noise inversion --draws 3", "--draws"),
    ("inpaint nowhere.png --box 0 0 1 1", "IMAGE"), ("inpaint . --box 0 0 1 1", "IMAGE"),
    ("inpaint broken.png --box 0 0 1 1", "IMAGE"), ("inpaint wide.png", "--mask"),
    ("inpaint wide.png --mask mask.png --box 0 0 1 1", "--box"),
    ("inpaint wide.png --mask nowhere.png", "--mask"), ("inpaint wide.png --mask alpha", "--mask"),
    ("inpaint grey.png --mask mask.png", "--mask"), ("inpaint wide.png --mask black.png", "--mask"),
    ("inpaint wide.png --mask white.png", "--mask"),
    ("inpaint wide.png --mask mask.png mask.png", "--mask"),
    ("inpaint wide.png --box 0 0 0 4", "--box"), ("inpaint wide.png --box 15 0 6 4", "--box"),
    ("inpaint wide.png --box 0 0 1 1 --num 0", "--num"),
    ("inpaint wide.png --box 0 0 1 1 --out mask.png", "--out"),
    ("inpaint wide.png --box 0 0 1 1 --class-name dog", "--class-name"),
    ("inpaint wide.png --box 0 0 1 1 --labels 3", "--labels"),
    ("inpaint wide.png --box 0 0 1 1 --labels 0 1", "--labels"),
    ("inpaint wide.png --box 0 0 1 1 --guidance-scale 2", "--guidance-scale"),
    ("upscale wide.png --factor 3", "--factor"), ("upscale half.png --factor 16", "--factor"),
    ("upscale thin.png --factor 4", "--factor"),
    ("variations wide.png --strength 0", "--strength"),
    ("variations wide.png grey.png", "grey.png"),
    ("restyle wide.png", "--to"), ("restyle wide.png --to dog", "--to"),
    ("restyle wide.png --to 7", "--to"), ("restyle wide.png --to cat --from ant", "--from"),
    ("restyle wide.png --to cat --invert --from dog", "--from"),
    ("restyle wide.png --to cat --invert --num 2", "--num"),
    ("restyle wide.png --to cat --invert --strength 1", "--strength"),
    ("interpolate wide.png 3", "A: "), ("interpolate 3 -1", "IMAGE"),
    ("fill-frames wide.png grey.png", "--model"), ("sharpen wide.png", "COMMAND"), ("", "COMMAND"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "flag"), REJECTED)
def test_rejected(arguments, flag, calls, capsys):
    file("broken.png", "hello")()
    save_image(Path("thin.png"), size=(1, 1))
    save_image(Path("half.png"), size=(4, 4))
    for name, value in (("black", 0), ("white", 255)):
        Image.fromarray(np.full((12, 20), value, "uint8")).save(f"{name}.png")
    check(edit.main, f"{arguments} --model x" if arguments else "", flag, capsys)
    assert not calls


def test_a_given_image_or_mask_is_not_overwritten(calls, capsys):
    shutil.copy("wide.png", "grey-restyle-1.png")
    images = "grey.png grey-restyle-1.png"
    check(edit.main, f"restyle {images} --to cat --model x --out .", "--out", capsys)
    shutil.copy("mask.png", "inpaint.png")
    arguments = "inpaint wide.png --mask inpaint.png --model x --out ."
    check(edit.main, arguments, "--out: inpaint.png would", capsys)
    assert not calls


@pytest.mark.parametrize("command", ["colorize wide.png", "variations wide.png"])
def test_a_model_that_does_not_fit(command, calls, capsys, monkeypatch):
    use(monkeypatch, fake_model(channels=1, frames=1 if command.startswith("c") else 2))
    check(edit.main, f"{command} --model x", "--model", capsys)
