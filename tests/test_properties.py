"""Properties that hold for every input that hypothesis thinks of: parsing, splits, schedules.

Deterministic: the same examples in every run, so that a failure is one of the change under test.
"""

import argparse
import ast
import contextlib
import dataclasses
import json
import math
import tempfile
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import sample
import train
from keras_diffusion.config import options as configuration
from keras_diffusion.config.options import Config
from keras_diffusion.config.rules import (
    CHOICES,
    CODEC_OPTIONS,
    LARGEST_SIDE,
    NETWORK_OPTIONS,
    OF_LABELS,
    READERS,
    RULES,
    SCORES,
    TEXT_OPTIONS,
)
from keras_diffusion.data import splits
from keras_diffusion.diffusion.schedules import FLOOR, SCHEDULES, logsnr, rates, time_of_logsnr

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=60
)
settings.load_profile("repeatable")

# Options -------------------------------------------------------------------------------------

KINDS = {name: typing.get_args(kind) or (kind,) for name, kind in
         typing.get_type_hints(Config).items()}  # fmt: skip
words = st.text(min_size=1, max_size=20)
values = {
    int: st.integers(-(2**31), 2**31),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: words,
    tuple: st.lists(st.integers() | st.booleans(), max_size=5).map(tuple),
    type(None): st.none(),
}
counts = st.integers(1, 10_000)
shares = st.floats(0, 1, exclude_max=True)
sides = st.integers(1, LARGEST_SIDE)
# Values that every rule allows, of all options but those that must fit to others.
allowed = {
    **{name: st.sampled_from(choices) for name, choices in CHOICES.items()},
    "dataset": words,
    "folder": st.none() | words,
    "image": st.none() | words,
    "image_size": st.none() | st.tuples(sides, sides),
    "channels": st.sampled_from([None, 1, 3, 4]),
    "limit": st.none() | counts,
    "horizontal_flip": st.sampled_from([None, False, True]),
    "unconditional": st.booleans(),
    "widths": st.lists(counts, min_size=1, max_size=5).map(tuple),
    "block_depth": st.integers(1, 100),
    "dropout": shares,
    "embedding_width": counts,
    "kernel_size": st.integers(0, 49).map(lambda half: 2 * half + 1),
    "expansion": st.integers(1, 100),
    "text": st.booleans(),
    "text_width": counts,
    "text_depth": st.integers(0, 100),
    "word_vectors": st.none() | words,
    "latent": st.booleans(),
    "codec": st.none() | words,
    "codec_widths": st.lists(counts, min_size=1, max_size=5).map(tuple),
    "latent_channels": counts,
    "edge_weight": st.floats(0, 1000),
    "kl_weight": st.floats(0, 1000),
    "codec_learning_rate": st.floats(0, 1, exclude_min=True),
    "codec_epochs": counts,
    "codec_share": st.floats(0, 0.9, exclude_min=True),
    "start_from": st.none() | words,
    "ema_decay": shares,
    "label_dropout": shares,
    "epochs": counts,
    "minutes": st.none() | st.floats(1e-3, 1e6),
    "batch_size": counts,
    "learning_rate": st.floats(0, 1, exclude_min=True),
    "warmup": shares,
    "weight_decay": st.floats(0, 1),
    "clip_norm": st.floats(0, 1e6, exclude_min=True),
    "accumulate": counts,
    "remat": st.booleans(),
    "deterministic": st.booleans(),
    "seed": st.integers(0, 2**31 - 1),
    "checkpoint_minutes": st.floats(0, 1e6),
    "keep_checkpoints": counts,
    "score_every": st.none() | counts,
    "score_num": st.integers(20, 10**6),
    "score_extractor": words,
    "num_steps": st.integers(1, 1000),
    "guidance_scale": st.floats(0, 100),
    "guidance_interval": st.lists(st.floats(0, 1), min_size=2, max_size=2).map(
        lambda ends: tuple(sorted(ends))
    ),
    "guidance_rescale": st.floats(0, 1),
}


def fitting(options):
    """The same without what would be ignored, or does not go together."""
    taken = NETWORK_OPTIONS[options.get("network", "unet")]
    refused = {name for options in NETWORK_OPTIONS.values() for name in options} - set(taken)
    if not options.get("latent"):
        refused |= {"codec", *CODEC_OPTIONS}
    elif options.get("codec") is not None:
        refused |= set(CODEC_OPTIONS)
    if options.get("unconditional"):
        refused |= set(OF_LABELS)
    if options.get("score_every") is None:
        refused |= set(SCORES)
    if options.get("latent"):
        refused.add("image")
        refused.add("codec_share" if options.get("minutes") is None else "codec_epochs")
    if options.get("network", "unet") not in READERS:
        refused |= {"text", *TEXT_OPTIONS}
    elif not options.get("text"):
        refused |= set(TEXT_OPTIONS)
    return {name: value for name, value in options.items() if name not in refused}


configs = st.fixed_dictionaries({}, optional=allowed).map(fitting)


def one_line(error):
    return str(error) and len(str(error).splitlines()) == 1


@given(st.data())
def test_a_setting_of_every_type_comes_back(data):
    name = data.draw(st.sampled_from(sorted(KINDS)))
    kind = data.draw(st.sampled_from(KINDS[name]))
    value = data.draw(values[kind])
    written = value if kind is str else repr(value)
    if kind is str:  # what reads as Python of another type has to be quoted
        with contextlib.suppress(Exception):
            ast.literal_eval(written)
            written = repr(value)
    parsed = configuration.parse_setting(f"{name}={written}")
    assert parsed == (name, value)
    assert type(parsed[1]) is kind


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_whole_numbers_are_numbers(value):
    name, parsed = configuration.parse_setting(f"learning_rate={value}")
    assert type(parsed) is float
    assert parsed == value


@given(st.sampled_from([*KINDS, "wings", ""]), st.sampled_from(["=", "", "=="]), st.text())
@example("widths", "=", "[" * 5000)
@example("widths", "=", "[" + "9" * 5000 + "]")
@example("dropout", "=", "9" * 400)
@example("dropout", "=", "a\nb\u2028c")
@example("epochs", "=", "\0")
def test_any_text_is_a_setting_or_one_line(name, equals, written):
    try:
        name, value = configuration.parse_setting(name + equals + written)
    except ValueError as error:
        assert one_line(error)
    else:
        assert type(value) in KINDS[name]
        try:
            Config(**{name: value})
        except ValueError as error:
            assert one_line(error)


@given(configs)
def test_a_config_comes_back_from_the_json_of_its_run(options):
    config = Config(**options)
    with tempfile.TemporaryDirectory() as folder:
        record = {"config": dataclasses.asdict(config), "versions": {}}
        (Path(folder) / "config.json").write_text(json.dumps(record, indent=2) + "\n")
        again = configuration.resumed(folder, {})
        assert again == config
        assert [type(v) for v in vars(again).values()] == [type(v) for v in vars(config).values()]
        assert configuration.resumed(folder, dataclasses.asdict(config)) == config
        assert configuration.resumed(folder, {"precision": "auto"}) == config


@given(st.none() | st.sampled_from(["digits", "mnist", "oxford_flowers102:1.0"]) | words, configs)
@example("oxford_flowers102", {"latent": True, "widths": (8,)})
@example("oxford_flowers102", {"latent": True})
def test_resolve_changes_what_is_given_and_nothing_else(dataset, options):
    config = configuration.resolve(dataset, options)
    start = configuration.preset(dataset, options.get("image_size"), options.get("latent", False))
    start = configuration.with_network(start, options.get("network"))
    if options.get("codec") is not None:  # not those of a preset either
        start = dataclasses.replace(start, **{n: getattr(Config, n) for n in CODEC_OPTIONS})
    if options.get("widths") is not None:  # a preset's attention is for its own
        start = dataclasses.replace(start, attention=None)
    for name, value in vars(config).items():
        given_value = options.get(name)
        assert value == (getattr(start, name) if given_value is None else given_value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*KINDS, "wings"]), json_values) | json_values)
def test_any_json_is_a_config_or_one_line(options):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"config": options}))
        try:
            config = configuration.resumed(folder, {})
        except ValueError as error:
            assert one_line(error)
            assert "config.json" in str(error)
        else:
            assert set(options) <= set(KINDS)
            assert all(math.isfinite(v) for v in vars(config).values() if type(v) is float)


@pytest.mark.parametrize("name", sorted(name for name in RULES if float in KINDS[name]))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0, 1e30])
def test_no_option_takes_a_number_that_is_none(name, value):
    with pytest.raises(ValueError, match=f"{configuration.flag(name)}: .* must be "):
        Config(**{name: value})


def test_every_number_has_a_rule():
    numbers = {name for name, kinds in KINDS.items() if {int, float} & set(kinds)}
    assert numbers <= set(RULES)
    others = {"data_dir", "train_split", "val_split", "attention", "crop_size"}
    assert set(allowed) | others == set(KINDS)


# The command line ----------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_sizes_come_back(height, width):
    assert train.image_size(f"{height}x{width}") == (height, width)
    assert train.image_size(f"{height}X{width}") == (height, width)
    assert train.image_size(str(height)) == (height, height)


@given(st.text(st.sampled_from("0123456789xX-+._ e²٣"), max_size=8) | st.text(max_size=8))
def test_any_text_is_a_size_or_one_line(text):
    try:
        size = train.image_size(text)
    except argparse.ArgumentTypeError as error:
        assert one_line(error)
        assert "such as 64 or 48x64" in str(error)
    else:
        assert len(size) == 2
        assert min(size) >= 1


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
