"""Two tiny exports, and the page's parts without a browser."""

import shutil

import pytest
from fixtures_page import serving, write_prompt_export

from keras_diffusion.cli.app.files import Files
from keras_diffusion.cli.app.models import Models
from keras_diffusion.cli.app.page import Page
from keras_diffusion.saving import export_folder


@pytest.fixture(scope="session")
def exports(export, tmp_path_factory):
    """A folder with saved_models/tiny (classes) and saved_models/words (prompts)."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(export[1], folder / "saved_models/tiny")
    write_prompt_export(folder)
    return folder


@pytest.fixture(scope="module")
def models(exports):
    """The models of the page, each loaded once; the current folder is theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_folder, "SHIPPED_ROOT", exports / "nowhere")
        patch.chdir(exports)
        return Models("tiny")


@pytest.fixture(scope="module")
def server(folder):
    """(process, URL) of the page for the exports in the module's `folder`."""
    with serving(folder, "--model", "words") as server:
        yield server
    log = (folder / "page.log").read_text()
    # Gradio prints its own check of a dropdown, which requests without a browser can fail.
    tracebacks = log.count("Traceback") - log.count("is not in the list of choices")
    assert not tracebacks and "a job of the page failed" not in log, log


@pytest.fixture
def page(exports, models, tmp_path, monkeypatch):
    """A `Page` without components, in the folder of the exports."""
    monkeypatch.setattr(export_folder, "SHIPPED_ROOT", exports / "nowhere")
    monkeypatch.chdir(exports)
    (tmp_path / "files").mkdir()
    return Page(models, None, Files(tmp_path / "files"), tmp_path / "runs", "app.py")
