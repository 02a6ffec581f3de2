"""The notebooks as committed, and executed at tiny size."""

import re

import nbformat
import pytest
from fixtures_data import DATA_DIR
from nbclient.exceptions import CellExecutionError

from notebooks import execute

NOTEBOOKS = {path.stem: path for path in execute.FOLDER.glob("*.ipynb")}
MAX_BYTES = 400_000
TINY = {
    "cifar10_latent": {
        "CODEC_WIDTHS": (8,), "LATENT_CHANNELS": 2, "LATENT_WIDTHS": (8,), "PIXEL_WIDTHS": (8,),
        "CODEC_MINUTES": 0.02, "MINUTES": 0.02, "STEPS": 5, "LIMIT": 500,
    },
    "flowers": {"WIDTHS": (8,), "MINUTES": 0.03},
}  # fmt: skip
FIGURES = {"cifar10_latent": 7, "flowers": 11}
every_notebook = pytest.mark.parametrize("name", sorted(NOTEBOOKS))


def outputs(notebook, kind):
    """The outputs of a kind in all code cells."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [each for cell in cells for each in cell.outputs if each.output_type == kind]


@pytest.mark.slow
@every_notebook
def test_runs_from_top_to_bottom(name, tmp_path):
    source = nbformat.read(NOTEBOOKS[name], as_version=4)
    dataset = re.search(r'DATASET = "(\w+)"', execute.settings_cell(source).source)[1]
    data = {"DATASET": "digits"}
    if (DATA_DIR / dataset).is_dir():
        data = {"DATA_DIR": str(DATA_DIR.resolve())}
    executed = execute.execute(NOTEBOOKS[name], tmp_path, {**TINY[name], "IMAGE_SIZE": 8, **data})
    assert [cell.source for cell in executed.cells] == [cell.source for cell in source.cells]
    figures = [each for each in outputs(executed, "display_data") if "image/jpeg" in each.data]
    assert len(figures) == FIGURES[name]
    assert list(tmp_path.glob("runs/*/export/saved_model.pb"))
    text = "".join(each.text for each in outputs(executed, "stream"))
    assert re.search(r"largest difference .*: [01] of 255", text), text


@every_notebook
def test_is_committed_as_executed(name):
    path = NOTEBOOKS[name]
    assert path.stat().st_size < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(outputs(notebook, "display_data")) == FIGURES[name]
    assert not outputs(notebook, "error")
    assert {each.name for each in outputs(notebook, "stream")} == {"stdout"}
    for each in outputs(notebook, "stream"):
        assert not re.search(r"(^|\s)(/\w+)+/", each.text), "a path of the machine"
    ids = [cell.id for cell in notebook.cells]  # random ids would change with each save
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-text)?", each) for each in ids), ids


@pytest.mark.slow
def test_a_failing_cell_is_an_error(tmp_path):
    settings = nbformat.v4.new_code_cell("SIZE = 2", metadata={"tags": [execute.SETTINGS]})
    cells = [settings, nbformat.v4.new_code_cell("assert SIZE == 2")]
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    execute.execute(path, tmp_path)
    with pytest.raises(CellExecutionError, match="assert SIZE == 2"):
        execute.execute(path, tmp_path, {"SIZE": 3})


def test_settings_that_do_not_exist_are_rejected():
    assert execute.with_values("SIZE = 2", {"SIZE": 3}) == "SIZE = 2\nSIZE = 3"
    with pytest.raises(ValueError, match="does not assign MINUTES"):
        execute.with_values("SIZE = 2", {"MINUTES": 1})
    with pytest.raises(ValueError, match="0 cells have the tag"):
        execute.settings_cell(nbformat.v4.new_notebook())


def test_a_missing_notebook_is_rejected(capsys):
    with pytest.raises(SystemExit) as stopped:
        execute.main(["missing.ipynb"])
    assert stopped.value.code == 2
    assert "missing.ipynb: no such file" in capsys.readouterr().err
