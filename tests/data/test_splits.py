import numpy as np
import pytest

from keras_diffusion.data import splits

FLOWERS = splits.rebalanced(("train", "validation", "test"))


def test_rebalanced_splits_every_official_split_at_the_same_percentage():
    train, validation = FLOWERS
    assert train == "train[:80%]+validation[:80%]+test[:80%]"
    assert validation == "train[80%:]+validation[80%:]+test[80%:]"
    for names, percent in (((), 80), (("train",), 0), (("train",), 100)):
        with pytest.raises(ValueError):
            splits.rebalanced(names, percent)


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("mnist", ("train", "test"), ("train", "test")),
        ("imagenet2012", ("test", "train", "validation"), ("train", "validation")),
        ("extra", ("train", "extra"), ("train[:80%]", "train[80%:]")),
        ("odd", ("b", "a"), ("b[:80%]+a[:80%]", "b[80%:]+a[80%:]")),
        ("oxford_flowers102", ("train", "test", "validation"), FLOWERS),
    ],
)
def test_default_splits(name, names, expected):
    assert splits.default_splits(name, names) == expected


def test_stratified_splits_are_disjoint_complete_even_and_repeatable():
    labels = np.repeat([0, 1, 2, 3, 4], [1, 2, 3, 50, 200])
    train, validation = splits.stratified(labels)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert np.bincount(labels[validation], minlength=5).tolist() == [0, 1, 1, 10, 40]
    assert all(map(np.array_equal, splits.stratified(labels), (train, validation)))
    assert not np.array_equal(train, splits.stratified(labels, seed=1)[0])
    assert set(labels[train[:40]]) >= {3, 4}  # a prefix is a fair sample
    with pytest.raises(ValueError, match="val_percent"):
        splits.stratified(labels, 100)


def test_tables():
    assert str(splits.SplitTable(80, 20)).split() == ["images", "train", "80", "validation", "20"]
    assert str(splits.SplitTable.count([0, 0, 0, 1], [0, 1], ("cat", "dog"))).splitlines() == [
        "            images  smallest class  largest class",
        "train            4  dog (1)         cat (3)",
        "validation       2  cat (1)         cat (1)",
        "share of each class in validation: cat 25%, dog 50%",
    ]
    train = np.repeat(np.arange(20), 8)
    validation = np.concatenate([np.repeat(np.arange(1, 20), 2), [1] * 6])
    table = splits.SplitTable.count(train, validation, [f"c{i}" for i in range(21)])
    assert (table.missing("train"), table.missing("validation")) == (("c20",), ("c0", "c20"))
    assert "smallest 0% (c0), median 20%, largest 50% (c1)" in str(table)
    assert "no validation images of 2 classes: c0, c20" in str(table)
