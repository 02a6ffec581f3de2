"""The quality sections: caching, scores and the report."""

import json

import numpy as np
import pytest

from benchmarks.quality import stages, tables, workers
from keras_diffusion.evaluation.classifier import TrainedClassifier
from keras_diffusion.evaluation.distances import Gaussian

BASELINE = {"mean": 1.0, "min": 0.9, "max": 1.1, "std": 0.05, "subsets": 10, "size": 1000}


def test_sampling_continues_where_it_was_interrupted(tmp_path):
    out, seen = tmp_path / "images.npy", []

    def sample(first, count, broken_at=None):
        if first == broken_at:
            raise KeyboardInterrupt
        seen.append(first)
        numbers = np.arange(first, first + count) % 256
        return numbers.astype("uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")

    with pytest.raises(KeyboardInterrupt):
        workers.sample_in_parts(out, 300, lambda *part: sample(*part, broken_at=256), "test")
    assert seen == [0, 128] and not out.exists()
    for _ in range(2):
        workers.sample_in_parts(out, 300, sample, "test")
    assert seen == [0, 128, 256]
    np.testing.assert_array_equal(np.load(out)[:, 0, 0, 0], np.arange(300) % 256)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


def test_the_name_of_a_result_depends_on_code_and_settings(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("return 1\n")
    key = stages._key([code], {"minutes": 1})
    assert stages._key([code], {"minutes": 1}) == key
    assert stages._key([code], {"minutes": 2}) != key
    code.write_text("return 2\n")
    assert stages._key([code], {"minutes": 1}) != key


def test_scores_of_a_set():
    probabilities = np.array([[0.95, 0.05], [0.08, 0.92], [0.2, 0.8], [0.3, 0.7]])
    features = np.random.default_rng(0).normal(size=(4, 3))
    trained = TrainedClassifier(None, Gaussian.of(features), np.array([0.5, 0.5]), {}, features)
    score = workers.score_set(trained, features, probabilities, labels=[0, 1, 1, 0])
    expected = {"num_images": 4, "distance": 0, "confident": 0.5, "class_distance": 0.25,
                "accuracy": 0.75}  # fmt: skip
    assert score == pytest.approx(expected, abs=1e-9)
    assert "accuracy" not in workers.score_set(trained, features, probabilities)


def curve(distances):
    """Scored sets: {(sampler, steps): a distance per seed}."""
    return [
        {"sampler": sampler, "num_steps": num_steps,
         "score": {"distance": distance, "confident": 0.8, "accuracy": 0.9}}
        for (sampler, num_steps), values in distances.items() for distance in values
    ]  # fmt: skip


def test_the_fewest_steps_that_are_no_worse_than_the_most_of_ddim():
    points = tables.curve(
        curve(
            {
                ("dpmpp_2m", 3): (9.0, 3.0),  # coarse, and not counted for the noise
                ("dpmpp_2m", 5): (1.6, 2.3),  # worse for both seeds, by less than seeds differ
                ("dpmpp_2m", 8): (1.52, 2.2),
                ("dpmpp_2m", 20): (1.5, 2.25),
                ("ddim", 50): (1.9, 2.1),
                ("ddim", 250): (1.5, 2.2),
            }
        )
    )
    assert [point["num_steps"] for point in points] == [3, 5, 8, 20, 50, 250]
    fewest = tables.fewest_steps({"curve": points, "curve_baseline": BASELINE})
    assert fewest["fewest"] == 8 and fewest["distance"] == pytest.approx(1.86)
    assert fewest["reference"] == {"sampler": "ddim", "num_steps": 250, "distance": 1.85}
    variances = (0.0, 0.02**2 / 2, 0.05**2 / 2)  # of 5, 8 and 20 steps minus 250
    assert fewest["noise"] == pytest.approx((np.mean(variances) / 2) ** 0.5)
    json.dumps(fewest)


def test_with_one_seed_the_noise_is_that_of_the_baseline():
    points = tables.curve(curve({("dpmpp_2m", 9): (2.0,), ("ddim", 9): (1.0,)}))
    fewest = tables.fewest_steps({"curve": points, "curve_baseline": BASELINE})
    assert fewest["noise"] == BASELINE["std"] and fewest["fewest"] is None


@pytest.mark.parametrize(
    ("task", "ours", "peer", "expected"),
    [
        ("mnist", 2.0, 62.0, "measured 31.0: met"),
        ("mnist", 2.0, 58.0, "measured 29.0: missed"),
        ("flowers", 3.0, 5.0, "measured 0.500: met"),
        ("flowers", 3.1, 5.0, "measured 0.525: missed"),
        ("flowers", 0.9, 5.0, "measured 0: met"),
        ("flowers", 0.9, 0.9, "measured -: missed"),
    ],
)
def test_goals(task, ours, peer, expected):
    rows = [("ours", ours), ("ours", 7), ("peer", peer)]
    rows = [{"subject": name, "score": {"distance": distance}} for name, distance in rows]
    sentence = tables.goal({"task": task, "baseline": BASELINE, "rows": rows})
    assert expected in sentence and ("below the baseline" in sentence) == (ours < 1)
