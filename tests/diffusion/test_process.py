import numpy as np
import pytest

from keras_diffusion.diffusion import process, schedules

every_type = pytest.mark.parametrize("prediction_type", ["eps", "x0", "v"])
SHAPE = (6, 4, 4, 2)


def example(seed=0, times=(0.05, 0.2, 0.4, 0.6, 0.8, 0.95)):
    """Returns (pair, level, x_t)."""
    x0, eps = np.random.default_rng(seed).normal(size=(2, *SHAPE)).astype("float32")
    times = np.array(times, "float32")[:, None, None, None]
    level = [np.array(rate) for rate in schedules.rates(schedules.cosine, times)]
    return (x0, eps), level, level[0] * x0 + level[1] * eps


def test_mix_is_the_forward_process():
    pair, level, x_t = example()
    np.testing.assert_allclose(process.mix(pair, level), x_t, atol=1e-6)
    np.testing.assert_array_equal(process.mix(pair, (1.0, 0.0)), pair[0])
    np.testing.assert_array_equal(process.mix(pair, (0.0, 1.0)), pair[1])


def test_targets_of_numbers():
    pair, level = (np.float32(2.0), np.float32(-1.0)), (0.6, 0.8)
    targets = [process.target(pair, level, name) for name in ("eps", "x0", "v")]
    np.testing.assert_allclose(targets, [-1.0, 2.0, 0.6 * -1.0 - 0.8 * 2.0], rtol=1e-6)


@every_type
def test_to_pair_inverts_target(prediction_type):
    pair, level, x_t = example()
    output = process.target(pair, level, prediction_type)
    back = process.to_pair(output, x_t, level, prediction_type)
    for part, expected in zip(back, pair, strict=True):
        np.testing.assert_allclose(part, expected, atol=2e-5)


@every_type
@pytest.mark.parametrize("clip", [None, 1.0, 0.3])
def test_a_predicted_pair_mixes_to_x_t(prediction_type, clip):
    (_, wrong), level, x_t = example()  # any output gives a pair
    x0, eps = process.to_pair(wrong, x_t, level, prediction_type, clip)
    np.testing.assert_allclose(process.mix((x0, eps), level), x_t, atol=1e-5)
    if clip:
        assert np.abs(x0).max() == pytest.approx(clip)
        unclipped, _ = process.to_pair(wrong, x_t, level, prediction_type)
        np.testing.assert_allclose(x0, np.clip(unclipped, -clip, clip), atol=1e-6)


@every_type
def test_to_pair_is_finite_at_both_ends_of_time(prediction_type):
    _, level, x_t = example(times=(0, 0, 0, 1, 1, 1))
    for part in process.to_pair(x_t, x_t, level, prediction_type, clip=1.0):
        assert np.isfinite(part).all()


def errors_in_every_space(seed=1):
    """Returns (level, {space: (B,) mean squared error}) of one wrong prediction."""
    pair, level, x_t = example(seed)
    wrong = process.to_pair(pair[1] + pair[0] ** 2, x_t, level, "v")
    flat = tuple(rate[:, 0, 0, 0] for rate in level)
    return flat, {
        space: np.mean(
            (process.target(wrong, level, space) - process.target(pair, level, space)) ** 2,
            axis=(1, 2, 3),
        )
        for space in ("eps", "x0", "v")
    }


@every_type
def test_errors_are_the_errors_of_one_prediction_in_every_space(prediction_type):
    level, expected = errors_in_every_space()
    errors = process.errors(expected[prediction_type], level, prediction_type)
    assert set(errors) == {"eps", "x0", "v"}
    for space, error in errors.items():
        np.testing.assert_allclose(error, expected[space], rtol=1e-3)


@every_type
def test_min_snr_weights(prediction_type):
    """Hang et al. 2023, arXiv:2303.09556, sections 3.4 and appendix."""
    snr = np.array([1e-4, 0.1, 1, 4.9, 5.1, 100, 1e4], "float32")
    level = np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))
    expected = np.minimum(snr, 5) / {"x0": 1, "eps": snr, "v": snr + 1}[prediction_type]
    weights = process.loss_weights(level, prediction_type, "min_snr")
    np.testing.assert_allclose(weights, expected, rtol=2e-3)


def test_min_snr_gives_one_loss_in_every_space():
    level, errors = errors_in_every_space()
    losses = [
        process.loss_weights(level, space, "min_snr") * error for space, error in errors.items()
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-3)


def largest_gap(times):
    """The largest distance between neighbours on the circle of length 1."""
    ordered = np.sort(np.asarray(times, "float64"))
    return np.diff(np.append(ordered, ordered[0] + 1)).max()


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_times_of_consecutive_positions_are_evenly_spaced(count):
    # Three-gap theorem: for the golden ratio the largest gap is at most (1 + 2 / 5**0.5) / n.
    for first in (0, 5, 63, 10**6):  # the beginning of a batch, or a part of it
        times = np.asarray(process.spread_times(0.3, np.arange(first, first + count)))
        assert times.shape == (count,) and times.dtype == "float32"
        assert largest_gap(times) <= 1.9 / count
        for stride, bound in ((2, 2.4), (3, 2.8), (4, 3.4)):
            times = process.spread_times(0.3, first + stride * np.arange(count))
            assert count == 1 or largest_gap(times) <= bound / count, (first, stride)


def test_times_of_large_positions_are_exact():
    positions = np.append(2 ** np.arange(31), 2**31 - 1 - np.arange(1000)).astype("int32")
    ratio = (1 + 5**0.5) / 2
    golden = (process.GOLDEN % 2**32) / 2**32
    assert golden == pytest.approx(1 / ratio, abs=2**-32)
    expected = [int(position) * process.GOLDEN % 2**32 / 2**32 for position in positions]
    difference = np.abs(np.asarray(process.spread_times(0.0, positions), "float64") - expected)
    assert np.minimum(difference, 1 - difference).max() <= 2**-24


def test_times_are_below_one():
    # Rounding up to 1 is most likely for positions a few 2**-32 below a whole turn.
    inverse = pow(process.GOLDEN, -1, 2**32)
    close = [-turns * inverse % 2**32 for turns in range(1, 200)]
    positions = np.array([*range(10**5), *(p for p in close if p < 2**31)], "int32")
    assert len(positions) > 10**5 + 50
    for offset in (0, 0.005, 0.5, 0.995, 1 - 2**-24, 1e-7, 3e-8, 6e-8):
        times = np.asarray(process.spread_times(np.float32(offset), positions))
        assert times.min() >= 0 and times.max() < 1, offset
