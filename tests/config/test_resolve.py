"""From a preset and what a user gives to a Config; the Config of a run that is resumed."""

import dataclasses
import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_diffusion.config.fields import kind_of
from keras_diffusion.config.options import OPTIONS, Config, named
from keras_diffusion.config.resolve import PRESETS, preset, resolve, resumed

DATASETS = sorted(path.stem for path in PRESETS.glob("[a-z]*.py"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def write_run(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": config}))
    return folder


# Presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_a_preset_has_the_name_of_its_file_and_no_option_without_effect(name):
    for latent in (False, True) if preset(name).frames == 1 else (False,):
        config = preset(name, latent=latent)
        assert (config.dataset, config.latent) == (name, latent)
        for option in config.without_effect():
            if option not in ("latent", "codec_epochs", "codec_share"):  # the length is the user's
                assert getattr(config, option) == OPTIONS[option].default, option


def test_options_that_are_not_for_clips_are_rejected():
    for options in ({"latent": True}, {"score_every": 1}, {"channels": 4}):
        [name] = options
        with pytest.raises(ValueError, match=f"^--{name.replace('_', '-')}: [^\n]*$"):
            resolve("moving_mnist", options)
    with pytest.raises(ValueError, match="^--frames: [^\n]*$"):
        resolve("one_image", {"image": "flower", "frames": 3})
    assert resolve("moving_mnist", {"image_size": (32, 32)}).frames == 8
    assert resolve("moving_mnist", {"frames": 5}).frames == 5


def test_other_sizes_and_data_sets_without_a_preset():
    assert resolve("oxford_flowers102", {"image_size": (32, 32)}).widths[0] == 32
    assert resolve("oxford_flowers102:1.0").dataset == "oxford_flowers102:1.0"
    sizes = (None, (28, 28), (64, 48))
    own = [resolve(None, {"folder": "pets", "image_size": size}) for size in sizes]
    assert [len(config.widths) for config in own] == [3, 3, 4]
    kmnist = resolve("kmnist")
    assert (kmnist.dataset, kmnist.widths) == ("kmnist", own[0].widths)
    assert preset("mnist", latent=True).widths == preset("mnist").widths[1:]


# Options of a user ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "options", "expected"),
    [
        ("one_image", {"epochs": 7}, {"epochs": 7, "minutes": None}),  # the preset has minutes
        ("one_image", {"minutes": 2.0}, {"minutes": 2.0}),
        ("cifar10", {"widths": (8,)}, {"widths": (8,), "attention": None}),  # were for four widths
        ("cifar10", {"widths": (32, 64, 128, 256)}, {"attention": (False, False, True, True)}),
        ("moving_mnist", {"image_size": (32, 64)}, {"frames": 10}),
        ("cifar10", {"network": "cnn"}, {"widths": (16, 32, 32, 16), "embedding_width": 128}),
        ("cifar10", {"network": "cnn", "widths": (8,)}, {"widths": (8,), "embedding_width": 128}),
        ("cifar10", {"network": "unet"}, {"widths": (32, 64, 128, 256)}),  # that of the preset
        ("cifar10", {"network": "convnext_unet"}, {"widths": (32, 64, 128), "attention": None}),
        ("mnist", {"unconditional": True}, {"guidance_scale": 1.1}),  # a preset's is no error
        ("cifar10", {"latent": True, "minutes": 1.0}, {"codec_share": 0.1, "codec_epochs": 6}),
        ("digits", {"seed": None, "latent": False}, {"seed": 0}),
    ],
)
def test_options_change_the_preset_and_nothing_else(dataset, options, expected):
    config = resolve(dataset, options)
    start = preset(dataset, latent=options.get("latent", False))
    changed = {name: value for name, value in options.items() if value is not None}
    assert dataclasses.asdict(config).items() >= {**changed, **expected}.items()
    if "network" not in options:
        assert config == dataclasses.replace(start, **{**changed, **expected})


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"wings": 2}, "--set"),
        ({"image_size": ()}, "--image-size"),
        ({"folder": "a", "image": "b"}, "--folder"),
        ({"epochs": 3, "minutes": 2.0}, "--epochs"),
        ({"unconditional": True, "guidance_scale": 2.0}, "--set guidance_scale"),
        ({"unconditional": True, "text": True}, "--text"),
        ({"network": "cnn", "block_depth": 2}, "--set block_depth"),
        ({"network": "cnn", "remat": True}, "--remat"),
        ({"network": "cnn", "text": True}, "--text"),
        ({"kernel_size": 3}, "--set kernel_size"),
        ({"text_width": 64}, "--set text_width"),
        ({"crop_size": (8, 8)}, "--crop-size"),
        ({"codec": "runs/old"}, "--codec"),
        ({"codec_widths": (8,)}, "--set codec_widths"),
        ({"latent": True, "codec": "old", "codec_widths": (8,)}, "--set codec_widths"),
        ({"latent": True, "codec_share": 0.5}, "--set codec_share"),
        ({"latent": True, "minutes": 5.0, "codec_epochs": 3}, "--set codec_epochs"),
        ({"latent": True, "image": "flower"}, "--latent"),
        ({"score_num": 50}, "--set score_num"),
    ],
)
def test_options_that_exclude_each_other_or_have_no_effect_are_rejected(options, flag):
    dataset = "one_image" if "image" in options else "digits"
    with pytest.raises(ValueError, match=rf"^{flag}: [^\n]+\.$"):
        resolve(dataset, options)


# Runs that are resumed ------------------------------------------------------------------------


def test_the_config_of_a_run_comes_back(tmp_path):
    config = resolve("oxford_flowers102", {"latent": True, "text": True, "minutes": 45.0})
    config = dataclasses.replace(config, precision="float32")
    run_dir = write_run(tmp_path / "run", dataclasses.asdict(config))
    assert resumed(run_dir, {}) == config
    assert resumed(run_dir, {**dataclasses.asdict(config), "precision": "auto"}) == config
    moved = {"guidance_scale": 3.0, "data_dir": "/elsewhere", "accumulate": 2}
    assert resumed(run_dir, moved) == dataclasses.replace(config, **moved)
    for name, value in {"seed": 5, "train_split": "train", "widths": (8,)}.items():
        with pytest.raises(ValueError, match=f"{named(name)}: .* contradicts "):
            resumed(run_dir, {name: value})


def test_an_option_without_effect_on_a_resumed_run_is_rejected(tmp_path):
    run_dir = write_run(tmp_path / "run", {"unconditional": True, "guidance_scale": 1.1})
    assert resumed(run_dir, {"guidance_scale": 1.1}).unconditional
    with pytest.raises(ValueError, match="--set guidance_scale: "):
        resumed(run_dir, {"guidance_scale": 3.0})


def test_a_run_of_an_earlier_version_lacks_newer_options_and_names_its_preset(tmp_path):
    old = {"dataset": "pictures", "folder": "/pets", "widths": [32, 64, 128], "limit": 9}
    config = resumed(write_run(tmp_path / "run", old), {})
    assert config == Config(**{**old, "widths": (32, 64, 128), "repeats": 1, "optimizer": "adamw"})


def test_paths_are_absolute_and_old_relative_ones_are_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"folder": "pets", "data_dir": "~/data", "codec": "gs://bucket/codec", "latent": True}
    config = resolve(None, given)
    assert config.folder == str(tmp_path / "pets")
    assert (config.data_dir, config.codec) == (os.path.expanduser("~/data"), "gs://bucket/codec")
    assert resolve("one_image", {"image": "flower"}).image == "flower"
    (tmp_path / "user/pets").mkdir(parents=True)
    (tmp_path / "user/runs").mkdir()
    run_dir = write_run(tmp_path / "user/runs/.hidden", {"folder": "pets"})
    assert resumed(run_dir, {}).folder == str(tmp_path / "user/pets")


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.dictionaries(st.sampled_from([*OPTIONS, "wings"]), JSON) | JSON)
@example({"epochs": None})
@example({"epochs": 1.5})
@example({"schedule": "quick"})
@example({"weight_decay": float("nan")})
def test_any_json_is_a_config_or_an_error_of_one_line(tmp_path_factory, options):
    run_dir = write_run(tmp_path_factory.getbasetemp() / "any", options)
    try:
        config = resumed(run_dir, {})
    except ValueError as error:
        assert "config.json: " in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        for name, value in options.items():
            value = tuple(value) if isinstance(value, list) else value
            assert getattr(config, name) in (value, os.path.abspath(str(value)))
            kinds = (kind_of(OPTIONS[name]), type(OPTIONS[name].default))
            assert type(value) in kinds or (float in kinds and type(value) is int)


def test_an_optimizer_has_its_own_learning_rate_unless_one_is_given():
    rates = [
        resolve("mnist", options).learning_rate
        for options in (
            {},
            {"optimizer": "adamw"},
            {"optimizer": "adamw", "learning_rate": 0.5},
            {"optimizer": "muon"},
        )
    ]
    assert rates[1] < rates[0] == rates[3] and rates[2] == 0.5
