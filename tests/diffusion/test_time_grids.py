import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion.schedules import SCHEDULES, logsnr
from keras_diffusion.diffusion.time_grids import GRIDS, HIGHEST, LOWEST

every_schedule = pytest.mark.parametrize("schedule", sorted(SCHEDULES))


@pytest.mark.parametrize("grid", sorted(GRIDS))
@every_schedule
def test_a_grid_decreases_from_start_to_0_in_one_trace(grid, schedule):
    @tf.function(input_signature=[tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.float32)])
    def times_of(num_steps, start):
        return GRIDS[grid](SCHEDULES[schedule], num_steps, start)

    for start in (1.0, 0.4, 0.02, 1e-4):
        for num_steps in (1, 2, 3, 20, 1000):
            times = times_of(num_steps, start).numpy()
            case = f"start {start}, {num_steps} steps"
            assert times.shape == (num_steps + 1,) and times.dtype == "float32", case
            assert times[0] == np.float32(start) and times[-1] == 0, case
            assert np.isfinite(times).all() and (np.diff(times) <= 0).all(), case
    assert times_of.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(GRIDS[grid](SCHEDULES[schedule], 7), times_of(7, 1.0), atol=1e-6)


@every_schedule
def test_uniform_logsnr_has_equal_steps(schedule):
    schedule = SCHEDULES[schedule]
    values = np.array(logsnr(schedule, GRIDS["uniform_logsnr"](schedule, 32)))[1:-1]
    np.testing.assert_allclose(values, np.linspace(LOWEST, HIGHEST, 33)[1:-1], atol=3e-3)


@every_schedule
def test_karras_has_equal_steps_in_a_root_of_sigma(schedule):
    schedule = SCHEDULES[schedule]
    times = GRIDS["karras"](schedule, 16)[1:-1]
    roots = np.exp(-np.array(logsnr(schedule, times)) / 2) ** (1 / 7)
    first, last = (np.exp(-end / 2) ** (1 / 7) for end in (LOWEST, HIGHEST))
    np.testing.assert_allclose(roots, np.linspace(first, last, 17)[1:-1], rtol=1e-3)
