"""The SavedModel as others see it: in a process that has none of this package."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.networks import unet
from keras_diffusion.saving import saved_model
from keras_diffusion.saving.saved_model import export_saved_model

SHAPES = {"labelled": (8, 4, 3), "unlabelled": (8, 8, 1)}
STEPS = (1, 5, 20, 50)
every_model = pytest.mark.parametrize("name", sorted(SHAPES))


def awake_model(name):
    """A model whose network does not answer zero."""
    keras.utils.set_random_seed(0)
    num_classes = 3 if name == "labelled" else 0
    network = unet(
        SHAPES[name], num_classes=num_classes, widths=(4,), attention=(False,), embedding_width=8
    )
    rng = np.random.default_rng(1)
    network.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in network.get_weights()])
    return DiffusionModel(network, schedule="linear", prediction_type="v")


@pytest.fixture(scope="module")
def models():
    return {name: awake_model(name) for name in SHAPES}


def test_all_endpoints_share_one_denoiser(models, exports):
    for model in models.values():
        assert model.graphs.denoiser().experimental_get_tracing_count() == 1


@pytest.fixture(scope="module")
def exports(models, tmp_path_factory):
    """Both models, exported as {name: path}."""
    folder = tmp_path_factory.mktemp("exports")
    labelled = {"class_names": ["a", "b", "c"], "guidance_scale": 2.0}
    options = {"labelled": {**labelled, "guidance_interval": (0.1, 0.8)}}
    return {
        name: export_saved_model(model, folder / name, **options.get(name, {}))
        for name, model in models.items()
    }


OUTSIDE = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.modules["keras_diffusion"] = None  # as good as not installed
try:
    import keras_diffusion
except ImportError:
    pass
else:
    raise SystemExit("keras_diffusion could be imported")
import numpy as np
import tensorflow as tf

def ints(values):
    return tf.constant(values, tf.int32)

results = {}
for name, path in zip(("labelled", "unlabelled"), sys.argv[1:3]):
    model = tf.saved_model.load(path)
    whole = tf.constant([0.0, 1.0])
    guidance = (tf.constant(2.0), whole, tf.constant(0.0))
    extra = (ints([2, 0, 1]), *guidance) if name == "labelled" else ()
    for sampler in ("dpmpp_2m", "ddpm"):
        endpoint = getattr(model, "generate_" + sampler)
        counts = []
        for num_steps in (1, 5, 20, 50):
            images = endpoint(ints(3), tf.range(3), ints(num_steps), *extra)
            results[f"{name} {sampler} {num_steps}"] = images.numpy()
            counts.append(endpoint.experimental_get_tracing_count())
        part = endpoint(ints(3), ints([1]), ints(5), *(extra and (ints([0]), *extra[1:])))
        results[f"{name} {sampler} part"] = part.numpy()
        if extra:
            own = (tf.constant([0.1, 0.8]), tf.constant(0.7))
            some = endpoint(ints(3), tf.range(3), ints(5), *extra[:2], *own)
            results[f"{name} {sampler} interval"] = some.numpy()
        counts.append(endpoint.experimental_get_tracing_count())
        results[f"{name} {sampler} traces"] = np.array(counts)
    frames = model.trajectory_dpmpp_2m(ints(3), tf.range(3), ints(5), *extra)
    results[f"{name} frames"] = frames.numpy()
    shape = results[f"{name} dpmpp_2m 1"].shape[1:]
    x_t = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    t = np.array([0.0, 0.3, 0.7, 1.0], "float32")
    pair = model.denoise(x_t, t, *(extra and (ints([0, 1, 2, 3]),)))
    results |= {f"{name} x_t": x_t, f"{name} t": t}
    results |= {f"{name} {key}": value.numpy() for key, value in pair.items()}
    endpoints = [key for key in dir(model) if key.startswith(("generate", "traj", "denoise"))]
    results[f"{name} endpoints"] = np.array(sorted(endpoints))
found = [m for m in sys.modules if m.startswith("keras_diffusion.")]
assert not found, found
np.savez(sys.argv[3], **results)
"""


@pytest.fixture(scope="module")
def outside(exports, tmp_path_factory):
    """What a process without the package computed, {"labelled ddpm 5": array, ...}."""
    folder = tmp_path_factory.mktemp("outside")
    done = subprocess.run(
        [sys.executable, "-I", "-c", OUTSIDE, *(exports[n] for n in SHAPES), folder / "r.npz"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(folder / "r.npz"))


def difference(images, others):
    assert images.dtype == others.dtype == np.uint8
    assert images.shape == others.shape
    return np.abs(images.astype(int) - others.astype(int)).max()


@every_model
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_the_same_pixels_as_generate(models, outside, name, sampler):
    options = {"labels": [2, 0, 1], "guidance_scale": 2.0} if name == "labelled" else {}
    for num_steps in STEPS:
        expected = models[name].generate(3, sampler=sampler, num_steps=num_steps, seed=3, **options)
        assert expected.std() > 10
        got = outside[f"{name} {sampler} {num_steps}"]
        assert difference(got, expected) <= 2, num_steps
    part = outside[f"{name} {sampler} part"]
    assert difference(part, outside[f"{name} {sampler} 5"][1:2]) <= 2


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_interval_and_rescale_of_guidance_are_arguments(models, outside, sampler):
    options = {"labels": [2, 0, 1], "guidance_scale": 2.0, "guidance_interval": (0.1, 0.8)}
    options["guidance_rescale"] = 0.7
    expected = models["labelled"].generate(3, sampler=sampler, num_steps=5, seed=3, **options)
    assert difference(outside[f"labelled {sampler} interval"], expected) <= 2
    assert difference(outside[f"labelled {sampler} 5"], expected) > 2


@every_model
def test_numbers_of_steps_and_images_are_arguments(outside, name):
    # One graph served 1, 5, 20 and 50 steps, 3 pictures and 1.
    for sampler in ("dpmpp_2m", "ddpm"):
        assert len(set(outside[f"{name} {sampler} traces"])) == 1
        drawn = [outside[f"{name} {sampler} {num_steps}"] for num_steps in STEPS]
        assert all((one != two).any() for one, two in zip(drawn, drawn[1:], strict=False))


@every_model
def test_a_trajectory_leads_from_noise_to_the_picture(outside, name):
    frames = outside[f"{name} frames"]
    assert frames.shape == (21, 3, *SHAPES[name])
    assert difference(frames[-1], outside[f"{name} dpmpp_2m 5"]) <= 2
    assert np.isin(frames[0], (0, 255)).mean() == pytest.approx(0.32, abs=0.1)
    changes = [difference(one, two) > 0 for one, two in zip(frames, frames[1:], strict=False)]
    assert sum(changes) == 5, "five steps"


@every_model
def test_denoise_splits_into_a_pair(models, outside, name):
    x_t, t = outside[f"{name} x_t"], outside[f"{name} t"]
    x0, eps = outside[f"{name} x0"], outside[f"{name} eps"]
    assert x0.dtype == eps.dtype == np.float32
    alpha_bar = np.asarray(models[name].noise_schedule(t))[:, None, None, None]
    mixed = alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps
    np.testing.assert_allclose(mixed, x_t, atol=1e-4)
    assert np.abs(x0).max() > 0.01


@every_model
def test_all_samplers_are_inside(outside, name):
    expected = {f"{kind}_{sampler}" for kind in ("generate", "trajectory") for sampler in SAMPLERS}
    assert set(outside[f"{name} endpoints"]) == expected | {"denoise"}


# The folder


@every_model
def test_config_says_what_is_needed_to_sample(exports, name):
    config = json.loads((exports[name] / "assets.extra" / "config.json").read_text())
    labelled = name == "labelled"
    assert tuple(config.pop("image_shape")) == SHAPES[name]
    versions = config.pop("versions")
    assert versions == {"keras": keras.__version__, "tensorflow": tf.__version__}
    assert config == {
        "format": 3,
        "codec": {"kind": "pixels"},
        "num_classes": 3 if labelled else 0,
        "class_names": ["a", "b", "c"] if labelled else [],
        "schedule": "linear",
        "prediction_type": "v",
        "samplers": ["cold", "ddim", "ddpm", "dpmpp_2m", "heun"],
        "sampler": "dpmpp_2m",
        "num_steps": 20,
        "guidance_scale": 2.0 if labelled else 1.0,
        "guidance_interval": [0.1, 0.8] if labelled else [0.0, 1.0],
        "guidance_rescale": 0.0,
        "prompts": None,
        "training": {},
    }


def test_nothing_else_is_left_beside_the_exports(exports):
    folder = exports["labelled"].parent
    assert sorted(path.name for path in folder.iterdir()) == ["labelled", "unlabelled"]


class QuickArchive:
    """Writes a SavedModel in name only, or the half of one."""

    fails = False

    def track(self, network):
        pass

    def add_endpoint(self, *arguments):
        pass

    def write_out(self, path, verbose):
        self.write(saved_model.Path(path))

    def write(self, path):
        path.mkdir(parents=True)
        (path / "saved_model.pb").write_text("new")
        if self.fails:
            raise OSError("No space left on device")


@pytest.fixture
def archive(monkeypatch):
    """Replaces Keras' archive: these tests are about folders."""
    monkeypatch.setattr(saved_model.keras.export, "ExportArchive", QuickArchive)
    monkeypatch.setattr(QuickArchive, "fails", False)
    return QuickArchive


@pytest.fixture
def old(tmp_path):
    """A folder with an export from before."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "saved_model.pb").write_text("old")
    (path / "variables").mkdir()
    (path / "variables" / "of_old").write_text("old")
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_export_is_replaced_whole(models, old, archive):
    for _ in range(2):
        path = export_saved_model(models["labelled"], str(old), training={"epochs": 3})
        assert path == old
        assert names_in(old) == ["assets.extra", "saved_model.pb"]
        assert (old / "saved_model.pb").read_text() == "new"
        config = json.loads((old / "assets.extra" / "config.json").read_text())
        assert config["training"] == {"epochs": 3}
        assert names_in(old.parent) == ["model"]


def test_a_failed_export_leaves_the_old_one(models, old, archive):
    archive.fails = True
    with pytest.raises(OSError, match="No space left"):
        export_saved_model(models["labelled"], old)
    assert names_in(old) == ["saved_model.pb", "variables"]
    assert (old / "saved_model.pb").read_text() == "old"
    archive.fails = False
    export_saved_model(models["labelled"], old)
    assert (old / "saved_model.pb").read_text() == "new"
    assert names_in(old.parent) == ["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "dpm"}, "unknown sampler 'dpm'. Choose from: cold"),
        ({"num_steps": 0}, r"num_steps: 0 is not in 1 \.\. 1000"),
        ({"guidance_scale": float("nan")}, r"guidance_scale: nan is not in 0 \.\. 100"),
        ({"guidance_interval": (0.8, 0.1)}, r"guidance_interval: \(0.8, 0.1\) is not two times"),
        ({"guidance_rescale": 1.5}, r"guidance_rescale: 1.5 is not in \[0, 1\]"),
        ({"class_names": ["a", "b"]}, "class_names: 2 names for 3 classes; give one for each"),
    ],
)
def test_defaults_that_cannot_be_sampled_with(models, old, archive, options, message):
    with pytest.raises(ValueError, match=message):
        export_saved_model(models["labelled"], old, **options)
    assert (old / "saved_model.pb").read_text() == "old"
    assert names_in(old.parent) == ["model"]


def test_empty_and_missing_folders_are_used(models, tmp_path, archive):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep"):
        export_saved_model(models["labelled"], path)
        assert names_in(path) == ["assets.extra", "saved_model.pb"]
    assert names_in(tmp_path) == ["empty", "new"]


def test_other_folders_are_left_as_they_are(models, tmp_path, archive):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(ValueError, match="thesis: is not empty and not a SavedModel"):
        export_saved_model(models["labelled"], tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"
    assert names_in(tmp_path) == ["thesis"]


def test_a_file_is_left_as_it_is(models, tmp_path, archive):
    (tmp_path / "file").write_text("of somebody")
    with pytest.raises(ValueError, match="file: is not"):
        export_saved_model(models["labelled"], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "of somebody"
    assert names_in(tmp_path) == ["file"]


def test_a_folder_inside_of_a_file_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("of somebody")
    with pytest.raises(ValueError, match="file: is not a folder"):
        saved_model.check_target(tmp_path / "file" / "deep" / "model")


def test_a_backup_beside_the_export_is_left_alone(models, old, archive):
    backup = old.with_name("model.old")
    backup.mkdir()
    (backup / "saved_model.pb").write_text("the best one so far")
    export_saved_model(models["labelled"], old)
    assert (backup / "saved_model.pb").read_text() == "the best one so far"
