"""One run of train.py for all tests of the command line."""

import pytest
from commands import TINY, run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(folder in which train.py has written runs/tiny and saved_models/tiny, its stdout)."""
    folder = tmp_path_factory.mktemp("user")
    return folder, run("train.py", *TINY, "--run-dir", "runs/tiny", cwd=folder)
