"""Runs notebooks from top to bottom and writes what they show into them.

    make notebooks
    python -m notebooks.execute notebooks/flowers.ipynb    # only this one

A notebook runs in a temporary folder, with the package as it is checked out. Data sets lie where
tfds keeps them; the environment variable TFDS_DATA_DIR names another folder.
"""

import ast
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from keras_diffusion.cli.parsing import OneLineParser
from keras_diffusion.runtime.files import whole_file

FOLDER = Path(__file__).resolve().parent
SETTINGS = "parameters"  # the tag of the settings cell, which papermill goes by as well


def execute(path, folder, settings=None):
    """Runs a notebook, and returns it with its outputs.

    Args:
        path: of the .ipynb.
        folder: to run it in.
        settings: None, or {name: value} instead of what its settings cell gives.

    Raises:
        ValueError: there is no settings cell, or it gives no such name.
        nbclient.exceptions.CellExecutionError: a cell has failed.
    """
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    cell = settings_cell(notebook)
    cell.source = with_values(cell.source, settings or {})
    metadata = dict(notebook.metadata)  # the kernel adds its own version
    client = NotebookClient(
        notebook, resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    client.execute(env=_environment())
    notebook.metadata = metadata
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
    return notebook


def settings_cell(notebook):
    """Returns the one cell that holds what a reader may change.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [cell for cell in notebook.cells if SETTINGS in cell.metadata.get("tags", ())]
    if len(found) != 1:
        raise ValueError(f"{len(found)} cells have the tag {SETTINGS!r}; one must.")
    return found[0]


def with_values(source, settings):
    """Returns the source of a settings cell with other values for some of its names.

    Raises:
        ValueError: a name that it does not assign.
    """
    body = ast.parse(source).body
    assigned = {node.targets[0].id for node in body if isinstance(node, ast.Assign)}
    unknown = sorted(set(settings) - assigned)
    if unknown:
        raise ValueError(f"the settings cell does not set {', '.join(unknown)}.")
    return "\n".join([source, *(f"{name} = {value!r}" for name, value in settings.items())])


def _environment():
    """Of the kernel: this checkout's package, no chatter of TensorFlow's, folders from here."""
    found = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found["PYTHONPATH"] = os.pathsep.join(
        [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if "TFDS_DATA_DIR" in found:
        found["TFDS_DATA_DIR"] = os.path.abspath(found["TFDS_DATA_DIR"])
    return found


def main(arguments=None):
    parser = OneLineParser(prog="execute.py", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("*.ipynb")))
    notebooks = parser.parse_args(arguments).notebooks
    for path in notebooks:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    for path in notebooks:
        print(f"{path.name} ...", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                notebook = execute(path, folder)
            except CellExecutionError as error:
                sys.exit(f"{path}: {error}")
        for cell in notebook.cells:  # what TensorFlow says of the machine that it runs on
            if cell.cell_type == "code":
                cell.outputs = [found for found in cell.outputs if found.get("name") != "stderr"]
        with whole_file(path) as part:
            nbformat.write(notebook, part)
        print(f"{path.name}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
