"""Properties of splits that hold for any input.

Derandomised: the same examples in every run, so that a failure is due to the change under test.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_diffusion.data import splits

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)
names = st.lists(st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True), min_size=1, max_size=4,
                 unique=True)  # fmt: skip


@repeatable
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

    def images_of(split):
        images = []
        for part in split.split("+"):
            for instruction in known[part].file_instructions:
                first = instruction.skip
                last = sizes[part.partition("[")[0]] if instruction.take == -1 else None
                last = first + instruction.take if last is None else last
                images += [(part.partition("[")[0], i) for i in range(first, last)]
        return images

    train_images, val_images = map(images_of, splits.rebalanced(names, percent))
    everything = [(name, i) for name, size in sizes.items() for i in range(size)]
    assert sorted(train_images + val_images) == sorted(everything)
    for name, size in sizes.items():
        share = sum(part == name for part, _ in train_images)
        assert abs(share - size * percent / 100) <= 1


@repeatable
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
