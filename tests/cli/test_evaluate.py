"""Rejected calls of evaluate.py: exit code 2, one line that names the flag, nothing is written.

What it does is tested in tests/evaluation.
"""

import pytest
from fixtures_input import check, file, rejection

from keras_diffusion.cli import evaluate
from keras_diffusion.evaluation import run
from keras_diffusion.saving import export_folder

CALLS = [
    ("", "--model", None),
    ("--model nowhere", "--model", None),
    ("--model ''", "--model", None),
    ("--model runs/empty", "--model", file("runs/empty/notes.txt")),
    ("--model m.keras", "--model", file("m.keras", "no")),
    ("--model m", "--model", file("m/saved_model.pb", "no")),
    ("--samplers ddim,dpm", "--samplers", None),
    ("--steps 5,0", "--steps", None),
    ("--num 3", "--num", None),
    ("--minutes nan", "--minutes", None),
    ("--extractor incepton", "--extractor", None),
    ("--extractor inception --extractor-size 74", "--extractor-size", None),
    ("--extractor-size 75", "--extractor-size", None),
    ("--guidance-scale inf", "--guidance-scale", None),
    ("--guidance-interval 0.8 0.1", "--guidance-interval", None),
    ("--guidance-scale 1 --guidance-rescale 0.5", "--guidance-rescale", None),
    ("--dataset a --folder b", "--folder", None),
    ("--folder nowhere", "--folder", None),
    ("--out f/x", "--out", file("f")),
    ("--anomaly nowhere", "--anomaly", None),
    ("--anomaly f", "--anomaly", file("f")),
    ("--anomaly . --num 30", "--num", None),
    ("--anomaly . --noise salt", "--noise", None),
    ("--anomaly . --times 0.1,0", "--times", None),
    ("--anomaly . --reference nowhere", "--reference", None),
    ("--noise coarse", "--noise", None),
    ("--normal good", "--normal", None),
]


@pytest.mark.parametrize(("arguments", "flag", "prepare"), CALLS)
def test_a_bad_call_is_rejected(arguments, flag, prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_folder, "SHIPPED_ROOT", tmp_path / "beside")
    if prepare:
        prepare()
    check(evaluate.main, arguments, rf"error: {flag}: ", capsys)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "interrupted; no scores are written"),
        (KeyboardInterrupt("the scores so far are in out/"), "interrupted; the scores so far are"),
    ],
)
def test_an_interruption_says_what_is_written(error, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "run", lambda *_: (_ for _ in ()).throw(error))
    assert evaluate.main(["--model", str(tmp_path)]) == 130
    assert message in capsys.readouterr().err


def test_too_little_memory_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "run", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert "--batch-size" in rejection(evaluate.main, ["--model", str(tmp_path)], capsys)[-1]
