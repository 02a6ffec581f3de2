"""The SavedModel in a process without this package, and the folder it is written to."""

import collections
import datetime
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_exports import NUM_STEPS, SAMPLERS
from fixtures_models import tiny_model
from tensorflow.core.protobuf import saved_model_pb2

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import samplers as all_samplers
from keras_diffusion.saving import loading, saved_model
from keras_diffusion.saving.saved_model import export_saved_model

# The endpoints -------------------------------------------------------------------------------

OUTSIDE = """
import sys
sys.modules["keras_diffusion"] = sys.modules["keras"] = None  # as good as not installed
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
first = dict(seed=3, indices=[0, 1, 2], num_steps=5, labels=[2, 0, 1], guidance_scale=6.0,
             guidance_interval=[0.0, 1.0], guidance_rescale=0.0)
changes = {
    "first": {}, "one step": {"num_steps": 1}, "50 steps": {"num_steps": 50},
    "one image": {"indices": [1], "labels": [0]},
    "guidance": {"guidance_interval": [0.1, 0.8], "guidance_rescale": 0.7},
}
results = {}
for sampler in ("ddpm", "dpmpp_2m"):
    endpoint = getattr(model, "generate_" + sampler)
    for case, changed in changes.items():
        results[f"{sampler} {case}"] = endpoint(**{**first, **changed}).numpy()
        traces = endpoint.experimental_get_tracing_count()
        assert results.setdefault(f"{sampler} traces", traces) == traces
results["by position"] = model.generate_ddpm(*first.values()).numpy()
results["frames"] = model.trajectory_dpmpp_2m(**first).numpy()
x_t = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
t = np.array([0.0, 0.3, 0.7, 1.0], "float32")
results |= {"x_t": x_t, "t": t, **model.denoise(x_t=x_t, t=t, labels=[0, 1, 2, 10])}
results["endpoints"] = [n for n in dir(model) if n.startswith(("generate", "traj", "denoise"))]
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module")
def outside(export, tmp_path_factory):
    """What a process without the package computed, {name: array}."""
    folder = tmp_path_factory.mktemp("outside")
    command = [sys.executable, "-I", "-c", OUTSIDE, export[1], folder / "results.npz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(folder / "results.npz"))


def difference(images, others):
    assert images.dtype == others.dtype == np.uint8
    assert images.shape == others.shape
    return np.abs(images.astype(int) - others.astype(int)).max()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_pixels_as_generate(export, outside, sampler):
    def expected(num_steps=5, **guidance):
        options = {"sampler": sampler, "labels": [2, 0, 1], "seed": 3, "guidance_scale": 6.0}
        return export[0].generate(3, num_steps=num_steps, **options, **guidance)

    first = outside[f"{sampler} first"]
    assert difference(first, expected()) <= 2 and first.std() > 10
    for name, num_steps in (("one step", 1), ("50 steps", 50)):
        assert difference(outside[f"{sampler} {name}"], expected(num_steps)) <= 2
    assert difference(outside[f"{sampler} one image"], first[1:2]) <= 2
    guided = expected(guidance_interval=(0.1, 0.8), guidance_rescale=0.7)
    assert difference(outside[f"{sampler} guidance"], guided) <= 2 < difference(guided, first)


def test_trajectory_denoiser_and_arguments_by_position(export, outside):
    assert difference(outside["by position"], outside["ddpm first"]) == 0
    alpha_bar = np.asarray(export[0].noise_schedule(outside["t"]))[:, None, None, None]
    mixed = alpha_bar**0.5 * outside["x0"] + (1 - alpha_bar) ** 0.5 * outside["eps"]
    np.testing.assert_allclose(mixed, outside["x_t"], atol=1e-4)
    assert np.abs(outside["x0"]).max() > 0.01
    frames = outside["frames"]
    assert frames.shape == (21, 3, 8, 8, 1)
    assert difference(frames[-1], outside["dpmpp_2m first"]) <= 2
    assert np.isin(frames[0], (0, 255)).mean() == pytest.approx(0.32, abs=0.1)
    changes = [difference(one, two) > 0 for one, two in zip(frames, frames[1:], strict=False)]
    assert sum(changes) == 5, "five steps"


def test_chosen_samplers_are_inside(outside):
    names = {f"{kind}_{name}" for kind in ("generate", "trajectory") for name in SAMPLERS}
    assert set(outside["endpoints"]) == names | {"denoise"}


def test_each_weight_is_stored_once(export):
    saved = saved_model_pb2.SavedModel.FromString((export[1] / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    stored = collections.Counter(
        tuple(dim.size for dim in node.attr["value"].tensor.tensor_shape.dim)
        for function in graph.library.function
        for node in function.node_def
        if node.op == "Const"
    )
    shapes = [tuple(weight.shape) for weight in export[0].ema_network.weights]
    weights = collections.Counter(shape for shape in shapes if len(shape) > 1)
    assert {shape: stored[shape] for shape in weights} == weights
    assert not any(node.op == "VarHandleOp" for node in graph.node)


def test_larger_models_hold_variables(export, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "LARGEST_CONSTANTS", 4)
    model, options = export[0], {"sampler": "ddim", "num_steps": 2}
    monkeypatch.setattr(
        saved_model.model_card, "sample_sheet", lambda *_: np.zeros((8, 8, 1), "uint8")
    )
    path = export_saved_model(model, tmp_path / "large", samplers=["ddim"], **options)
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    weights = [tuple(weight.shape) for weight in model.ema_network.variables]
    assert sorted(tuple(shape) for _, shape in stored if shape) == sorted(weights)
    images = loading.load(path).generate(2)
    assert difference(images, model.generate(2, **options)) <= 2


def test_config_says_what_is_needed_to_sample(export):
    config = json.loads((export[1] / "assets.extra" / "config.json").read_text())
    assert config.pop("training")["config"]["num_steps"] == NUM_STEPS
    age = datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(
        config.pop("created")
    )
    assert 0 <= age.total_seconds() < 3600
    assert config == {
        "format": 4, "image_shape": [8, 8, 1], "codec": {"kind": "pixels"}, "num_classes": 10,
        "class_names": [f"digit {label}" for label in range(10)], "prompts": None,
        "schedule": "linear", "prediction_type": "v", "samplers": ["ddpm", "dpmpp_2m"],
        "sampler": "dpmpp_2m", "num_steps": NUM_STEPS, "guidance_scale": 2.0,
        "guidance_interval": [0.1, 0.8], "guidance_rescale": 0.0,
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "parameters": export[0].network.count_params(), "shipped": False, "frames": 1,
    }  # fmt: skip
    assert names_in(export[1].parent) == ["tiny"], "nothing else is left"


# The folder ----------------------------------------------------------------------------------


FILES = ["README.md", "assets.extra", "samples.png", "saved_model.pb"]  # of these exports


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class Saver:
    """Takes the place of `tf.saved_model.save`: writes half a SavedModel, and traces nothing."""

    def __init__(self):
        self.endpoints = {}
        self.fails = False

    def __call__(self, module, path, signatures):
        self.endpoints = {
            name: [spec.name for spec in endpoint.input_signature]
            for name, endpoint in signatures.items()
        }
        assert all(getattr(module, name) is signatures[name] for name in signatures)
        path = pathlib.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / "saved_model.pb").write_text("new")
        if self.fails:
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")


@pytest.fixture
def archive(monkeypatch):
    """Replaces `tf.saved_model.save`."""
    saver = Saver()
    monkeypatch.setattr(saved_model.tf.saved_model, "save", saver)
    return saver


@pytest.fixture
def model(export, monkeypatch):
    """Does not trace the samplers."""
    monkeypatch.setattr(export[0], "generate", black)
    return export[0]


def black(num_images, **_):
    return np.zeros((num_images, 8, 8, 1), "uint8")


@pytest.fixture
def old(tmp_path):
    """A folder with an earlier export."""
    path = tmp_path / "model"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_text("old")
    return path


def test_endpoints_of_all_samplers_and_their_arguments(model, archive, tmp_path, monkeypatch):
    export_saved_model(model, tmp_path / "new" / "labelled")
    assert names_in(tmp_path / "new" / "labelled") == FILES
    kinds, common = ("generate", "trajectory"), ["seed", "indices", "num_steps"]
    names = {f"{kind}_{name}" for kind in kinds for name in all_samplers.SAMPLERS}
    assert set(archive.endpoints) == names | {"denoise"}
    assert archive.endpoints["trajectory_cold"] == [*common, "labels", *Guidance.NAMES]
    assert archive.endpoints["denoise"] == ["x_t", "t", "labels"]
    unlabelled = tiny_model()
    monkeypatch.setattr(unlabelled, "generate", black)
    export_saved_model(unlabelled, tmp_path / "unlabelled", samplers=["ddim"], sampler="ddim")
    assert archive.endpoints["generate_ddim"] == common
    assert archive.endpoints["denoise"] == ["x_t", "t"]


def test_an_export_is_replaced_whole(model, old, archive):
    backup = old.with_name("model.old")
    backup.mkdir()
    for _ in range(2):
        assert export_saved_model(model, str(old), training={"epochs": 3}) == old
        assert names_in(old) == FILES
        assert (old / "saved_model.pb").read_text() == "new"
    assert names_in(old.parent) == ["model", "model.old"]


def test_a_failed_export_leaves_the_old_one(model, old, archive):
    archive.fails = True
    with pytest.raises(OSError, match="model: cannot be written: No space left"):
        export_saved_model(model, old)
    assert names_in(old) == ["saved_model.pb", "variables"] and names_in(old.parent) == ["model"]
    assert (old / "saved_model.pb").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "options"),
    [("sampler", {"sampler": "dpm"}), ("sampler", {"samplers": ("ddim",)}),
     ("sampler", {"samplers": ("ddim", "dpm"), "sampler": "ddim"}), ("num_steps", {"num_steps": 0}),
     ("guidance_scale", {"guidance_scale": -1}), ("class_names", {"class_names": ["a", "b"]}),
     ("precision", {"precision": "float16"})],
)  # fmt: skip
def test_defaults_that_cannot_be_sampled_with(model, old, archive, name, options):
    with pytest.raises(ValueError, match=name):
        export_saved_model(model, old, **options)
    assert (old / "saved_model.pb").read_text() == "old"


@pytest.mark.parametrize("path", ["thesis", "thesis/chapter1.tex", "thesis/chapter1.tex/model"])
def test_other_files_and_folders_are_left_as_they_are(model, tmp_path, archive, path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("years of work")
    with pytest.raises(ValueError, match="it is left as it is"):
        export_saved_model(model, tmp_path / path)
    assert (tmp_path / "thesis/chapter1.tex").read_text() == "years of work"
    assert names_in(tmp_path) == ["thesis"] and not archive.endpoints
