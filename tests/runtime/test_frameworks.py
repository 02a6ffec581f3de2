"""Imports of TensorFlow and the settings of the processor before them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_diffusion.runtime import frameworks, processor

ROOT = Path(__file__).resolve().parents[2]
NAME = "TF_ENABLE_ONEDNN_OPTS"


def test_stderr_is_held_back_and_shown_after_an_error(capfd):
    with frameworks.holding_stderr() as stderr:
        os.write(2, b"about CUDA\n")
        os.write(stderr, b"ours\n")
    assert capfd.readouterr().err == "ours\n"
    with pytest.raises(ImportError), frameworks.holding_stderr():
        os.write(2, b"the reason\n")
        raise ImportError
    print("later", file=sys.stderr)
    assert capfd.readouterr().err == "the reason\nlater\n"


def test_onednn_is_on_unless_the_user_turns_it_off(monkeypatch):
    monkeypatch.setenv(NAME, "0")
    processor.set_defaults()
    assert os.environ[NAME] == "0" and processor.describe().endswith("oneDNN off")
    monkeypatch.delenv(NAME)
    code = f"import os, keras_diffusion; print(os.environ[{NAME!r}])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


def test_one_line_warns_if_tensorflow_was_imported_first(monkeypatch, caplog):
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.setattr(processor, "cpu_flags", lambda: ["avx2", "avx512_vnni"])
    processor.set_defaults()
    assert not caplog.messages and processor.describe().endswith("oneDNN on")
    monkeypatch.setattr(processor, "cpu_flags", lambda: ["avx2"])
    processor.set_defaults()
    [message] = caplog.messages
    assert "import keras_diffusion first" in message and NAME not in os.environ
    assert processor.describe().endswith("oneDNN off")
    monkeypatch.setenv(NAME, "0")
    processor.set_defaults()
    assert len(caplog.messages) == 1, "the user has turned it off"


def test_a_processor_that_is_not_known(monkeypatch):
    def read_text(path):
        raise OSError  # no /proc/cpuinfo

    monkeypatch.setattr(Path, "read_text", read_text)
    assert processor.cpu_flags() == [] and "oneDNN on" in processor.describe()


def test_flags_that_onednn_may_not_use(monkeypatch):
    text = "processor: 0\nflags: fma avx2 avx512f avx512_bf16 amx_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert processor.describe().startswith("AMX, ")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor.describe().startswith("AVX2, ")
    assert not {"avx512f", "avx512_bf16", "amx_bf16"} & set(processor.cpu_flags())


@pytest.mark.slow
def test_nothing_is_on_the_screen_but_our_lines(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "CUDA_"))}
    command = [sys.executable, ROOT / "train.py", "--dataset", "digits", "--dry-run"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    assert result.stderr == "" and result.stdout.startswith("processor: ")
