"""Bad calls of sample.py and bad exports: one line, exit code 2, nothing written."""

import json
import os
import pathlib

import pytest
import tensorflow as tf
from fixtures_input import check, file, thesis

import sample

CONFIG = {
    "format": 2,
    "image_shape": [4, 4, 1],
    "num_classes": 3,
    "class_names": ["ant", "bee", "cat"],
    "samplers": ["ddim"],
    "sampler": "ddim",
    "num_steps": 2,
    "guidance_scale": 1.0,
    "guidance_interval": [0.0, 1.0],
}


class Model(tf.Module):
    """Has the endpoints of an export, in the sizes that rows ask for."""

    def __init__(self, shape=(4, 4, 1), dtype=tf.uint8, arguments=6):
        super().__init__()
        self.weight = tf.Variable(7.0)
        number, numbers = tf.TensorSpec((), "int32"), tf.TensorSpec((None,), "int32")
        signature = [number, numbers, number, numbers]
        signature += [tf.TensorSpec((), "float32"), tf.TensorSpec((2,), "float32")]

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
    values = {name: value for name, value in {**CONFIG, **changes}.items() if value is not None}
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
    ("format 3", "", "was written by a newer keras_diffusion .format 3; .* reads up to 2.; take",
     config(format=3)),
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


@pytest.mark.parametrize("number", [1, None])
def test_exports_of_format_1_take_no_interval(number, folder, capsys):
    another(arguments=5)()
    config(format=number, guidance_interval=None)()
    sample.main([])
    assert "wrote samples/ant.png: 24 pictures" in capsys.readouterr().out


def test_the_interval_is_the_last_argument(folder, monkeypatch):
    given = []

    class Loaded:
        @staticmethod
        def generate_ddim(*inputs):
            given.append(inputs)
            return tf.zeros((len(inputs[1]), 4, 4, 1), tf.uint8)

    monkeypatch.setattr(tf.saved_model, "load", lambda path: Loaded())
    config(guidance_interval=[0.2, 0.7])()
    sample.main(["--num", "2"])
    sample.main(["--num", "2", "--guidance-interval", "0", "0.5"])
    assert [len(inputs) for inputs in given] == [6, 6]
    for inputs, expected in zip(given, ([0.2, 0.7], [0.0, 0.5]), strict=True):
        assert inputs[-1].dtype == tf.float32
        assert inputs[-1].numpy().tolist() == pytest.approx(expected)


def test_running_out_of_memory_is_no_traceback(folder, monkeypatch, capsys):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\n a tensor")

    class Loaded:
        generate_ddim = staticmethod(full)

    monkeypatch.setattr(tf.saved_model, "load", lambda path: Loaded())
    check(sample.main, "", "out of memory: choose a smaller --batch-size", capsys)
