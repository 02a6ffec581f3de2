"""Verdicts of all studies: committed results, with changes that decide a claim."""

import copy
import importlib
import json

import pytest

from studies import command, report

STUDIES = ("applications", "latents", "mnist_benchmark", "morphing", "noise_schedules", "one_image")
FOLDER = command.ROOT / "studies"


def record_of(name):
    return command.read(FOLDER / "results" / name)


@pytest.mark.parametrize("name", STUDIES)
def test_committed_pages_are_generated_from_the_committed_results(name):
    record, reporting = record_of(name), importlib.import_module(f"studies.{name}.report")
    template = (FOLDER / name / "page.md").read_text()
    results = record["results"]
    page = report.page(template, record, reporting.claims(results), reporting.values(results))
    assert page == (FOLDER / "results" / name / "README.md").read_text()
    text = json.dumps(record, indent=1)
    assert json.loads(command.as_text(record)) == json.loads(text)


def changed(results, changes):
    """A copy of results; `changes` is {"key.key.index": value}."""
    results = copy.deepcopy(results)
    for path, value in copy.deepcopy(changes).items():
        *keys, last = path.split(".")
        place = results
        for key in keys:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value
    return results


LOOPS = {
    "loops.compiled": {"1": 0.04, "10": 0.4, "1000": 40.0},
    "loops.calls": {"1": 0.05, "10": 0.5, "1000": 50.0},
    "loops.plain": {"1": 0.1, "10": 1.0},
}
DISTANCES = {  # of digits; chance is 2 sqrt(0.2**2 + 0.2**2) = 0.57
    f"scores.{name}.chain": {"distance": distance, "error": 0.2, "frame": frame, "images": 128}
    for name, distance, frame in (
        ("cosine", 1.0, 1.0), ("linear", 2.0, 1.5), ("constant", 3.0, 20.0),
        ("inverse_linear", 4.0, 30.0),
    )
}  # fmt: skip


def noise_row(strength, different, sure):
    return {"strength": strength, "different": different, "sure": sure, "images": 50, "of": 5}


def curve(*points):
    return [{"minutes": minutes, "psnr": psnr, "ssim": psnr / 30} for minutes, psnr in points]


@pytest.mark.parametrize(
    ("name", "changes", "index", "verdict"),
    [
        ("latents", {"latents.codec.psnr": 24.0}, 0, True),
        ("latents", {"latents.codec.psnr": 23.9}, 0, False),
        ("latents", {"pixels.curve.3.val_loss": 9.0}, 1, False),
        ("latents", {"pixels.curve.6.val_loss": 9.0}, 1, True),  # later
        ("latents", {"latents.curve": [{"loss": 1.0, "val_loss": 1.0}] * 3}, 2, None),
        ("latents", {"pixels.scores.0.accuracy": 0.5, "pixels.scores.4.accuracy": 0.3}, 3, False),
        ("latents", {"latents.scores.0.accuracy": 0.5, "latents.scores.4.accuracy": 0.51}, 4, None),
        ("latents", {"pixels.scores.1.by_class": [0.9] * 5 + [0.1] * 5}, 5, False),
        ("latents", {"latents.scores.1.by_class": [0.9, None, 0.1, 0.9]}, 6, True),
        ("latents", {"latents.images": 1000}, 7, False),
        ("latents", {"latents.scores.4.seconds_per_image": 9.0}, 8, False),
        ("latents", {"latents.scores.1.kid": 0.001}, 9, True),
        ("latents", {"latents.scores.1.kid": 0.001, "pixels.scores.1.fid": 1.45}, 9, None),
        ("latents", {"latents.scores.1.kid": 0.1}, 9, None),  # KID disagrees with FID
        ("latents", {"latents.scores.1.fid": 5.0, "latents.scores.2.kid": 0.1}, 9, False),
        ("mnist_benchmark", {"scores.default.final": {"distance": 1.0, "error": 0.1},
                             "scores.published.final": {"distance": 3.0, "error": 0.1}}, 0, True),
        ("mnist_benchmark", {"scores.default.final": {"distance": 2.75, "error": 0.1},
                             "scores.published.final": {"distance": 3.0, "error": 0.1}}, 0, None),
        ("mnist_benchmark", {"scores.default.final": {"distance": 3.5, "error": 0.1},
                             "scores.published.final": {"distance": 3.0, "error": 0.1}}, 0, False),
        ("mnist_benchmark", {f"scores.default.curve.{i}.distance": 99.0 for i in range(4)}, 1,
         False),
        ("mnist_benchmark", {"trainings.default.sample_seconds": 99.0}, 2, False),
        ("mnist_benchmark", LOOPS, 3, True),
        ("mnist_benchmark", {**LOOPS, "loops.compiled.1000": 60.0}, 3, False),
        ("mnist_benchmark", LOOPS, 4, True),
        ("mnist_benchmark", {**LOOPS, "loops.compiled.1000": 60.0}, 4, False),
        ("mnist_benchmark", {**LOOPS, "loops.plain.10": 0.41}, 5, False),
        ("morphing", {"limits.sets.sure": 0.8, "limits.sets.off": 0.2}, 0, True),
        ("morphing", {"limits.sets.sure": 0.8, "limits.sets.off": 0.3}, 0, False),
        ("morphing", {"restored.morphing-linear.ways.direct.right": [0.95] * 8 + [0.5] * 3}, 6,
         True),
        ("morphing", {"limits.sets.sizes": [{"drawn": 100, "different": 90}]}, 8, True),
        ("morphing", {"limits.sets.sizes": [{"drawn": 100, "different": 89}]}, 8, False),
        ("morphing", {"limits.sets.sure": 0.9,
                      "limits.noise": [noise_row(0.1, 9, 0.9), noise_row(0.5, 50, 0.2)]}, 9, False),
        ("morphing", {"limits.sets.sure": 0.9,
                      "limits.noise": [noise_row(0.1, 9, 0.9), noise_row(0.3, 20, 0.86)]}, 9, True),
        ("morphing", {"limits.averages.2.off": 0.14, "limits.sets.off": 0.1}, 10, False),
        ("morphing", {"limits.mixture.mixture": {"distance": 3.0, "error": 0.2},
                      "limits.sets.distance": 2.9}, 11, True),  # no worse, by chance
        ("noise_schedules", {"normality.cosine.study_firsts": [890, 900, 910]}, 0, True),
        ("noise_schedules", {"normality.cosine.study_firsts": [930, 940, 950]}, 0, False),
        ("noise_schedules", {"normality.linear.study_firsts": [None, 800, None]}, 1, False),
        ("noise_schedules", {"normality.constant.first": None}, 2, False),
        ("noise_schedules", DISTANCES, 3, True),
        ("noise_schedules", {**DISTANCES, "scores.linear.chain.distance": 1.5}, 3, None),
        ("noise_schedules", {**DISTANCES, "scores.linear.chain.distance": 0.4}, 3, False),
        ("noise_schedules", {**DISTANCES, "scores.cosine.chain.images": 127}, 3, None),
        ("noise_schedules", DISTANCES, 5, True),
        ("noise_schedules", {**DISTANCES, "scores.constant.chain.frame": 2.0}, 5, False),
        ("noise_schedules", {"trainings.constant.final_val_loss": 9.0}, 7, False),
        ("noise_schedules", {"plan.schedules": ["cosine"]}, 0, None),
        ("one_image", {"trainings.0.curve": curve((3.0, 21.0)),
                       "trainings.1.curve": curve((10.0, 30.0))}, 0, False),
        ("one_image", {"trainings.0.curve": curve((90.0, 30.0)),
                       "trainings.1.curve": curve((99.0, 30.0))}, 1, None),
        ("one_image", {"trainings.1.table.0.reconstructed_psnr": 5.0}, 2, False),
        ("one_image", {"blur.0.psnr": 99.0}, 3, False),
        ("one_image", {"trainings.1.from_noise": [12.0, 25.0]}, 4, False),
    ],
)  # fmt: skip
def test_verdicts_follow_the_numbers(name, changes, index, verdict):
    reporting = importlib.import_module(f"studies.{name}.report")
    claim = reporting.claims(changed(record_of(name)["results"], changes))[index]
    assert claim.holds is verdict and claim.measured
