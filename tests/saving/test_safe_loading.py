"""Loading a .keras file never runs code that the file brings along."""

import json
import pathlib
import re
import zipfile

import keras
import pytest
from fixtures_models import tiny_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("*.py"), *(ROOT / "keras_diffusion").rglob("*.py")]
SOURCES += [*(ROOT / "benchmarks").rglob("*.py")]
UNSAFE = (
    r"\b(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|allow_pickle\s*=\s*True",
    r"safe_mode\s*=\s*(False|0)|enable_unsafe_deserialization|\bLambda\(",
    r"(?<![\w.])(?<!def )(eval|exec|compile|__import__)\(|\byaml\.(unsafe_)?load\(",
    r"\bos\.system\(|shell\s*=\s*True",
)


def unsafe(text):
    return [match.group() for pattern in UNSAFE for match in re.finditer(pattern, text)]


def test_the_sources_have_no_way_to_run_a_file():
    assert len(SOURCES) > 20 and unsafe("value = eval(text)") and unsafe("layers.Lambda(f)")
    lines = {path.name: unsafe(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not {name: calls for name, calls in lines.items() if calls}


def harmful():
    """A network whose code, whenever it runs, writes the file "harm" in the current folder."""
    inputs, path = keras.Input((4,)), "harm"
    code = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(path).write_text(path), x)[1])
    return keras.Model(inputs, code(inputs))


def test_code_in_the_network_of_a_model_is_rejected_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, marker = tmp_path / "m.keras", tmp_path / "harm"
    tiny_model().save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["network"] = keras.saving.serialize_keras_object(harmful())
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    assert marker.exists(), "the code works where it may"
    marker.unlink()
    with pytest.raises(ValueError, match="Lambda.*arbitrary code"):
        keras.models.load_model(path)
    assert not marker.exists()
