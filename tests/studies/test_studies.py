"""What all studies share: stages made once, figures, the page, the command line."""

import dataclasses
import json
import re
import signal
import sys
import types

import numpy as np
import pytest
from PIL import Image

from keras_diffusion.runtime.signals import Interrupted
from studies import command, figures, page
from studies.kept import Kept, key


def test_a_stage_is_made_once_whole_or_not_at_all(tmp_path):
    kept, made = Kept(tmp_path / "kept", tell=made_up), []

    def make(folder, fails=False):
        np.save(folder / "a.npy", np.arange(3))
        if fails:
            raise KeyboardInterrupt
        made.append(1)
        return {"loss": 0.5, 3: (1, 2)}

    with pytest.raises(KeyboardInterrupt):
        kept.stage("one", lambda folder: make(folder, fails=True))
    assert list(kept.folder.iterdir()) == [] and not kept.has("one")
    for again in (kept, Kept(tmp_path / "kept", tell=made_up)):
        assert again.stage("one", make) == {"loss": 0.5, "3": [1, 2]}  # as JSON has it
        np.testing.assert_array_equal(again.array("one", "a.npy"), [0, 1, 2])
    assert made == [1] and kept.array("one", "b.npy") is None


def made_up(line):
    assert "done in" in line


def test_stages_know_who_made_them(tmp_path):
    def sitting(revision, *names):
        here = {"cpu": "a chip", "git_revision": revision} if revision else None
        kept = Kept(tmp_path / "kept", tell=made_up, here=here)
        for name in names:
            kept.stage(name, lambda folder: {})
        return kept.elsewhere

    assert sitting("abc", "a", "b") == []
    path = tmp_path / "kept" / "old" / "figures.json"  # of a time when none of this was noted
    path.parent.mkdir()
    path.write_text('{"figures": {}, "seconds": 1}')
    found = sitting("def", "a", "b", "c", "old")
    assert [each["stages"] for each in found] == [["a", "b"], ["old"]]
    lines = [page._elsewhere(each) for each in found]
    assert lines[0].startswith("- But 2 stages kept from before, by revision abc on a chip;")
    assert lines[1].startswith("- But 1 stage kept from before, by revision unknown on an unknown")


def test_other_settings_are_kept_elsewhere():
    @dataclasses.dataclass
    class Settings:
        epochs: int = 3

    assert key(Settings()) == key({"epochs": 3}) != key({"epochs": 4})


def test_figures_are_small_or_refused(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 28, 28, 1), "uint8")
    figure = figures.grids([[noise[0], None], [noise[1], noise[0]]], ["a", "b"], ["c", "d"])
    figures.save(figure, tmp_path / "new" / "grids.png")
    size = (tmp_path / "new" / "grids.png").stat().st_size
    assert size <= figures.MOST_BYTES
    with Image.open(tmp_path / "new" / "grids.png") as picture:
        assert picture.mode == "L"  # grey pictures need no colours
    monkeypatch.setattr(figures, "MOST_BYTES", int(0.7 * size))
    figures.save(figure, tmp_path / "new" / "fewer_dots.png")
    assert (tmp_path / "new" / "fewer_dots.png").stat().st_size <= 0.7 * size
    monkeypatch.setattr(figures, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="draw fewer"):
        figures.save(figure, tmp_path / "much.png")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_photos_are_drawn_in_fewer_colours(tmp_path, monkeypatch):
    photos = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), "uint8")
    figure = figures.grids([[photos]], ["a"], ["b"])
    monkeypatch.setattr(figures, "DOTS", (80,))
    figures.save(figure, tmp_path / "all.png")
    size = (tmp_path / "all.png").stat().st_size
    monkeypatch.setattr(figures, "MOST_BYTES", int(0.6 * size))
    figures.save(figure, tmp_path / "few.png")
    assert (tmp_path / "few.png").stat().st_size <= 0.6 * size
    with Image.open(tmp_path / "all.png") as one, Image.open(tmp_path / "few.png") as other:
        assert one.size == other.size
        distance = np.abs(np.int32(one.convert("RGB")) - np.int32(other.convert("RGB"))).mean()
    assert 0 < distance < 30


def test_curves_have_names_and_units(tmp_path):
    figure, axes = figures.sheet(columns=2)
    figures.lines(
        axes[0, 0], {"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, xlabel="x", ylabel="y"
    )
    figures.lines(axes[0, 1], {"a": ([1, 2], [3, 4])}, xlabel="x", ylabel="y", log=True)
    figures.level(axes[0, 1], 3.5, "floor")
    names = [[text.get_text() for text in each.get_legend().get_texts()] for each in axes[0]]
    assert names == [["a", "b"], ["a", "floor"]] and axes[0, 1].get_yscale() == "log"
    figures.save(figure, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 1000 and picture.mode == "RGBA"


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)], ids=["grey", "colour"])
def test_gifs_are_small_or_refused(tmp_path, monkeypatch, shape):
    still = np.linspace(0, 255, np.prod(shape)).reshape(shape).astype("uint8")
    frames = [still, *np.random.default_rng(0).integers(0, 256, (3, *shape), "uint8")]
    figures.save_gif(frames, tmp_path / "all.gif", 0.5)
    size = (tmp_path / "all.gif").stat().st_size
    monkeypatch.setattr(figures, "MOST_BYTES", int(0.8 * size))
    figures.save_gif(frames, tmp_path / "fewer_colours.gif", 0.5)
    assert (tmp_path / "fewer_colours.gif").stat().st_size <= 0.8 * size
    for name, most in (("all", 6), ("fewer_colours", 20)):
        with Image.open(tmp_path / f"{name}.gif") as moving:
            assert moving.n_frames == 4
            found = np.asarray(moving.convert("RGB" if len(shape) == 3 else "L"), int)
        assert np.abs(found - still).mean() < most
    monkeypatch.setattr(figures, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="fewer frames"):
        figures.save_gif(frames, tmp_path / "many.gif", 0.5)


def test_numbers_are_short():
    shown = [page.number(value) for value in (0.012345, 1.2345, 123.4, 12345.6, 0, None)]
    assert shown == ["0.0123", "1.23", "123", "12,300", "0", "-"]


@pytest.mark.parametrize(
    ("first", "second", "equal", "holds"),
    [(1.0, 2.0, None, True), (2.0, 1.0, None, False), (1.0, 1.1, None, None), (1.1, 1, True, True)],
)
def test_a_distance_is_lower_only_beyond_chance(first, second, equal, holds):
    scores = {"a": {"distance": first, "error": 0.06}, "b": {"distance": second, "error": 0.08}}
    claim = page.lower("a is better", scores, equal)
    assert claim.holds is holds
    assert claim.measured.endswith("0.2 is chance")
    unsure = page.lower("a is better", scores, equal, reason="two pictures")
    assert unsure.holds is None and unsure.measured.endswith("; two pictures")


# A study of nothing, run by the command line --------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    epochs: int
    colour: str


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """`studies.nothing`: its measurements are the list it returns."""
    measured = []

    def measure(settings, kept, data_dir):
        found = kept.stage("once", lambda folder: measured.append(data_dir) or {"answer": 42})
        return {**found, "epochs": settings.epochs}

    def draw(results, kept, folder):
        assert kept.has("once")
        figure, axes = figures.sheet()
        figures.lines(axes[0, 0], {"a": ([0, 1], [0, results["answer"]])}, xlabel="x", ylabel="y")
        figures.save(figure, folder / "line.png")

    parts = {
        "": {
            "TITLE": "Nothing",
            "QUESTION": "What is it?",
            "add_flags": lambda flags: flags.add_argument("--colour", nargs="+", default=["red"]),
            "settings": lambda given: Settings(given.epochs or 2, " ".join(given.colour)),
        },
        ".measure": {"measure": measure},
        ".draw": {"draw": draw},
        ".report": {
            "claims": lambda results: [
                page.Claim("it is 42", str(results["answer"]), results["answer"] == 42),
                page.Claim("it is odd", str(results["answer"]), results["answer"] % 2 == 1),
                page.Claim("it is new", "nobody knows", None),
            ],
            "report": lambda results: ["## Figures", page.picture("line.png", "a line")],
        },
    }
    for part, content in parts.items():
        module = types.ModuleType(f"studies.nothing{part}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    return measured


def test_a_study_is_measured_once_and_written_again(nothing, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--epochs", "3", "--out", str(out), "--data-dir", "there"]
    arguments += ["--colour", "blue", "dark green"]
    assert command.main("nothing", arguments) == 0
    assert nothing == ["there"]
    text = (out / "README.md").read_text()
    assert "| it is 42 | 42 | **holds** |" in text and "| it is new | nobody knows |" in text
    assert "| it is odd | 42 | **does not hold** |" in text
    assert "\n    python -m studies.nothing --epochs 3 --colour blue 'dark green'\n" in text
    assert "keras" in text and "toy" not in text and "tmp" not in text and "But" not in text
    record = json.loads((out / "results.json").read_text())
    assert record["results"] == {"answer": 42, "epochs": 3}
    (out / "README.md").unlink()
    assert command.main("nothing", ["--report", "--out", str(out)]) == 0
    assert (out / "README.md").read_text() == text
    assert command.main("nothing", [*arguments, "--fresh"]) == 0
    assert nothing == ["there", "there"]


def test_a_toy_run_says_so_and_is_written_elsewhere(nothing, tmp_path):
    assert command.main("nothing", ["--tiny"]) == 0
    [page] = tmp_path.rglob("README.md")
    assert page.parent == tmp_path / "runs" / "studies" / "nothing-tiny" / "results"
    assert "its figures mean nothing" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--epochs", "0"], "--epochs: '0' is not a number from 1 to 2147483647"),
        (["--minutes", "nan"], "--minutes: 'nan' is not a number from 0.001 to 1000000"),
        (["--minutes", "0"], "--minutes: '0' is not a number from"),
        (["--seed", "-1"], "--seed: '-1' is not a number from 0 to"),
        (["--work", __file__], "--work: .* is not a folder to write to: .* is a file"),
        (["--epochs", "1", "--minutes", "1"], "not allowed with"),
        (["--report"], "--report: there is no .*results.json; run the study first"),
    ],
)
def test_bad_input_is_one_line(nothing, arguments, pattern, capsys, tmp_path):
    arguments = [*arguments, "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        command.main("nothing", arguments)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("python -m studies.nothing: error: ")
    assert re.search(pattern, line), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_was_interrupted_ends_the_study(nothing, monkeypatch, capsys, signum):
    def measure(*_):
        raise Interrupted(signum)  # as `training.run` does

    monkeypatch.setattr(sys.modules["studies.nothing.measure"], "measure", measure)
    assert command.main("nothing", []) == 128 + signum
    assert "the same command goes on with the first stage" in capsys.readouterr().err


def test_a_page_never_shows_a_figure_that_is_not_there(nothing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["studies.nothing.draw"], "draw", lambda *_: None)
    with pytest.raises(SystemExit):
        command.main("nothing", ["--out", str(tmp_path / "out")])
    assert "line.png is not there" in capsys.readouterr().err
    assert not (tmp_path / "out" / "README.md").exists()


def test_a_report_measures_nothing(tmp_path, capsys):
    for flag in (["--minutes", "3"], ["--seed", "1"], ["--fresh"]):
        with pytest.raises(SystemExit):
            command.main("noise_schedules", ["--report", "--out", str(tmp_path / "out"), *flag])
        assert f"{flag[0]}: --report measures nothing; leave it out." in capsys.readouterr().err
