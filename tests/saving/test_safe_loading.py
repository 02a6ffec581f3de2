"""Loading reads weights and settings; it never runs code that the file brings along."""

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
    r"\b(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b",
    r"allow_pickle\s*=\s*True",
    r"safe_mode\s*=\s*(False|0)",
    r"enable_unsafe_deserialization",
    r"(?<![\w.])(eval|exec|compile|__import__)\(",
    r"\bos\.system\(|shell\s*=\s*True",
    r"\byaml\.(unsafe_)?load\(",
    r"\bLambda\(",
)


def unsafe(text):
    return [found.group() for pattern in UNSAFE for found in re.finditer(pattern, text)]


def test_the_sources_hold_no_way_to_run_a_file():
    assert len(SOURCES) > 20
    found = {path.name: unsafe(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "value = eval(text)",
        "exec(text)",
        "layers.Lambda(f)",
    ],
)
def test_the_search_would_find(line):
    assert unsafe(line)
    assert not unsafe("ast.literal_eval(text); model.compile(x); executor.submit(f)")


def network(layer=None, image_shape=(4, 4, 1)):
    built = unet(image_shape, widths=(4,), attention=(False,), embedding_width=8)
    if layer is None:
        return built
    return keras.Model(built.input, layer(built.output))


def harm():
    """A layer whose code, whenever it runs, writes the file "harm" in the current folder."""
    return keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path("harm").write_text("run"), x)[1]
    )


def rewritten(path, change):
    """Changes the config.json inside of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)


@pytest.mark.parametrize("inside", [False, True], ids=["a network", "a DiffusionModel's network"])
def test_code_in_a_file_is_refused_and_not_run(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, marker = tmp_path / "m.keras", tmp_path / "harm"
    harmful = network(harm())
    if inside:
        DiffusionModel(network()).save(path)
        part = keras.saving.serialize_keras_object(harmful)
        rewritten(path, lambda config: config["config"].update(network=part))
    else:
        harmful.save(path)
        marker.unlink()
        keras.models.load_model(path, **{"safe_mode": False})
        assert marker.exists(), "the code works where it is let"
    marker.unlink()
    with pytest.raises(ValueError, match="Lambda.*arbitrary code"):
        keras.models.load_model(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("subprocess", "Popen", None),
        ("os", "system", "system"),
        ("builtins", "eval", None),
        ("other_program.models", "Generator", "other>Generator"),
    ],
)
def test_a_class_from_elsewhere_is_not_called(module, name, registered, tmp_path):
    marker = tmp_path / "harm"
    path = tmp_path / "m.keras"
    DiffusionModel(network()).save(path)

    def change(config):
        config.update(module=module, class_name=name, registered_name=registered)
        config["config"] = {"args": ["touch", str(marker)], "command": f"touch {marker}"}

    rewritten(path, change)
    with pytest.raises((ValueError, TypeError)):
        keras.models.load_model(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 0.2, 0.9])
def test_a_truncated_file_is_an_error(kept, tmp_path):
    path = tmp_path / "m.keras"
    DiffusionModel(network()).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises((ValueError, OSError)):
        keras.models.load_model(path)
