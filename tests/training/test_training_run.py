"""Rejected runs write nothing; see tests/cli/test_train.py for a run from start to end."""

import shlex
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from fixtures_data import save_image
from fixtures_input import contents, file, rejection
from fixtures_runs import tiny_run

from keras_diffusion.cli import train
from keras_diffusion.evaluation import real_images
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import callbacks
from keras_diffusion.training import run as training
from keras_diffusion.training.run import Run

TINY = "--limit 16 --batch-size 8 --network cnn --set widths=(4,) --set embedding_width=4"


@pytest.mark.parametrize(
    ("flag", "arguments"),
    [
        ("--batch-size", "--accumulate 3"),
        ("--codec", "--latent --network unet --codec nowhere"),
        ("--start-from", "--start-from nowhere"),
        ("--text", "--folder images --text --network unet"),
        ("--score-every", "--folder images --score-every 1"),
        ("--image-size", "--latent --network unet --image-size 9"),
        ("--dataset", "--balance classes --unconditional"),
        ("--export-dir", "--export-dir images"),
        ("--resume", "--resume nowhere"),
        ("--run-dir", "--run-dir old"),
    ],
)
def test_a_rejected_run_writes_nothing(flag, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        save_image(tmp_path / f"images/{index}.png")
    file("old/checkpoints/step-00000001.keras")()
    before = contents(tmp_path)
    arguments = shlex.split(arguments if "--resume" in arguments else f"{TINY} {arguments}")
    *_, line = rejection(train.main, arguments, capsys)
    assert line.startswith(f"train.py: error: {flag}")
    assert contents(tmp_path) == before


def test_workers_that_load_different_checkpoints_stop(tmp_path):
    other = np.array([1, 5, 25])  # another worker is at step 5
    votes = SimpleNamespace(total=lambda values: other + values)
    model = SimpleNamespace(step=keras.Variable(0))
    model.step.assign(5)
    training._check_agreement(Run(None, None, tmp_path, votes), model)
    model.step.assign(0)
    with pytest.raises(ValueError, match="--resume: .*same checkpoint"):
        training._check_agreement(Run(None, None, tmp_path, votes), model)


def test_evaluators_and_watchers_of_a_run(tmp_path, monkeypatch):
    calls, model = [], SimpleNamespace(num_classes=2)
    real = SimpleNamespace(labels=lambda num, seed: [seed] * num)
    monkeypatch.setattr(training.fit, "fit", lambda *arguments: calls.append(arguments[-1]))
    monkeypatch.setattr(real_images, "reference_of_run", lambda *_: (real, "reference"))
    options = {"score_every": 2, "score_num": 20, "seed": 7, "guidance_scale": 3.0}
    for run, progress in (
        (tiny_run(tmp_path), Progress()),
        (tiny_run(tmp_path, **options), Progress()),
        (tiny_run(tmp_path), Progress(epoch=3)),  # it is finished
    ):
        training._train(run, model, progress)
    run.votes.is_chief = False
    training._train(run, model, Progress())
    (grid, curves), (scores, *_), others = calls
    assert others == [], "only the chief has any"
    assert isinstance(grid, callbacks.SampleGrid) and grid.num_images == 40
    assert isinstance(curves, keras.callbacks.TensorBoard)
    assert (scores.reference, scores.num_images, scores.labels) == ("reference", 20, [7] * 20)
    assert (scores.every, scores.last_epoch) == (2, 3)
    assert (scores.options["num_steps"], scores.options["guidance_scale"]) == (2, 3.0)
