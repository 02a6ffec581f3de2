"""Properties that hold for every input that hypothesis thinks of: splits, schedules.

Deterministic: the same examples in every run, so that a failure is one of the change under test.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sample
from keras_diffusion.data import splits
from keras_diffusion.diffusion.schedules import FLOOR, SCHEDULES, logsnr, rates, time_of_logsnr

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=60
)
settings.load_profile("repeatable")

numbers = st.integers(-(10**30), 10**30) | st.floats() | st.booleans() | st.none() | st.text()


@given(numbers | st.lists(numbers, max_size=4))
def test_the_checks_of_sample_take_any_value(value):
    assert sample.is_count(value, 1, 1000) == (type(value) is int and 1 <= value <= 1000)
    is_number = type(value) in (int, float) and value == value  # nan is not itself
    assert sample.is_scale(value) == (is_number and 0 <= value <= 100)
    assert sample.are_names(value) == (
        type(value) is list and {type(item) for item in value} <= {str}
    )
    for check, _ in sample.CONFIG.values():
        assert check(value) in (True, False)


# Splits --------------------------------------------------------------------------------------

names = st.lists(st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True), min_size=1, max_size=4,
                 unique=True)  # fmt: skip


@given(names, st.integers(1, 99), st.data())
def test_rebalanced_splits_are_disjoint_and_complete(names, percent, data):
    tfds = pytest.importorskip("tensorflow_datasets")
    sizes = {name: data.draw(st.integers(1, 500)) for name in names}
    infos = {
        name: tfds.core.SplitInfo(
            name=name, shard_lengths=[size], num_bytes=0,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir="/nowhere", dataset_name="x", filetype_suffix="tfrecord", split=name),
        )
        for name, size in sizes.items()
    }  # fmt: skip
    known = tfds.core.splits.SplitDict(list(infos.values()))

    def chosen(split):
        found = []
        for part in split.split("+"):
            for instruction in known[part].file_instructions:
                first = instruction.skip
                last = sizes[part.partition("[")[0]] if instruction.take == -1 else None
                last = first + instruction.take if last is None else last
                found += [(part.partition("[")[0], i) for i in range(first, last)]
        return found

    train_images, val_images = map(chosen, splits.rebalanced(names, percent))
    everything = [(name, i) for name, size in sizes.items() for i in range(size)]
    assert sorted(train_images + val_images) == sorted(everything)
    for name, size in sizes.items():
        share = sum(part == name for part, _ in train_images)
        assert abs(share - size * percent / 100) <= 1


@given(st.lists(st.integers(0, 5), max_size=200), st.integers(1, 99), st.integers(0, 2**31))
def test_stratified_splits(labels, percent, seed):
    labels = np.array(labels, int)
    train_rows, val_rows = splits.stratified(labels, percent, seed)
    assert sorted([*train_rows, *val_rows]) == list(range(len(labels)))
    for label in np.unique(labels):
        members = int(np.sum(labels == label))
        held_out = int(np.sum(labels[val_rows] == label))
        if members == 1:
            assert held_out == 0
        else:
            assert 1 <= held_out < members
            assert abs(held_out - members * percent / 100) <= 1
    again = splits.stratified(labels, percent, seed)
    assert np.array_equal(train_rows, again[0])
    assert np.array_equal(val_rows, again[1])


# Schedules -----------------------------------------------------------------------------------

every_schedule = pytest.mark.parametrize("name", sorted(SCHEDULES))
times = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=16).map(
    lambda values: np.array(values, "float32")
)


@every_schedule
@settings(max_examples=30)
@given(t=times)
def test_schedules_fall_within_their_bounds(name, t):
    t = np.sort(t)
    alpha_bar = np.asarray(SCHEDULES[name](t))
    assert np.all((alpha_bar >= np.float32(FLOOR)) & (alpha_bar <= 1))
    assert np.all(np.diff(alpha_bar) <= 2e-7)  # float32 rounds
    assert float(SCHEDULES[name](np.float32(0))) == pytest.approx(1, abs=1e-6)


@every_schedule
@settings(max_examples=30)
@given(t=times)
def test_rates_and_ratio_are_of_one_level(name, t):
    signal, noise = map(np.asarray, rates(SCHEDULES[name], t))
    ratio = np.asarray(logsnr(SCHEDULES[name], t))
    np.testing.assert_allclose(signal**2 + noise**2, 1, atol=1e-6)
    assert np.all(np.isfinite(ratio))
    assert np.all((ratio >= -11.6) & (ratio <= 16.2))
    visible = noise**2 > 1e-4  # closer to 1, float32 has few digits of 1 - alpha_bar
    expected = 2 * np.log(signal[visible] / noise[visible])
    np.testing.assert_allclose(ratio[visible], expected, atol=2e-3)


@every_schedule
@settings(max_examples=15)
@given(value=st.floats(-30, 30, width=32))
def test_the_time_of_a_ratio_is_within_0_and_1(name, value):
    t = np.asarray(time_of_logsnr(SCHEDULES[name], np.float32(value)))
    assert 0 <= t <= 1
    reached = float(logsnr(SCHEDULES[name], t))
    ends = [float(logsnr(SCHEDULES[name], np.float32(end))) for end in (1, 0)]
    assume(ends[0] + 0.1 < value < min(ends[1], 9) - 0.1)
    assert reached == pytest.approx(value, abs=0.05)
