"""Word vectors of KerasHub, replaced by a fake module: it is not among the requirements."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_input import rejection

from keras_diffusion import Prompts, build
from keras_diffusion.cli import train
from keras_diffusion.conditioning import word_vectors
from keras_diffusion.config.options import Config

PIECES = ["[pad]", "a", "an", "photo", "picture", "image", "of", "cat", "tiger", "tru", "##ck"]
TABLE = np.random.default_rng(0).normal(size=(len(PIECES), 5)).astype("float32")
TABLE[8] = TABLE[7] + 0.01  # "tiger" is close to "cat"
PROMPTS = Prompts(["cat", "tiger", "truck"])


@pytest.fixture
def hub(monkeypatch):
    """A keras_hub with one preset, "tiny"; yields the list of loads."""
    loads = []

    def preset(value):
        def from_preset(name):
            if name != "tiny":
                raise FileNotFoundError(f"no preset\n{name}")
            loads.append(name)
            return value

        return SimpleNamespace(from_preset=from_preset)

    def tokenizer(word):
        return [9, 10] if word == "truck" else [PIECES.index(word)]

    embedding = SimpleNamespace(get_weights=lambda: [TABLE])
    models = SimpleNamespace(
        Tokenizer=preset(tokenizer), Backbone=preset(SimpleNamespace(token_embedding=embedding))
    )
    monkeypatch.setitem(sys.modules, "keras_hub", SimpleNamespace(models=models))
    word_vectors.word_vectors.cache_clear()
    yield loads
    word_vectors.word_vectors.cache_clear()


def test_distances_are_those_of_the_pretrained_model(hub):
    vectors = word_vectors.word_vectors("tiny", PROMPTS.words, 16)
    rows = [TABLE[PIECES.index(w)] if w != "truck" else TABLE[9:].mean(0) for w in PROMPTS.words]
    assert vectors.shape == (len(PROMPTS.words), 16)

    def distances(points):
        between = np.linalg.norm(points[:, None] - points[None], axis=-1)
        return between / between.max()

    np.testing.assert_allclose(distances(vectors), distances(np.array(rows)), atol=1e-4)
    narrow = word_vectors.word_vectors("tiny", PROMPTS.words, 2)
    cat, tiger, truck = (narrow[PROMPTS.words.index(w)] for w in PROMPTS.class_names)
    assert np.linalg.norm(cat - tiger) < 0.2 * np.linalg.norm(cat - truck)
    assert word_vectors.word_vectors("tiny", PROMPTS.words, 2) is narrow and len(hub) == 4


def test_networks_are_initialised_with_them(hub):
    config = Config(
        text=True, word_vectors="tiny", text_width=16, widths=(4,), attention=(False,),
        embedding_width=8,
    )  # fmt: skip
    model = build.model(config, (4, 4, 1), 3, prompts=PROMPTS)
    expected = word_vectors.word_vectors("tiny", PROMPTS.words, 16)
    for network in (model.network, model.ema_network):
        table = network.get_layer("text").words.get_weights()[0]
        np.testing.assert_array_equal(table[2:], expected)


def test_errors_of_one_line(hub, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match=r"^'huge' is not a text model .*\(no preset huge\)"):
        word_vectors.word_vectors("huge", PROMPTS.words, 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # its import fails
    options = ["--dataset", "digits", "--text", "--set", "word_vectors=bert_tiny_en_uncased"]
    [*_, line] = rejection(train.main, options, capsys)
    assert "--set word_vectors" in line and "pip install keras-hub" in line
    assert not list(tmp_path.iterdir())
