"""Executes notebooks from top to bottom and writes their outputs into them.

    make notebooks
    python -m notebooks.execute notebooks/flowers.ipynb    # only this one

A notebook runs in a temporary folder, with the package of this checkout. The environment variable
TFDS_DATA_DIR names the folder of the tfds data sets, if it is not the default one.
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
from keras_diffusion.runtime.console import duration
from keras_diffusion.runtime.files import whole_file

FOLDER = Path(__file__).resolve().parent
SETTINGS = "parameters"  # tag of the settings cell, also that of papermill


def execute(path, folder, settings=None):
    """Executes a notebook and returns it with its outputs.

    Args:
        path: of the .ipynb.
        folder: current folder of the execution.
        settings: None, or {name: value} that replace values of the settings cell.

    Raises:
        ValueError: there is no settings cell, or it does not assign such a name.
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
    """Returns the one cell with the settings that a reader may change.

    Raises:
        ValueError: there is none, or more than one.
    """
    cells = [cell for cell in notebook.cells if SETTINGS in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ValueError(f"{len(cells)} cells have the tag {SETTINGS!r}. Tag exactly one.")
    return cells[0]


def with_values(source, settings):
    """Returns the source of a settings cell with other values for some of its names.

    Raises:
        ValueError: a name that it does not assign.
    """
    body = ast.parse(source).body
    assigned = {node.targets[0].id for node in body if isinstance(node, ast.Assign)}
    unknown = sorted(set(settings) - assigned)
    if unknown:
        raise ValueError(f"the settings cell does not assign {', '.join(unknown)}.")
    return "\n".join([source, *(f"{name} = {value!r}" for name, value in settings.items())])


def _environment():
    """Returns the environment of the kernel: this checkout's package, and absolute folders."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if "TFDS_DATA_DIR" in environment:
        environment["TFDS_DATA_DIR"] = os.path.abspath(environment["TFDS_DATA_DIR"])
    return environment


def main(arguments=None):
    """Executes the notebooks of the command line, or all of them."""
    parser = OneLineParser(prog="execute.py", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("*.ipynb")))
    notebooks = parser.parse_args(arguments).notebooks
    for path in notebooks:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    for path in notebooks:
        print(f"{path.name} ...", flush=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                notebook = execute(path, folder)
            except CellExecutionError as error:
                sys.exit(f"{path}: {error}")
        for cell in notebook.cells:  # TensorFlow writes facts of the machine to stderr
            if cell.cell_type == "code":
                cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        with whole_file(path) as part:
            nbformat.write(notebook, part)
        print(f"{path.name}: {duration(time.monotonic() - start)}", flush=True)


if __name__ == "__main__":
    main()
