"""Every option: its type and rule, its text on the command line, the tables that it names."""

import inspect
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_diffusion.config.fields import KINDS, kind_of, parse
from keras_diffusion.config.options import NETWORK_DEFAULTS, OPTIONS, Config, named
from keras_diffusion.diffusion.process import LOSS_WEIGHTINGS, PREDICTION_TYPES
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.diffusion.schedules import SCHEDULES
from keras_diffusion.networks import NETWORKS

FLOATS = [name for name, field in OPTIONS.items() if kind_of(field) is float]


def assert_one_line(error, name):
    assert str(error).startswith(f"{named(name)}: ")
    assert len(str(error).splitlines()) == 1


@settings(derandomize=True, deadline=None, database=None)
@given(st.sampled_from(sorted(OPTIONS)), st.text())
@example("widths", "[" * 5000)
@example("widths", "[" + "9" * 5000 + "]")
@example("widths", "exit(3)")
@example("dropout", "9" * 400)
@example("image_size", "64x")
@example("image_size", "²")
@example("epochs", "\0")
def test_any_text_is_a_value_or_rejected_in_one_line(name, text):
    try:
        value = parse(OPTIONS[name], text)
    except ValueError as error:
        assert_one_line(error, name)
    else:
        assert type(value) is kind_of(OPTIONS[name])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("widths", "[8, 16]", (8, 16)),
        ("guidance_interval", "(0.1,0.8)", (0.1, 0.8)),
        ("dropout", "0", 0.0),
        ("minutes", "3", 3.0),
        ("text_depth", "0", 0),
        ("remat", "True", True),
        ("horizontal_flip", "False", False),
        ("image_size", "64", (64, 64)),
        ("image_size", "48X64", (48, 64)),
        ("crop_size", "(48, 64)", (48, 64)),
        ("folder", "2024", "2024"),
    ],
)
def test_text_is_parsed_as_the_type_of_the_option(name, text, value):
    parsed = parse(OPTIONS[name], text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e30])
def test_no_option_takes_nan_infinity_or_a_number_out_of_bounds(name, value):
    with pytest.raises(ValueError, match=f"{named(name)}: .* must be "):
        Config(**{name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0}, {"epochs": True}, {"epochs": 1.5}, {"epochs": 10**20}, {"seed": 2**31},
        {"channels": 2}, {"dropout": 1.0}, {"num_steps": 1001}, {"widths": ()}, {"widths": (0,)},
        {"widths": ("a",)}, {"widths": (2**15,)}, {"attention": (2, 3, 4)}, {"attention": (True,)},
        {"image_size": (64,)}, {"image_size": (8, 5000)}, {"kernel_size": 4}, {"dataset": ""},
        {"guidance_interval": (0.8, 0.1)}, {"guidance_interval": (0, 0.5, 1)},
        {"guidance_interval": (False, True)}, {"guidance_interval": None}, {"schedule": "quick"},
    ],
)  # fmt: skip
def test_values_that_break_a_rule_are_rejected(options):
    [name] = options
    with pytest.raises(ValueError) as error:
        Config(**options)
    assert_one_line(error.value, name)


def test_every_number_has_a_rule_and_every_option_help():
    for name, field in OPTIONS.items():
        rule, kind = field.metadata, kind_of(field)
        assert kind in KINDS and rule["help"], name
        if kind in (int, float):
            assert rule["choices"] or rule["check"] or rule["at_most"] or rule["below"], name
        for other in (rule["needs"], rule["unless"]):
            assert other is None or other in OPTIONS, name


def test_choices_are_those_of_the_tables():
    tables = {
        "schedule": SCHEDULES,
        "prediction_type": PREDICTION_TYPES,
        "loss_weighting": LOSS_WEIGHTINGS,
        "network": NETWORKS,
        "sampler": SAMPLERS,
    }
    for name, table in tables.items():
        assert set(OPTIONS[name].metadata["choices"]) == set(table), name


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_a_network_has_the_options_and_defaults_of_its_builder(network):
    arguments = inspect.signature(NETWORKS[network]).parameters.values()
    builder = {each.name: each.default for each in arguments}
    options = Config(network=network, **NETWORK_DEFAULTS[network]).network_options
    assert options.items() <= builder.items()
    assert set(builder) - set(options) <= {"image_shape", "num_classes", "text", "name"}
