"""Loading a .keras file never runs code that the file brings along."""

import json
import pathlib
import re
import zipfile

import keras
import pytest

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import unet

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("*.py"), *(ROOT / "keras_diffusion").rglob("*.py")]
SOURCES += [*(ROOT / "benchmarks").rglob("*.py")]
UNSAFE = (
    r"\b(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|allow_pickle\s*=\s*True",
    r"safe_mode\s*=\s*(False|0)|enable_unsafe_deserialization|\bLambda\(",
    r"(?<![\w.])(eval|exec|compile|__import__)\(|\byaml\.(unsafe_)?load\(",
    r"\bos\.system\(|shell\s*=\s*True",
)


def unsafe(text):
    return [match.group() for pattern in UNSAFE for match in re.finditer(pattern, text)]


def test_the_sources_have_no_way_to_run_a_file():
    assert len(SOURCES) > 20 and unsafe("value = eval(text)") and unsafe("layers.Lambda(f)")
    lines = {path.name: unsafe(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not {name: found for name, found in lines.items() if found}


@pytest.fixture
def saved(tmp_path):
    """The file of a small model."""
    network = unet((4, 4, 1), widths=(4,), attention=(False,), embedding_width=8)
    DiffusionModel(network).save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def rewrite(path, change):
    """Changes the config.json inside of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)


def harmful():
    """A network whose code, whenever it runs, writes the file "harm" in the current folder."""
    inputs = keras.Input((4,))
    layer = keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path("harm").write_text("run"), x)[1]
    )
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("inside", [False, True], ids=["a network", "a DiffusionModel's network"])
def test_code_in_a_file_is_rejected_and_not_run(saved, inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, marker = harmful(), tmp_path / "harm"
    if inside:
        part = keras.saving.serialize_keras_object(network)
        rewrite(saved, lambda config: config["config"].update(network=part))
    else:
        network.save(saved)
        marker.unlink()
        keras.models.load_model(saved, **{"safe_mode": False})
        assert marker.exists(), "the code works where it may"
    marker.unlink()
    with pytest.raises(ValueError, match="Lambda.*arbitrary code"):
        keras.models.load_model(saved)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [("subprocess", "Popen", None), ("os", "system", "system"), ("other.models", "A", "other>A")],
)
def test_a_class_from_elsewhere_is_not_called(saved, module, name, registered, tmp_path):
    marker = tmp_path / "harm"

    def change(config):
        config.update(module=module, class_name=name, registered_name=registered)
        config["config"] = {"args": ["touch", str(marker)], "command": f"touch {marker}"}

    rewrite(saved, change)
    with pytest.raises((ValueError, TypeError)):
        keras.models.load_model(saved)
    assert not marker.exists()
