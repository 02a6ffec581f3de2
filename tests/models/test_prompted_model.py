"""A model of prompts: trained, drawn from, saved, exported, scored, and the commands around it."""

import json
import pathlib
import re
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_input import refusal
from PIL import Image

import sample
import train
from keras_diffusion import DiffusionModel, Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.models.inputs import with_tokens
from keras_diffusion.networks import TextEncoder, unet
from keras_diffusion.saving import loading, saved_model

SHAPE = (4, 4, 1)
PROMPTS = Prompts(["dark", "bright"])
LABELS = np.arange(64) % 2
IMAGES = np.random.default_rng(0).integers(0, 56, (64, *SHAPE)) + 200 * LABELS[:, None, None, None]
IMAGES = IMAGES.astype("uint8")
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def new_model(**options):
    keras.utils.set_random_seed(0)
    text = TextEncoder(PROMPTS.num_tokens, PROMPTS.length, width=16, depth=1)
    network = unet(SHAPE, text=text, widths=(8,), attention=(True,), embedding_width=16)
    model = DiffusionModel(network, prompts=PROMPTS, ema_decay=0.9, label_dropout=0.2, **options)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


@pytest.fixture(scope="module")
def model():
    """A model that has learned its two classes; not changed."""
    model = new_model()
    model.fit(IMAGES, LABELS, batch_size=32, epochs=40, verbose=0)
    return model


OPTIONS = {"num_steps": 4, "sampler": "ddim"}


# Training


def test_every_label_becomes_one_of_its_prompts():
    model = new_model()
    batch = {"image": tf.zeros((4000, *SHAPE), tf.uint8), "label": tf.ones(4000, tf.int32)}
    noised = model._noised(batch, tf.constant([1, 2]))
    assert "label" not in noised and noised["tokens"].dtype == tf.int32
    rows, counts = np.unique(noised["tokens"], axis=0, return_counts=True)
    allowed = np.concatenate([PROMPTS.table[1], PROMPTS.table[2, :1]])
    assert {tuple(row) for row in rows} == {tuple(row) for row in allowed}
    none = np.flatnonzero((rows[:, 1:] == 0).all(axis=1))
    assert counts[none] / 4000 == pytest.approx(0.2, abs=0.03), "the null prompt"
    others = np.delete(counts, none)
    assert np.ptp(others / others.sum()) < 0.06, "templates in equal shares"


def test_prompts_are_a_function_of_seed_and_step_and_evaluation_takes_the_plain_ones():
    one, other = new_model(seed=3), new_model(seed=3)
    batch = {"image": tf.constant(IMAGES), "label": tf.constant(LABELS, tf.int32)}
    drawn = [each._noised(batch, tf.constant([3, 7]))["tokens"] for each in (one, other)]
    np.testing.assert_array_equal(*drawn)
    later = one._noised(batch, tf.constant([3, 8]))["tokens"]
    assert (later.numpy() != drawn[0].numpy()).any()
    fixed = one._noised_by_index(batch)["tokens"]
    np.testing.assert_array_equal(fixed, PROMPTS.table[LABELS, 0])


def test_draws_choose_templates_in_equal_shares():
    draws = tf.constant([0.0, 0.199, 0.2, 0.999999])
    batch = {"label": tf.zeros(4, tf.int32), "index": tf.range(4)}
    found = with_tokens(batch, PROMPTS, draws)
    np.testing.assert_array_equal(found["tokens"], PROMPTS.table[0, [0, 0, 1, 4]])
    assert set(found) == {"tokens", "index"} and with_tokens(batch, None) is batch


# Drawing


def test_pictures_are_of_what_the_prompt_says(model):
    drawn = {text: model.generate(16, prompts=text, **OPTIONS).mean() for text in PROMPTS.plain}
    assert drawn["a photo of a bright"] - drawn["a photo of a dark"] > 100
    other = model.generate(16, prompts="bright", **OPTIONS).mean()
    assert other - drawn["a photo of a dark"] > 100, "by another template"


def test_labels_stand_for_their_plain_prompts(model):
    options = {**OPTIONS, "guidance_scale": 2.0}
    by_label = model.generate(4, labels=[1, 0, 2, 1], **options)
    texts = [PROMPTS.plain[1], PROMPTS.plain[0], "", PROMPTS.plain[1]]
    np.testing.assert_array_equal(model.generate(4, prompts=texts, **options), by_label)
    in_turn = model.generate(4, **options)
    np.testing.assert_array_equal(in_turn, model.generate(4, labels=[0, 1, 0, 1], **options))


def test_a_negative_prompt_takes_the_place_of_none(model):
    options = {**OPTIONS, "prompts": "", "guidance_scale": 4.0}
    from_none = model.generate(8, **options)
    np.testing.assert_array_equal(model.generate(8, negative_prompts="", **options), from_none)
    bright = model.generate(8, negative_prompts="a photo of a dark", **options).mean()
    dark = model.generate(8, negative_prompts=["a photo of a bright"] * 8, **options).mean()
    assert bright - dark > 50


# Saved, exported


def test_a_saved_model_goes_on_with_the_same_prompts(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.prompts == PROMPTS
    batch = {"image": tf.constant(IMAGES), "label": tf.constant(LABELS, tf.int32)}
    key = tf.constant([0, int(model.optimizer.iterations)])
    ours, theirs = (each._noised(batch, key) for each in (model, loaded))
    np.testing.assert_array_equal(theirs["tokens"], ours["tokens"])
    errors = [each._errors(each.ema_network, ours)["loss"] for each in (model, loaded)]
    np.testing.assert_array_equal(*errors)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A folder with the export, saved_models/shades, of one sampler."""
    folder = tmp_path_factory.mktemp("user")
    path, options = folder / "saved_models/shades", {"samplers": ("ddim",), "sampler": "ddim"}
    saved_model.export_saved_model(model, path, num_steps=4, guidance_scale=2.0, **options)
    return folder


def test_config_says_how_prompts_are_read(exported):
    config = json.loads((exported / "saved_models/shades/assets.extra/config.json").read_text())
    assert config["class_names"] == ["dark", "bright"]
    assert config["prompts"] == {
        "words": list(PROMPTS.words),
        "length": PROMPTS.length,
        "plain": list(PROMPTS.plain),
        **PROMPTS.get_config(),
    }


def test_an_export_names_classes_as_its_prompts_do(model, tmp_path):
    with pytest.raises(ValueError, match="^class_names: "):
        saved_model.export_saved_model(model, tmp_path / "new", class_names=["bright", "dark"])
    assert not (tmp_path / "new").exists()


def drawn_by_sample(folder, arguments, monkeypatch):
    """uint8 (N, 4, 4): what sample.py draws, each picture a file."""
    monkeypatch.chdir(folder)
    shutil.rmtree("drawn", ignore_errors=True)
    sample.main([*arguments, "--separate", "--out", "drawn"])
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("drawn/*.png"))])


def difference(pictures, others):
    return np.abs(pictures.astype(int) - others[..., 0].astype(int)).max()


def test_sample_draws_what_generate_draws(model, exported, monkeypatch):
    texts = ["a bright", "an image of a dark"]
    given = ["--prompt", *texts, "--num", "4", "--negative-prompt", "dark", "--seed", "5"]
    given += ["--guidance-scale", "3", "--guidance-rescale", "0.7"]
    options = {"negative_prompts": "dark", "guidance_scale": 3.0, "guidance_rescale": 0.7}
    expected = model.generate(4, prompts=texts * 2, seed=5, **options, **OPTIONS)
    assert difference(drawn_by_sample(exported, given, monkeypatch), expected) <= 2
    expected = model.generate(2, labels=[1, 1], guidance_scale=2.0, **OPTIONS)
    by_class = drawn_by_sample(exported, ["--class-name", "bright", "--num", "2"], monkeypatch)
    assert difference(by_class, expected) <= 2


def test_a_grid_of_prompts_by_scales(model, exported, monkeypatch):
    given = ["--guidance-scale", "1", "4"]
    pictures = drawn_by_sample(exported, given, monkeypatch)
    columns = [model.generate(2, guidance_scale=s, **OPTIONS)[..., 0] for s in (1.0, 4.0)]
    expected = np.stack(columns, axis=1).reshape(4, 4, 4)[..., None]
    assert difference(pictures, expected) <= 2
    sample.main([*given, "--out", "grid.png", "--gif"])
    with Image.open("grid.png") as page, Image.open("grid.gif") as moving:
        assert page.size == moving.size and page.width > page.height > 500


def test_evaluate_draws_the_plain_prompts_of_labels(model, exported):
    found = loading.load(exported / "saved_models/shades")
    assert found.prompts == PROMPTS and found.num_classes == 2
    guidance = Guidance(3.0, rescale=0.5)
    options = {"sampler": "ddim", "num_steps": 4, "seed": 2, "guidance": guidance}
    pictures = found.generate(3, labels=[1, 0, 1], **options)
    expected = model.generate(3, labels=[1, 0, 1], seed=2, **guidance.options(), **OPTIONS)
    assert np.abs(pictures.astype(int) - expected).max() <= 2


# The commands

TINY = shlex.split(
    "--dataset digits --text --limit 64 --batch-size 32 --precision float32 --set widths=(8,) "
    "--set embedding_width=16 --set text_width=16 --set text_depth=1 --set num_steps=2 "
    "--epochs 2 --checkpoint-minutes 0 --run-dir runs/tiny"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which a tiny run of prompts was trained, exported with one sampler."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(saved_model, "SAMPLERS", {"dpmpp_2m": saved_model.SAMPLERS["dpmpp_2m"]})
        assert train.main(TINY) == 0
    return folder


def test_a_run_of_prompts_leaves_all_that_others_leave(run):
    for name in ("loss.png", "forward.png", "backward.png", "samples/epoch-0002.png"):
        assert (run / "runs/tiny" / name).exists()
    record = json.loads((run / "runs/tiny/config.json").read_text())["config"]
    assert record["text"] is True and record["text_width"] == 16
    config = json.loads((run / "saved_models/tiny/assets.extra/config.json").read_text())
    assert config["prompts"]["plain"][7:9] == ["a photo of a 7", "a photo of an 8"]


def test_unknown_words_are_named_by_the_command(run, monkeypatch, capsys):
    monkeypatch.chdir(run)
    [line] = refusal(sample.main, ["--prompt", "a foto of a 7"], capsys)
    assert line.endswith("--prompt: 'a foto of a 7' has unknown word 'foto' (nearest: photo).")


def pictures(*names):
    for index, name in enumerate(names * 4):
        path = pathlib.Path("pets", name, f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * index, "uint8")).save(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--dataset digits --text --unconditional",
            "--text: cannot be combined with --unconditional",
        ),
        ("--dataset digits --text --network cnn", "--text: has no effect on 'cnn'"),
        (
            "--dataset digits --set text_width=64",
            "--text-width: has no effect without --text",
        ),
        ("--image flower --text", "--text: prompts are made of class names, and flower has none"),
        (
            "--folder pets --text",
            "--text: prompts: the class names 'red-cat' and 'red_cat' have the same words",
        ),
    ],
)
def test_prompts_that_cannot_be(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures("red-cat", "red_cat")
    lines = refusal(train.main, [*shlex.split(arguments), "--dry-run"], capsys)
    assert lines[-1].startswith("train.py: error: ")
    assert re.search(message, lines[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]
