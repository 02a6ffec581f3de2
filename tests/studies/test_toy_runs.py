"""All studies at toy size, from the command line; their numbers mean nothing here."""

import itertools
import json
import re

import numpy as np
import pytest
from fixtures_exports import one_sampler
from PIL import Image

from keras_diffusion.evaluation import anomaly, classifier
from keras_diffusion.training.callbacks import TrainingStopped
from studies import applications, command, latents, morphing, noise_schedules, runs, scoring
from studies.figures import MAX_BYTES
from studies.latents import measure as latents_measure
from studies.morphing import limits, measure
from studies.morphing import training as morphing_training
from studies.morphing.sampling import Morpher
from studies.noise_schedules import training as noise_training
from studies.stages import Stages

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 with numpy 2, in model.save.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder; exports have one sampler."""
    monkeypatch.chdir(tmp_path)
    with one_sampler():
        yield tmp_path


def run(name, folder, *flags):
    """Runs a study and checks its page; returns (results, `Stages`)."""
    assert command.main(name, ["--tiny", "--seed", "3", *flags]) == 0
    work = folder / "runs" / "studies" / f"{name}-tiny"
    out = work / "results"
    text = (out / "README.md").read_text()
    shown = set(re.findall(r"\((\w+\.(?:png|gif))\)", text))
    assert shown == {path.name for path in out.iterdir() if path.suffix in (".png", ".gif")}
    assert all(1000 < (out / file).stat().st_size <= MAX_BYTES for file in shown)
    assert "toy run" in text and str(folder) not in text
    assert command.main(name, ["--report", "--tiny"]) == 0
    assert (out / "README.md").read_text() == text
    [settings] = [path for path in work.iterdir() if re.fullmatch("[0-9a-f]{10}", path.name)]
    return json.loads((out / "results.json").read_text())["results"], Stages(settings)


def test_latents(folder, monkeypatch, capsys):
    monkeypatch.setattr(classifier, "settings_for", lambda *_: classifier.TINY)
    for name in ("_watchers", "_finish"):  # previews, figures and exports
        monkeypatch.setattr(runs.run, name, lambda *_: [])
    results, stages = run("latents", folder)
    for kind in latents.KINDS:
        result = results[kind]
        assert result["images"] == 2 * 64 and len(result["curve"]) == 2
        assert [row["guidance_scale"] for row in result["scores"]] == [1, 3]
        assert {row["num_images"] for row in result["scores"]} == {40}
        images = stages.array(f"{kind}-scores", latents_measure.IMAGES)
        assert images.shape == (2, 10, latents_measure.SHOWN, 8, 8, 1)
        for row in result["scores"]:
            shares = [share for share in row["by_class"] if share is not None]
            assert min(shares) <= row["accuracy"] <= max(shares)
    assert results["pixels"]["codec"] is None and results["latents"]["codec"]["epochs"] == 1
    assert results["latents"]["minutes"] > results["latents"]["codec"]["minutes"] > 0
    # A training that has ended, but whose results were not kept, is resumed at its end.
    config = latents_measure.config_of("latents", latents.Settings(**latents.TINY, seed=3))
    again = latents_measure.train(config, runs.folder("latents", stages))
    assert "resuming" in capsys.readouterr().out
    assert again == {name: results["latents"][name] for name in again}


def test_one_image(folder):
    results, _ = run("one_image", folder)
    assert [row["t"] for row in results["blur"]] == [0.3, 0.5, 0.7, 0.9]
    sigmas = [row["sigma"] for row in results["blur"]]
    assert sigmas == sorted(sigmas)  # more noise, more blur
    [training] = results["trainings"]
    assert training["crops"] == 2 * 16 and np.isfinite(training["from_noise"]).all()


def test_mnist_benchmark(folder):
    results, stages = run("mnist_benchmark", folder)
    with Image.open(folder / "runs/studies/mnist_benchmark-tiny/results/evolving.gif") as gif:
        assert gif.n_frames == 2
    for name in ("published", "default"):
        rows = results["trainings"][name]["rows"]
        seconds, steps = ([row[key] for row in rows] for key in ("seconds", "steps"))
        assert seconds == sorted(seconds) and seconds[-1] >= 60 * 0.02 and steps == sorted(steps)
        assert len(results["scores"][name]["curve"]) == 2
        logs = stages.folder / "logs" / name
        assert list(logs.glob("samples/events*")) and list(logs.glob("train/events*"))
        grids = sorted(path.name for path in logs.glob("grids/*"))
        assert grids == ["epoch-0001.png", "epoch-0002.png"]


def test_noise_schedules(folder):
    arguments = ["--schedules", "cosine"]
    results, stages = run("noise_schedules", folder, *arguments)
    result = results["trainings"]["cosine"]
    assert results["plan"]["epochs"] == 2 and len(result["loss"]) == 2


def test_morphing(folder, monkeypatch, capsys):
    """Interrupted before its last stage, and run again."""
    calls, generate = [], Morpher.generate

    def counted(self, x, method, *arguments):
        calls.append(len(x) * method.num_steps)
        return generate(self, x, method, *arguments)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Morpher, "generate", counted)
    with monkeypatch.context() as stopping:
        stopping.setattr(limits.Limits, "of_mixture", stop)
        assert command.main("morphing", ["--tiny", "--seed", "3"]) == 130
    capsys.readouterr()
    results, _ = run("morphing", folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if ": done" in line] == ["limits-mixture"]
    settings = morphing.Settings(**morphing.TINY)
    sampling = settings.epochs * settings.pictures * settings.curve_steps
    planned = morphing_training.network_calls(settings)
    assert sum(calls) == morphing_training.TRAININGS * sampling + planned

    assert set(results["trainings"]) == {"morphing-linear", "morphing-cosine", results["noise"]}
    assert results["noise"].split("-")[1] == results["morphing"].split("-")[1]
    for name, best in results["best"].items():
        chosen = measure.best_row(results["ways"][name])
        assert all(best[part] == chosen[part] for part in ("num_steps", "grid", "update"))
        assert best["distance"] != chosen["distance"]  # from other starting points
        assert len(results["ways"][name]) == (9 if name.startswith("morphing") else 5)
    starts = results["limits"]
    for each in (starts["sets"], *starts["averages"], starts["mixture"]["mixture"]):
        assert sum(each["shares"]) == pytest.approx(1)
    assert np.sum(starts["sets"]["table"]) == settings.pictures


def test_applications(folder, monkeypatch):
    """All of them; X-rays are noise, brighter where they are abnormal."""
    rng = np.random.default_rng(0)
    for split, name, count in itertools.product(("train", "val", "test"), ("normal", "ill"), (24,)):
        (folder / "xrays" / split / name).mkdir(parents=True)
        low = 0 if name == "normal" else 60
        for number in range(count):
            pixels = rng.integers(low, low + 100, (16, 16)).astype("uint8")
            Image.fromarray(pixels).save(folder / "xrays" / split / name / f"{number}.png")
    for name in ("_watchers", "_finish"):  # previews, figures and exports
        monkeypatch.setattr(runs.run, name, lambda *_: [])
    monkeypatch.setattr(anomaly, "RESAMPLES", 20)  # bootstrap
    results, stages = run("applications", folder, "--xrays", "xrays")
    measured = results["measured"]
    assert set(measured) == set(applications.APPLICATIONS) and results["left_out"] == {}
    for kind in ("digits", "flowers"):
        assert measured["inpainting"][kind]["changed"] == 0
        assert {row["mask"] for row in measured["inpainting"][kind]["rows"]} == {
            "lower half", "centre box", "random 50%",
        }  # fmt: skip
        assert min(row["seconds"][0] for row in measured["speed"][kind]["rows"]) > 0
    rows = measured["closed_form"]["priors"]["exponential kernel"]["rows"]
    assert rows["MMPS, 16 CG steps"]["bias"] < 0.2 < rows["replacement"]["bias"]
    rows = [row for row in measured["enlarging"]["rows"] if row["method"] == "MMPS"]
    assert max(row["changed"] for row in rows) < 10
    cells = {cell["score"] for cell in measured["medical"]["anomaly"]["test"]}
    assert {"PCA", "model, gaussian", "model, inversion, mahalanobis"} <= cells
    # With one of them alone, the others come from the cache.
    before = sorted(stages.folder.glob("*/figures.json"))
    assert command.main("applications", ["--tiny", "--seed", "3", "--only", "speed"]) == 0
    again = json.loads((folder / "runs/studies/applications-tiny/results/results.json").read_text())
    assert again["results"] == results and sorted(stages.folder.glob("*/figures.json")) == before


def test_a_stopped_training_continues_as_if_it_had_not_been(folder):
    """Of noise_schedules: losses and images of the second part are the same to the bit."""
    settings = noise_schedules.Settings(**noise_schedules.TINY)
    batches = noise_training.Data(scoring.real_images("digits"), settings)
    results = []
    for restart in (False, True):
        stages = Stages(folder / str(restart) / "key")
        training = noise_training.Training("cosine", batches, settings, stages, steps=3)
        if restart:
            training.num_parts = 1
            training.run()
            training = noise_training.Training("cosine", batches, settings, stages, steps=3)
        parts = training.run()
        images = stages.array("cosine-part2", "pictures.npy")
        results.append(([part["loss"] + part["val_loss"] for part in parts], images))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_a_training_that_fails_is_one_line(folder, monkeypatch, capsys):
    def fail(*_, **__):
        raise TrainingStopped("the loss is nan.")

    monkeypatch.setattr(runs.run, "run", fail)
    with pytest.raises(SystemExit) as stopped:
        command.main("one_image", ["--tiny"])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("the training has failed: the loss is nan.")
