"""A model with prompts: trained, sampled from, saved, exported and used by the commands."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_input import rejection
from fixtures_models import IMAGES, LABELS, SHAPE, tiny_model
from PIL import Image

from keras_diffusion import Prompts
from keras_diffusion.cli import sample, train
from keras_diffusion.saving import loading, saved_model

PROMPTS = Prompts(["dark", "bright"])
OPTIONS = {"num_steps": 3, "sampler": "ddim"}
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def new_model(**options):
    # x0 of these images depends on the prompt almost only.
    options = {"prediction_type": "x0", "ema_decay": 0.9, "label_dropout": 0.2, **options}
    return tiny_model(prompts=PROMPTS, optimizer=keras.optimizers.Adam(3e-2), **options)


@pytest.fixture(scope="module")
def model():
    """A model that distinguishes its two classes; not changed by tests."""
    model = new_model()
    data = tf.data.Dataset.from_tensors({"image": IMAGES, "label": LABELS}).repeat(150)
    model.fit(data, verbose=0)
    return model


def batch(count=16):
    labels = np.resize(LABELS, count).astype("int32")
    return {"image": tf.constant(np.resize(IMAGES, (count, *SHAPE))), "label": tf.constant(labels)}


def test_a_label_becomes_a_random_prompt_of_its_class():
    model = new_model()
    ones = {"image": tf.zeros((4000, *SHAPE), tf.uint8), "label": tf.ones(4000, tf.int32)}
    noised = model._noised(ones, tf.constant([1, 2]))
    assert "label" not in noised and noised["tokens"].dtype == tf.int32
    rows, counts = np.unique(noised["tokens"], axis=0, return_counts=True)
    allowed = np.concatenate([PROMPTS.table[1], PROMPTS.table[2, :1]])
    assert {tuple(row) for row in rows} == {tuple(row) for row in allowed}
    null = np.flatnonzero((rows[:, 1:] == 0).all(axis=1))
    assert counts[null] / 4000 == pytest.approx(0.2, abs=0.03), "the null prompt"
    others = np.delete(counts, null)
    assert np.ptp(others / others.sum()) < 0.06, "templates in equal shares"

    first, again = (model._noised(batch(), tf.constant([3, 7]))["tokens"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    later = model._noised(batch(), tf.constant([3, 8]))["tokens"]
    assert (later.numpy() != first.numpy()).any()
    evaluation = model._noised_by_index(batch())["tokens"]
    np.testing.assert_array_equal(evaluation, PROMPTS.table[LABELS, 0])


def test_samples_follow_the_prompt(model):
    means = {text: model.generate(16, prompts=text, **OPTIONS).mean() for text in PROMPTS.plain}
    assert means["a photo of a bright"] - means["a photo of a dark"] > 100
    other_template = model.generate(16, prompts="bright", **OPTIONS).mean()
    assert other_template - means["a photo of a dark"] > 100


def test_labels_stand_for_their_plain_prompts(model):
    options = {**OPTIONS, "guidance_scale": 2.0}
    by_label = model.generate(4, labels=[1, 0, 2, 1], **options)
    texts = [PROMPTS.plain[1], PROMPTS.plain[0], "", PROMPTS.plain[1]]
    np.testing.assert_array_equal(model.generate(4, prompts=texts, **options), by_label)
    in_turn = model.generate(4, **options)
    np.testing.assert_array_equal(in_turn, model.generate(4, labels=[0, 1, 0, 1], **options))


def test_guidance_leads_away_from_a_negative_prompt(model):
    options = {**OPTIONS, "prompts": "", "guidance_scale": 4.0}
    from_empty = model.generate(8, **options)
    np.testing.assert_array_equal(model.generate(8, negative_prompts="", **options), from_empty)
    bright = model.generate(8, negative_prompts="a photo of a dark", **options).mean()
    dark = model.generate(8, negative_prompts=["a photo of a bright"] * 8, **options).mean()
    assert bright - dark > 50


def test_a_loaded_model_has_the_same_prompts(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.prompts == PROMPTS
    key = tf.constant([0, int(model.optimizer.iterations)])
    own, other = (each._noised(batch(), key) for each in (model, loaded))
    np.testing.assert_array_equal(other["tokens"], own["tokens"])
    errors = [each._errors(each.ema_network, own)["loss"] for each in (model, loaded)]
    np.testing.assert_array_equal(*errors)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A folder with the export saved_models/shades."""
    folder = tmp_path_factory.mktemp("user")
    saved_model.export_saved_model(
        model, folder / "saved_models/shades", samplers=("ddim",), sampler="ddim", num_steps=3,
        guidance_scale=2.0,
    )  # fmt: skip
    return folder


def test_an_export_describes_its_prompts(exported, model, tmp_path):
    config = json.loads((exported / "saved_models/shades/assets.extra/config.json").read_text())
    assert config["class_names"] == ["dark", "bright"]
    expected = {"words": list(PROMPTS.words), "length": PROMPTS.length, "plain": [*PROMPTS.plain]}
    assert config["prompts"].items() >= {**expected, **PROMPTS.get_config()}.items()
    with pytest.raises(ValueError, match="class_names"):
        saved_model.export_saved_model(model, tmp_path / "new", class_names=["bright", "dark"])
    assert not (tmp_path / "new").exists()


def test_the_export_gives_the_samples_of_generate(model, exported, monkeypatch):
    monkeypatch.chdir(exported)
    texts = ["a bright", "an image of a dark"]
    command = ["--prompt", *texts, "--num", "4", "--negative-prompt", "dark", "--seed", "5"]
    command += ["--guidance-scale", "3", "--guidance-rescale", "0.7"]
    shutil.rmtree("samples", ignore_errors=True)
    assert sample.main([*command, "--separate", "--out", "samples"]) == 0
    images = [np.asarray(Image.open(path)) for path in sorted(exported.glob("samples/*.png"))]
    options = {"negative_prompts": "dark", "guidance_scale": 3.0, "guidance_rescale": 0.7}
    expected = model.generate(4, prompts=texts * 2, seed=5, **options, **OPTIONS)
    assert np.abs(np.stack(images).astype(int) - expected[..., 0]).max() <= 1

    loaded = loading.load("saved_models/shades")
    assert loaded.prompts == PROMPTS and loaded.num_classes == 2
    options = {"prompts": texts[:1] * 3, "negative_prompts": "dark", "seed": 2, **OPTIONS}
    options |= {"guidance_scale": 3.0, "guidance_rescale": 0.5}
    samples, expected = loaded.generate(3, **options), model.generate(3, **options)
    assert np.abs(samples.astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_a_run_with_prompts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "--dataset digits --text --limit 64 --batch-size 32 --precision float32 --epochs 2"
    command += " --checkpoint-minutes 0 --run-dir runs/tiny"
    settings = ["widths=(8,)", "embedding_width=16", "text_width=16", "text_depth=1", "num_steps=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    assert train.main([*command.split(), *options]) == 0
    for name in ("loss.png", "forward.png", "backward.png", "samples/epoch-0002.png"):
        assert (tmp_path / "runs/tiny" / name).exists()
    record = json.loads((tmp_path / "runs/tiny/config.json").read_text())["config"]
    assert record["text"] is True and record["text_width"] == 16
    config = json.loads((tmp_path / "saved_models/tiny/assets.extra/config.json").read_text())
    assert config["prompts"]["plain"][7:9] == ["a photo of a 7", "a photo of an 8"]
    capsys.readouterr()
    [line] = rejection(sample.main, ["--prompt", "a foto of a 7"], capsys)
    assert "--prompt: 'a foto of a 7'" in line and "(nearest: photo)" in line


def test_class_names_with_the_same_words_are_rejected(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        for name in ("red-cat", "red_cat"):
            path = tmp_path / "pets" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 20 * index, "uint8")).save(path)
    lines = rejection(train.main, ["--folder", "pets", "--text", "--dry-run"], capsys)
    assert "--text: " in lines[-1] and "'red-cat' and 'red_cat'" in lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]
