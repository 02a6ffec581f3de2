"""Rejected runs write nothing; see tests/cli/test_train.py for a run from start to end."""

import shlex

import keras
import pytest
from fixtures_input import contents, refusal
from fixtures_runs import tiny_run

from keras_diffusion.cli import train
from keras_diffusion.evaluation import real_images
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import callbacks, single_image
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
    (tmp_path / "images").mkdir()
    for index in range(4):
        keras.utils.save_img(tmp_path / f"images/{index}.png", [[[index] * 3] * 8] * 8)
    (tmp_path / "old/checkpoints").mkdir(parents=True)
    (tmp_path / "old/checkpoints/step-00000001.keras").write_text("")
    before = contents(tmp_path)
    arguments = shlex.split(arguments if "--resume" in arguments else f"{TINY} {arguments}")
    *_, line = refusal(train.main, arguments, capsys)
    assert line.startswith(f"train.py: error: {flag}")
    assert contents(tmp_path) == before


def test_workers_that_load_different_checkpoints_stop(tmp_path, monkeypatch):
    class Votes:
        is_chief = True

        def total(self, values):
            """Another worker is at step 5."""
            return [one + other for one, other in zip(values, (1, 5, 25), strict=True)]

    def check(step):
        model = keras.Sequential()
        model.compile("sgd")
        model.optimizer.iterations.assign(step)
        training._check_agreement(Run(None, None, tmp_path, Votes()), model)

    check(5)
    with pytest.raises(ValueError, match="--resume: .*same checkpoint"):
        check(0)


def test_only_the_chief_has_evaluators_and_watchers(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(training.fit, "fit", lambda *arguments: calls.append(arguments[-1]))
    monkeypatch.setattr(training, "_evaluators", lambda *_: ["evaluator"])
    monkeypatch.setattr(training, "_watchers", lambda *_: ["watcher"])
    run = tiny_run(tmp_path)
    for chief in (True, False):
        run.votes.is_chief = chief
        training._train(run, None, checkpoints.Progress())
    assert calls == [["evaluator", "watcher"], []]
    training._train(run, None, checkpoints.Progress(epoch=3))
    assert len(calls) == 2, "it was finished"


def test_evaluators_and_watchers_of_a_run(tmp_path, monkeypatch):
    class Model:
        num_classes = 2

    class Real:
        def labels(self, num, seed):
            return [seed] * num

    monkeypatch.setattr(real_images, "reference_of_run", lambda *_: (Real(), "reference"))
    monkeypatch.setattr(single_image, "restoration_callback", lambda *_: "restoration")
    assert training._evaluators(tiny_run(tmp_path), Model(), None) == []
    options = {"score_every": 2, "score_num": 20, "seed": 7, "guidance_scale": 3.0}
    [scores] = training._evaluators(tiny_run(tmp_path, **options), Model(), None)
    assert (scores.reference, scores.num_images, scores.labels) == ("reference", 20, [7] * 20)
    assert (scores.every, scores.last_epoch) == (2, 3)
    assert (scores.options["num_steps"], scores.options["guidance_scale"]) == (2, 3.0)
    grid, curves, bar = training._watchers(tiny_run(tmp_path), Model())
    assert isinstance(grid, callbacks.SampleGrid) and grid.num_images == 40
    assert isinstance(curves, keras.callbacks.TensorBoard)
    assert isinstance(bar, callbacks.ProgressBar)
