"""Bad calls of sample.py and bad exports: one line, exit code 2, nothing written."""

import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from fixtures_input import check, file, thesis
from PIL import Image

import sample

CONFIG = {
    "format": 3,
    "image_shape": [4, 4, 1],
    "num_classes": 3,
    "class_names": ["ant", "bee", "cat"],
    "samplers": ["ddim"],
    "sampler": "ddim",
    "num_steps": 2,
    "guidance_scale": 1.0,
    "guidance_interval": [0.0, 1.0],
    "guidance_rescale": 0.0,
    "prompts": None,
}
PROMPTS = {"words": ["a", "an", "ant", "bee", "cat"], "length": 4}
PROMPTS["plain"] = ["an ant", "a bee", "a cat"]


class Model(tf.Module):
    """Has the endpoints of an export, in the sizes that rows ask for."""

    def __init__(self, shape=(4, 4, 1), dtype=tf.uint8, arguments=7):
        super().__init__()
        self.weight = tf.Variable(7.0)
        number, numbers = tf.TensorSpec((), "int32"), tf.TensorSpec((None,), "int32")
        signature = [number, numbers, number, numbers]
        signature += [tf.TensorSpec(shape_of, "float32") for shape_of in ((), (2,), ())]

        @tf.function(input_signature=signature[:arguments])
        def generate(seed, indices, *others):
            return tf.cast(tf.fill((tf.size(indices), *shape), self.weight), dtype)

        self.generate_ddim = generate


def export(model, path):
    tf.saved_model.save(model, str(path))
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "config.json").write_text(json.dumps(CONFIG))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model in saved_models/ant, to be broken."""
    monkeypatch.chdir(tmp_path)
    export(Model(), tmp_path / "saved_models" / "ant")
    return tmp_path


INSIDE = "saved_models/ant/assets.extra/config.json"


def config(**changes):
    """Other values in the config.json of the model; None takes the key out."""
    gone = {name for name, value in changes.items() if value is None}
    values = {name: value for name, value in {**CONFIG, **changes}.items() if name not in gone}
    return file(INSIDE, json.dumps(values))


def cut(path):
    """Leaves the first half of a file."""

    def prepare():
        (found,) = pathlib.Path("saved_models/ant").glob(path)
        found.write_bytes(found.read_bytes()[: found.stat().st_size // 2])

    return prepare


def gone():
    os.remove("saved_models/ant/saved_model.pb")


def another(**options):
    """The graph of another program where the model was."""

    def prepare():
        export(Model(**options), pathlib.Path("other"))
        os.rename("saved_models/ant", "old")
        os.rename("other", "saved_models/ant")

    return prepare


def foreign():
    tf.saved_model.save(tf.Module(), "other")
    config()()
    os.replace("other/saved_model.pb", "saved_models/ant/saved_model.pb")


SAMPLE = [
    # arguments
    ("model, missing", "--model x", "--model: x does not exist; give the folder of an exp", None),
    ("model, a file", "--model x.keras", "x.keras is a file; give the folder", file("x.keras")),
    ("model, another folder", "--model thesis", "thesis is not an export of keras_diff", thesis),
    ("num: 0", "--num 0", "--num: 0 must be at least 1", None),
    ("num: -1", "--num -1", "--num: -1 must be at least 1", None),
    ("num: a fraction", "--num 1.5", "--num: invalid int value: '1.5'", None),
    ("num: huge", f"--num {10**12}", "--num: 1000.* at most 1000000", None),
    ("batch size 0", "--batch-size 0", "--batch-size: 0 must be at least 1", None),
    ("steps 0", "--num-steps 0", "--num-steps: 0 must be at least 1 and at most 1000", None),
    ("steps 1001", "--num-steps 1001", "--num-steps: 1001 .* at most 1000", None),
    ("seed", f"--seed {2**31}", "--seed: 2147483648 must fit in 32 bits", None),
    ("seed: a word", "--seed x", "--seed: invalid int value: 'x'", None),
    ("guidance: a word", "--guidance-scale high", "--guidance-scale.*'high'", None),
    ("guidance: nan", "--guidance-scale nan", "--guidance-scale: nan must be 0 to 100", None),
    ("guidance: inf", "--guidance-scale inf", "--guidance-scale: inf must be 0 to 100", None),
    ("guidance: -1", "--guidance-scale -1", "--guidance-scale: -1.0 must be 0 to 100", None),
    ("interval: one", "--guidance-interval 0.5", "--guidance-interval: expected 2 arg", None),
    ("interval: a word", "--guidance-interval 0 high", "--guidance-interval.*'high'", None),
    ("interval: upside down", "--guidance-interval 0.8 0.1",
     "--guidance-interval: 0.8 0.1 must be two times, 0 <= LOW <= HIGH <= 1", None),
    ("interval: beyond 1", "--guidance-interval 0 2", "0.0 2.0 must be two times", None),
    ("interval: below 0", "--guidance-interval -1 1", "-1.0 1.0 must be two times", None),
    ("interval: nan", "--guidance-interval nan 1", "nan 1.0 must be two times", None),
    ("interval of none", "--guidance-interval 0.1 0.8",
     "--guidance-interval: this model was trained without labels",
     config(num_classes=0, class_names=[])),
    ("rescale: a word", "--guidance-rescale some", "--guidance-rescale.*'some'", None),
    ("rescale: 2", "--guidance-rescale 2", "--guidance-rescale: 2.0 must be 0 to 1", None),
    ("rescale: nan", "--guidance-rescale nan", "--guidance-rescale: nan must be 0 to 1", None),
    ("rescale of none", "--guidance-rescale 0.5", "--guidance-rescale: this model was trained with",
     config(num_classes=0, class_names=[])),
    ("rescale of format 2", "--guidance-rescale 0.5",
     "--guidance-rescale: this model was exported before .*format 2.* export the model again",
     config(format=2)),
    ("scales: the second", "--guidance-scale 1 -1", "--guidance-scale: -1.0 must be 0 to 100",
     None),
    ("prompt, of classes", "--prompt cat", "--prompt: this model was trained without prom", None),
    ("negative, of classes", "--negative-prompt cat", "--negative-prompt: this model was trained w",
     None),
    ("prompt and class", "--prompt cat --class-name cat", "--class-name: not allowed with.*prompt",
     config(prompts=PROMPTS)),
    ("prompt, unknown words", "--prompt 'a red cta'",
     "--prompt: 'a red cta' has unknown words 'red' .nearest: bee., 'cta' .nearest: cat.*.$",
     config(prompts=PROMPTS)),
    ("prompt, one of two", "--prompt 'a cat' 'a bea'",
     "'a bea' has unknown word 'bea' .nearest: bee.*.$", config(prompts=PROMPTS)),
    ("prompt, long", "--prompt 'a cat a bee'", "has 4 words; the model reads 3",
     config(prompts=PROMPTS)),
    ("negative prompt", "--negative-prompt dog --guidance-scale 2", "--negative-prompt: 'dog' has",
     config(prompts=PROMPTS)),
    ("negative prompt, no guidance", "--negative-prompt cat",
     "--negative-prompt: changes nothing at --guidance-scale 1", config(prompts=PROMPTS)),
    ("rescale, no guidance", "--guidance-scale 1 --guidance-rescale 0.7",
     "--guidance-rescale: changes nothing at --guidance-scale 1", None),
    ("interval, no guidance", "--guidance-scale 1 1 --guidance-interval 0 0.5",
     "--guidance-interval: changes nothing at --guidance-scale 1", None),
    ("interval of format 1", "--guidance-interval 0 1",
     "--guidance-interval: this model was exported before .*format 1.* export the model again",
     config(format=1)),
    ("interval of no format", "--guidance-interval 0 1", "exported before .*format 1",
     config(format=None)),
    ("sampler", "--sampler dpm", "--sampler: unknown 'dpm'. Choose from: ddim", None),
    ("class", "--class-name bat", "unknown 'bat'. Choose from: cat", None),
    ("label 3", "--labels 1 3", r"--labels: 3 is not in 0 \.\. 2", None),
    ("label -1", "--labels -1", r"--labels: -1 is not in 0 \.\. 2", None),
    ("label: a word", "--labels ant", "--labels: invalid int value: 'ant'", None),
    ("two classes", "--labels 1 --class-name ant", "--class-name.*not allowed with", None),
    ("flag", "--frobnicate", "unrecognized arguments: --frobnicate", None),
    ("labels of none", "--labels 0", "--labels: this model was trained without labels",
     config(num_classes=0, class_names=[])),
    ("names of none", "--class-name ant", r"has no class names; --labels takes 0 \.\. 2",
     config(class_names=[])),
    ("out: jpg", "--out a.jpg", "--out: a.jpg must end in .png", None),
    ("out: a folder", "--out x.png", "x.png is a folder; it must be a PNG",
     lambda: pathlib.Path("x.png").mkdir()),
    ("out: in a file", "--out x/a.png", "cannot be written: .*/x is a file; it must be a folder",
     file("x")),
    ("out: separate, a file", "--separate --out x", "x is a file; --separate needs a folder",
     file("x")),
    # config.json
    ("no config", "", "ant is not an export of keras_diffusion .*config.json",
     lambda: os.remove(INSIDE)),
    ("config, truncated", "", "ant is not an export .*JSONDecodeError", file(INSIDE, "{")),
    ("config, a list", "", "ant is not an export", file(INSIDE, "[]")),
    ("config, not text", "", "ant is not an export .*UnicodeDecodeError", file(INSIDE, b"\xff")),
    ("config, another's", "", "has no image_shape; it must be .height", file(INSIDE, "{}")),
    ("format 4", "", "was written by a newer keras_diffusion .format 4; .* reads up to 3.; take",
     config(format=4)),
    ("format '1'", "", "format is '1'; it must be a whole number", config(format="1")),
    ("no shape", "", "config.json has no image_shape", config(image_shape=None)),
    ("shape", "", r"image_shape is \[4, 4\]; it must be \[height", config(image_shape=[4, 4])),
    ("shape: 0", "", r"image_shape is .*; it must be \[height", config(image_shape=[0, 4, 1])),
    ("classes: a word", "", "num_classes is 'ten'; it must be a whole", config(num_classes="ten")),
    ("classes: -1", "", "num_classes is -1; it must be a whole", config(num_classes=-1)),
    ("classes: true", "", "num_classes is True; it must be a whole", config(num_classes=True)),
    ("names: two", "", "2 class_names for 3 classes", config(class_names=["ant", "bee"])),
    ("names: numbers", "", "class_names is .*; it must be a list", config(class_names=[1, 2, 3])),
    ("samplers: a word", "", "samplers is 'ddim'; it must be a list", config(samplers="ddim")),
    ("sampler: none of them", "", "unknown 'heun'. Choose from: ddim", config(sampler="heun")),
    ("steps: 0 inside", "", "num_steps is 0; it must be a whole number", config(num_steps=0)),
    ("guidance: nan inside", "", "guidance_scale is nan; it must be a number from 0 to 100",
     config(guidance_scale=float("nan"))),
    ("interval: none inside", "", r"has no guidance_interval; it must be \[low, high\]",
     config(guidance_interval=None)),
    ("interval: upside down inside", "", r"guidance_interval is \[0.8, 0.1\]; it must be \[low",
     config(guidance_interval=[0.8, 0.1])),
    ("rescale: 2 inside", "", "guidance_rescale is 2; it must be a number from 0 to 1",
     config(guidance_rescale=2)),
    ("prompts: no words", "", "prompts is .*; it must be null, or words, length and plain",
     config(prompts={"length": 4, "plain": []})),
    ("prompts: one for three", "", "1 plain prompts for 3 classes; they must be as many",
     config(prompts={**PROMPTS, "plain": ["a"]})),
    ("prompts: other words", "", "--model: 'an ant' has unknown word 'ant'",
     config(prompts={**PROMPTS, "words": ["a", "an"]})),
    # the SavedModel
    ("no model", "--model saved_models/ant", "ant cannot be loaded; it is damaged",
     gone),
    ("model, truncated", "", "ant cannot be loaded; it is damaged", cut("saved_model.pb")),
    ("model, no bytes", "--model saved_models/ant", "ant cannot be loaded; it is damaged",
     file("saved_models/ant/saved_model.pb")),
    ("weights, truncated", "", "ant cannot be loaded; it is damaged", cut("variables/*.index")),
    ("weights, cut short", "", "ant cannot be loaded; it is damaged", cut("variables/*.data*")),
    ("another's model", "", "ant has no generate_ddim; it must be an export of keras_", foreign),
    ("no trajectory", "--gif", "ant has no trajectory_ddim; it must be an export of keras_", None),
    ("other shape", "", r"gives uint8 \(24, 8, 8, 1\), but .* must be uint8 \(24, 4, 4, 1\)",
     another(shape=(8, 8, 1))),
    ("other dtype", "", "gives float32 .*must be uint8", another(dtype=tf.float32)),
    ("other arguments", "", "cannot be sampled, it is not what its config.json says",
     another(arguments=3)),
    ("arguments of format 1", "", "cannot be sampled, it is not what its config.json says",
     another(arguments=5)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "pattern", "prepare"), [row[1:] for row in SAMPLE], ids=[row[0] for row in SAMPLE]
)
def test_sample(arguments, pattern, prepare, folder, capsys):
    if prepare:
        prepare()
    check(sample.main, arguments, pattern, capsys)


def test_sample_without_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check(sample.main, "", "there is no model in saved_models/; train.py writes them", capsys)


def test_the_unbroken_model_is_sampled(folder, capsys):
    sample.main([])
    assert "wrote samples/ant.png: 24 pictures" in capsys.readouterr().out
    sample.main(["--num", "2", "--separate"])
    assert sorted(path.name for path in (folder / "samples/ant").iterdir()) == [
        "00000.png",
        "00001.png",
    ]


@pytest.mark.parametrize(("number", "arguments"), [(1, 5), (None, 5), (2, 6)])
def test_older_exports_take_less_of_guidance(number, arguments, folder, capsys):
    another(arguments=arguments)()
    interval = CONFIG["guidance_interval"] if number == 2 else None
    config(format=number, guidance_interval=interval, guidance_rescale=None)()
    sample.main([])
    assert "wrote samples/ant.png: 24 pictures" in capsys.readouterr().out


@pytest.fixture
def given(folder, monkeypatch):
    """A list that gets the inputs of every call of the model, as arrays."""
    calls = []

    class Loaded:
        @staticmethod
        def generate_ddim(*inputs):
            calls.append([each.numpy() for each in inputs])
            shades = tf.cast(50 * len(calls), tf.uint8)
            return tf.fill((len(inputs[1]), 4, 4, 1), shades)

    monkeypatch.setattr(tf.saved_model, "load", lambda path: Loaded())
    return calls


def test_guidance_is_the_last_arguments(given):
    config(guidance_scale=2.0, guidance_interval=[0.2, 0.7], guidance_rescale=0.3)()
    sample.main(["--num", "2"])
    sample.main(["--num", "2", "--guidance-interval", "0", "0.5", "--guidance-rescale", "1"])
    for inputs, interval, rescale in zip(given, ([0.2, 0.7], [0, 0.5]), (0.3, 1), strict=True):
        assert len(inputs) == 7 and inputs[3].tolist() == [0, 1]
        assert inputs[5].dtype == inputs[6].dtype == "float32"
        assert inputs[5].tolist() == pytest.approx(interval)
        assert inputs[6] == pytest.approx(rescale)


def test_prompts_are_tokens(given):
    config(prompts=PROMPTS, guidance_scale=2.0)()
    sample.main(["--prompt", "a CAT!", "bee", "--num", "3", "--negative-prompt", "ant"])
    sample.main(["--class-name", "bee", "--num", "1"])
    tokens, negative = given[0][3:5]
    assert tokens.tolist() == [[1, 2, 6, 0], [1, 5, 0, 0], [1, 2, 6, 0]]
    assert negative.tolist() == [[1, 4, 0, 0]] * 3
    assert tokens.dtype == negative.dtype == "int32"
    assert [each.tolist() for each in given[1][3:5]] == [[[1, 2, 5, 0]], [[1, 0, 0, 0]]]


def test_several_scales_are_columns_beside_the_names(given, folder):
    sample.main(["--guidance-scale", "1", "2", "3.5", "--batch-size", "2"])
    assert [inputs[1].tolist() for inputs in given] == [[0, 1], [2]] * 3, "one of each class"
    assert [float(inputs[4]) for inputs in given] == [1, 1, 2, 2, 3.5, 3.5]
    with Image.open(folder / "samples/ant.png") as page:
        pixels = np.asarray(page.convert("L"))
    rows, columns = np.array([50, 100, 150, 200, 250, 44]).reshape(3, 2), []
    for shade in np.unique(rows):  # where the pictures of each call are, from the left
        columns.append(np.flatnonzero((pixels == shade).sum(axis=0) > 20).mean())
    lefts = dict(zip(np.unique(rows), columns, strict=True))
    assert lefts[50] == lefts[100] < lefts[150] == lefts[200] < lefts[250] == lefts[44]
    assert (pixels[:, : int(lefts[50]) - 75] < 128).sum() > 50, "names"


def test_running_out_of_memory_is_no_traceback(folder, monkeypatch, capsys):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\n a tensor")

    class Loaded:
        generate_ddim = staticmethod(full)

    monkeypatch.setattr(tf.saved_model, "load", lambda path: Loaded())
    check(sample.main, "", "out of memory: choose a smaller --batch-size", capsys)
