"""Loading what was saved: exports with their config.json, runs and .keras files."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT
from fixtures_exports import NUM_STEPS
from fixtures_runs import tiny_model

from keras_diffusion import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.saving import checkpoints, export_folder, loading


@pytest.fixture(scope="module")
def saved(export, tmp_path_factory):
    """{kind: path} of one model."""
    model, path = export
    folder = tmp_path_factory.mktemp("saved")
    file = checkpoints.save(model, checkpoints.Progress(), folder / "run/checkpoints", 1)
    (folder / "run/checkpoints/step-00000002.keras").write_text("cut off")
    config = json.loads((path / export_folder.CONFIG_FILE).read_text())["training"]["config"]
    record = {"config": config, "data": {"classes": [f"digit {label}" for label in range(10)]}}
    (folder / "run/config.json").write_text(json.dumps(record))
    return {"export": path, "run": folder / "run", "file": file}


@pytest.mark.parametrize("kind", ["export", "run", "file"])
def test_all_kinds_of_saved_models_generate_the_same(export, saved, kind, capsys):
    loaded = loading.load(saved[kind])
    assert loaded.name == ("tiny" if kind == "export" else "run")
    assert (loaded.image_shape, loaded.num_classes, loaded.schedule) == ((8, 8, 1), 10, "linear")
    assert (loaded.sampler, loaded.num_steps) == ("dpmpp_2m", NUM_STEPS)
    assert loaded.guidance == Guidance(2.0, (0.1, 0.8)) and loaded.options["dataset"] == "digits"
    assert loaded.class_names[9] == "digit 9"
    options, done = {"seed": 1, "guidance_scale": 3.0}, []
    images = loaded.generate(5, batch_size=2, progress=done.append, **options)
    options |= {"num_steps": NUM_STEPS, "guidance_interval": (0.1, 0.8)}
    expected = export[0].generate(5, **options)
    assert np.abs(images.astype(int) - expected).max() <= 2 and done == [2, 4, 5]
    assert ("skipping" in capsys.readouterr().out) == (kind == "run")
    if kind == "export":
        with pytest.raises(ValueError, match="sampler: unknown 'heun'"):
            loaded.generate(5, sampler="heun")


def test_a_checkpoint_of_a_later_version_is_not_skipped(saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 0)
    with pytest.raises(ValueError, match="step-00000001.keras: was written by a later version"):
        loading.load(saved["run"])


def test_nothing_that_can_be_loaded(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.keras").write_text("no")
    shutil.copytree(saved["export"], tmp_path / "damaged")
    (tmp_path / "damaged/saved_model.pb").write_bytes(b"\x00damaged")
    for name in ("nowhere", "empty", "m.keras", "damaged"):
        with pytest.raises(ValueError, match=f"{name} (does not|is neither|cannot be)") as error:
            loading.load(tmp_path / name)
        assert "\n" not in str(error.value)


def test_other_models_are_rejected(tmp_path):
    tiny_model().network.save(tmp_path / "network.keras")
    with pytest.raises(ValueError, match="network.keras is of type Functional"):
        loading.load(tmp_path / "network.keras")


# config.json ---------------------------------------------------------------------------------

PROMPTS = Prompts(["ant", "bee"])
DESCRIBED = {"words": list(PROMPTS.words), "length": PROMPTS.length, **PROMPTS.get_config()}


@pytest.fixture
def config(saved, tmp_path):
    """A function that changes values in the config.json of an export; None removes one."""
    values = json.loads((saved["export"] / export_folder.CONFIG_FILE).read_text())

    def write(**changes):
        path = tmp_path / "ant" / export_folder.CONFIG_FILE
        path.parent.mkdir(parents=True)
        kept = {n: v for n, v in {**values, **changes}.items() if n not in changes or v is not None}
        path.write_text(json.dumps(kept))
        return tmp_path / "ant"

    return write


def test_a_config_is_read_as_it_was_written(config):
    names = {"num_classes": 2, "class_names": ["ant", "bee"], "prompts": DESCRIBED}
    names["codec"] = {"kind": "latents", "x_shape": [2, 2, 4], "clip": None}
    read = export_folder.read(config(**names))
    assert read.prompts == PROMPTS and read.class_names == ("ant", "bee")
    again = json.loads(json.dumps(read.to_json()))
    assert export_folder.ExportConfig.from_json(again) == read


@pytest.mark.parametrize("number", [None, 1, 3, 5, "4", True, 4.0])
def test_any_other_format_is_to_be_exported_again(config, number):
    path = config(format=number)
    with pytest.raises(ValueError, match=r"ant: its format is .* Export it again from its run"):
        export_folder.read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_shape", None), ("image_shape", [8, 8]), ("image_shape", [0, 8, 1]),
        ("codec", {}), ("codec", "pixels"), ("codec", {"kind": "latents", "clip": 3}),
        ("codec", {"kind": "latents", "x_shape": [2, 2, 4]}),
        ("codec", {"kind": "latents", "x_shape": [2, 2, 4], "clip": float("nan")}),
        ("num_classes", "ten"), ("num_classes", -1), ("num_classes", True), ("num_classes", 2),
        ("class_names", ["ant"]), ("class_names", list(range(10))), ("samplers", "ddpm"),
        ("sampler", "heun"), ("sampler", None), ("num_steps", 0), ("num_steps", 1001),
        ("guidance_scale", float("nan")), ("guidance_interval", None),
        ("guidance_interval", [0.8, 0.1]), ("guidance_rescale", 2), ("training", 3),
        ("shipped", "no"), ("created", 3), ("parameters", -1),
        ("prompts", {"length": 4}), ("prompts", "ant"), ("prompts", {**DESCRIBED, "length": 1}),
    ],
)  # fmt: skip
def test_values_that_cannot_be_sampled_with(config, name, value):
    path = config(**{name: value})
    with pytest.raises(ValueError, match=f"config.json: .*{name.removeprefix('num_')}"):
        export_folder.read(path)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff", b"{}"])
def test_a_folder_that_is_no_export(tmp_path, content):
    if content is not None:
        (tmp_path / "assets.extra").mkdir()
        (tmp_path / export_folder.CONFIG_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is not an export|its format is None"):
        export_folder.read(tmp_path)


# Names ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """A function that writes an export in name only into saved_models/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_folder, "SHIPPED_ROOT", tmp_path / "beside/saved_models")
    values = json.loads((saved["export"] / export_folder.CONFIG_FILE).read_text())

    def write(name, root="saved_models", age=0, **changes):
        path = pathlib.Path(root, name)
        (path / "assets.extra").mkdir(parents=True)
        (path / "saved_model.pb").write_text("")
        os.utime(path / "saved_model.pb", (age, age))
        (path / export_folder.CONFIG_FILE).write_text(json.dumps({**values, **changes}))
        return path

    return write


def test_the_default_is_the_newest_of_the_user_else_the_shipped_flowers(folder, saved):
    with pytest.raises(ValueError, match="there is no model in"):
        export_folder.locate()
    beside = folder("oxford_flowers102", "beside/saved_models", shipped=True)
    assert export_folder.locate()[0] == beside.absolute(), "of an installed package"
    flowers = folder("oxford_flowers102", shipped=True, created="2026-12-01T00:00:00+00:00")
    mnist = folder("mnist", shipped=True, created="2026-12-02T00:00:00+00:00")
    path, reason = export_folder.locate()
    assert path == flowers and "comes with" in reason
    shutil.copytree(mnist, "saved_models/copy")
    assert export_folder.locate()[0] == flowers, "a copied model is not one of the user's"
    folder("first", age=2e9, created="2026-11-01T10:00:00+00:00")
    second = folder("second", age=1e9, created="2026-11-01T12:00:00+02:00")
    third = folder("third", age=0, created="2026-11-01T10:00:01+00:00")
    path, reason = export_folder.locate()
    assert path == third and "newest" in reason, "whatever the times of the files"
    shutil.rmtree(third)
    (second / export_folder.CONFIG_FILE).write_text("{")  # by its file: 2001
    assert export_folder.locate()[0] == pathlib.Path("saved_models/first")
    (second / "saved_model.pb").touch()
    assert export_folder.locate()[0] == pathlib.Path("saved_models/second"), "then read() raises"
    shutil.rmtree(mnist)
    retrained = folder("mnist", created="2037-01-01T00:00:00+00:00")
    assert export_folder.locate()[0] == retrained
    folder(".part-new", created="2038-01-01T00:00:00+00:00")
    assert export_folder.locate()[0] == retrained


def test_a_model_is_found_by_its_path_or_name(folder):
    mine, beside = folder("mine"), folder("mnist", "beside/saved_models")
    pathlib.Path("mine").mkdir()  # its images, say
    assert export_folder.locate("mine") == (mine, "")
    assert export_folder.locate("./mine")[0] == pathlib.Path("mine")
    assert export_folder.locate(mine)[0] == export_folder.locate(f"{mine}/")[0] == mine
    assert export_folder.locate("mnist")[0] == beside.absolute()
    own = folder("mnist")
    assert export_folder.locate("mnist")[0] == own
    with pytest.raises(ValueError, match="minst does not exist.*: mine, mnist"):
        export_folder.locate("minst")


def test_a_shipped_model_is_marked_and_not_replaced(folder):
    path = folder("mnist")
    export_folder.mark_shipped(path)
    assert export_folder.read(path).shipped
    with pytest.raises(ValueError, match="comes with keras_diffusion"):
        export_folder.check_target(path)


@pytest.mark.slow
def test_keras_loads_a_model_if_it_was_imported_after_the_package(saved):
    code = "import keras_diffusion as kd, keras, sys; kd.schedules; "
    code += "print(keras.models.load_model(sys.argv[1]).num_classes)"
    command = [sys.executable, "-c", code, saved["file"]]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.stdout.split()[-1:] == [b"10"], done.stderr[-2000:]


@pytest.mark.slow
def test_a_new_process_loads_a_model_and_its_optimizer(tmp_path):
    tiny_model().save(tmp_path / "tiny.keras")  # of Muon
    code = "import keras_diffusion as kd, sys; print(kd.load(sys.argv[1]).num_classes)"
    command = [sys.executable, "-c", code, tmp_path / "tiny.keras"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.stdout.split()[-1:] == [b"2"], done.stderr[-2000:]
