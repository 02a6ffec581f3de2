"""The notebooks: run from top to bottom at tiny size, and as they are committed."""

import json
import re

import nbformat
import pytest
from fixtures_data import DATA_DIR
from fixtures_input import refusal
from nbclient.exceptions import CellExecutionError

from notebooks import execute

NOTEBOOKS = {path.stem: path for path in execute.FOLDER.glob("*.ipynb")}
MOST_BYTES = 400_000
TINY = {
    "cifar10_latent": {
        "CODEC_WIDTHS": (8,),
        "LATENT_CHANNELS": 2,
        "LATENT_WIDTHS": (8,),
        "PIXEL_WIDTHS": (8,),
        "CODEC_MINUTES": 0.02,
        "MINUTES": 0.02,
        "STEPS": 5,
        "LIMIT": 500,
    },
    "flowers": {"WIDTHS": (8,), "MINUTES": 0.03},
}
FIGURES = {"cifar10_latent": 7, "flowers": 11}
every_notebook = pytest.mark.parametrize("name", sorted(NOTEBOOKS))


def tiny_data(dataset):
    """Settings of the real data, small, or of the digits that are always there."""
    if (DATA_DIR / dataset).is_dir():
        return {"IMAGE_SIZE": 8, "DATA_DIR": str(DATA_DIR.resolve())}
    return {"IMAGE_SIZE": 8, "DATASET": "digits"}


def outputs(notebook, kind):
    """The outputs of a kind in all code cells."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [found for cell in cells for found in cell.outputs if found.output_type == kind]


@every_notebook
def test_runs_from_top_to_bottom(name, tmp_path):
    source = nbformat.read(NOTEBOOKS[name], as_version=4)
    settings = execute.settings_cell(source).source
    dataset = re.search(r'^DATASET = "(\w+)"', settings, re.MULTILINE)[1]
    executed = execute.execute(NOTEBOOKS[name], tmp_path, {**TINY[name], **tiny_data(dataset)})
    assert [cell.source for cell in executed.cells] == [cell.source for cell in source.cells]
    figures = [found for found in outputs(executed, "display_data") if "image/jpeg" in found.data]
    assert len(figures) == FIGURES[name]
    assert list(tmp_path.glob("runs/*/export/saved_model.pb"))
    said = "".join(found.text for found in outputs(executed, "stream"))
    assert re.search(r"largest difference .*: [01] of 255", said), said


@every_notebook
def test_is_committed_as_it_ran(name):
    path = NOTEBOOKS[name]
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert outputs(notebook, "display_data")
    assert not outputs(notebook, "error")
    assert {found.name for found in outputs(notebook, "stream")} == {"stdout"}
    said = json.dumps([found.text for found in outputs(notebook, "stream")])
    assert not re.search(r'[" ](/\w+)+/', said), "a path of the machine that it ran on"


@every_notebook
def test_cells_have_names_that_stay(name):
    """Random ids would be others each time the notebook is saved by another program."""
    names = [cell.id for cell in nbformat.read(NOTEBOOKS[name], as_version=4).cells]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-text)?", each) for each in names), names


def a_notebook(path, *cells):
    """Writes a notebook of code cells, the first one its settings."""
    made = [nbformat.v4.new_code_cell(source, id=f"cell{i}") for i, source in enumerate(cells)]
    made[0].metadata["tags"] = [execute.SETTINGS]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_a_failing_cell_is_an_error(tmp_path):
    path = a_notebook(tmp_path / "a.ipynb", "SIZE = 2", "assert SIZE == 2")
    execute.execute(path, tmp_path)
    with pytest.raises(CellExecutionError, match="assert SIZE == 2"):
        execute.execute(path, tmp_path, {"SIZE": 3})


def test_settings_that_are_not_there_are_refused(tmp_path):
    path = a_notebook(tmp_path / "a.ipynb", "SIZE = 2", "MINUTES = 3")
    with pytest.raises(ValueError, match="does not set MINUTES"):
        execute.execute(path, tmp_path, {"MINUTES": 1})
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[0].metadata["tags"]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="0 cells have the tag"):
        execute.execute(path, tmp_path)


def test_a_notebook_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refusal(execute.main, ["flowers"], capsys) == [
        "execute.py: error: flowers: no such file"
    ]
