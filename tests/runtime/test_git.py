"""The revision of the code that a run or a benchmark records."""

import importlib.util
import pathlib
import shutil
import subprocess

from keras_diffusion.runtime import git


def test_only_changed_python_files_make_a_revision_dirty(tmp_path):
    shutil.copy(git.__file__, tmp_path / "git.py")
    (tmp_path / "RESULTS.md").write_text("old")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    spec = importlib.util.spec_from_file_location("copied_git", tmp_path / "git.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clean = module.git_revision()
    assert clean and "dirty" not in clean
    (tmp_path / "RESULTS.md").write_text("new")
    assert module.git_revision() == clean
    with open(tmp_path / "git.py", "a") as file:
        file.write("# changed\n")
    assert module.git_revision() == f"{clean}-dirty"


def test_without_a_repository_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(git, "__file__", str(tmp_path / "git.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(pathlib.Path(tmp_path).parent))
    assert git.git_revision() is None
