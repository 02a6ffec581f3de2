"""The command app.py: rejected flags, and the models that the page offers."""

import dataclasses
import json
import shutil
import socket
import threading
import time

import pytest
from fixtures_input import check, file

from keras_diffusion.cli import __main__ as console_script
from keras_diffusion.cli import app
from keras_diffusion.cli.app import command
from keras_diffusion.cli.app.models import Models
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.saving import export_folder, loading
from keras_diffusion.saving.export_folder import CONFIG_FILE, ExportConfig

LABELLED = ExportConfig(
    image_shape=(4, 4, 1), codec={"kind": "pixels"}, num_classes=3,
    class_names=("ant", "bee", "cat"), prompts=None,
    schedule="cosine", prediction_type="v", samplers=("ddim",), sampler="ddim", num_steps=2,
    guidance=Guidance(2.0), training={}, versions={},
)  # fmt: skip
UNLABELLED = dataclasses.replace(LABELLED, num_classes=0, class_names=(), guidance=Guidance())


def write(name, config):
    """An export in name only."""
    file(f"{name}/saved_model.pb")()
    file(f"{name}/{CONFIG_FILE}", json.dumps(config.to_json()))()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the exports "ant" and "bee", and one of clips; without those of the package."""
    monkeypatch.setattr(export_folder, "SHIPPED_ROOT", tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    write("saved_models/bee", dataclasses.replace(LABELLED, created="2026-01-02T00:00:00"))
    write("saved_models/ant", dataclasses.replace(UNLABELLED, created="2026-01-01T00:00:00"))
    clips = dataclasses.replace(
        UNLABELLED, image_shape=(4, 4, 3), frames=3, created="2025-01-01T00:00:00"
    )
    write("saved_models/clips", clips)
    write("elsewhere/fly", UNLABELLED)
    return tmp_path


# Flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, flag",
    [
        ("--model nowhere", "--model"),
        ("--model ''", "--model"),
        ("--model saved_models/clips", "--model.*clips"),
        ("--port 70000", "--port"),
        ("--host 256.0.0.1", "--host"),
        ("--host 192.0.2.1", "--host"),
    ],
)
def test_rejected_flags(folder, arguments, flag, capsys):
    check(app.main, f"--port 0 {arguments}", flag, capsys)


def test_a_port_that_is_taken(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        check(app.main, f"--port {port}", f"--port: {port} is not free", capsys)


def test_without_gradio_the_command_says_how_to_install_it(folder, monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    check(app.main, "", r"requirements-app\.txt.*\.\[app\]", capsys)


def test_the_console_script_has_the_command(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        console_script.main(["app", "--port", "many"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("keras-diffusion app: error: --port")


# Models ---------------------------------------------------------------------------------------


def test_the_default_is_that_of_sample(folder):
    models = Models()
    assert models.default == "bee", "the newest"
    assert models.names == ["bee", "ant"]
    [line] = models.left_out
    assert "clips" in line


def test_a_model_from_elsewhere_is_named_by_its_path_in_commands(folder):
    models = Models("elsewhere/fly")
    assert models.names == ["fly", "ant", "bee"]
    assert models.argument("fly") == "elsewhere/fly" and models.argument("ant") == "ant"
    write("elsewhere/ant", LABELLED)
    models = Models("elsewhere/ant")
    assert models.names == ["elsewhere/ant", "ant", "bee"], "both are offered"
    assert models.config("elsewhere/ant").num_classes == 3 and models.argument("ant") == "ant"


def test_a_damaged_export_is_left_out(folder):
    file(f"saved_models/ant/{CONFIG_FILE}", "{")()
    models = Models()
    assert models.names == ["bee"] and len(models.left_out) == 2
    shutil.rmtree(folder / "saved_models/bee")
    with pytest.raises(ValueError, match="clips"):
        Models()


@pytest.mark.parametrize("name", ["elsewhere/fly", "clips", "saved_models/ant", "../ant", "", None])
def test_only_models_of_the_list_are_loaded(folder, monkeypatch, name):
    monkeypatch.setattr(loading, "load", lambda path: pytest.fail("it is loaded"))
    models = Models()
    for call in (models.load, models.config, models.argument):
        with pytest.raises(ValueError, match="--model: unknown"):
            call(name)


def test_a_model_is_loaded_once(folder, monkeypatch):
    calls, began = [], threading.Barrier(4)

    def slow(path):
        time.sleep(0.05)
        calls.append(path.name)
        return object()

    monkeypatch.setattr(loading, "load", slow)
    models, found = Models(), []

    def load():
        began.wait(10)
        found.append(models.load("bee"))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert calls == ["bee"] and len(found) == 4 and len(set(map(id, found))) == 1
    models.load("ant")
    assert calls == ["bee", "ant"]
