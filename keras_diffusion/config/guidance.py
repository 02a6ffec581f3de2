"""Classifier-free guidance: its three values, their names as arguments, and their bounds."""

import dataclasses
import numbers
from typing import ClassVar

LARGEST_SCALE = 100


def _is_number(value, low, high):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and low <= value <= high  # False for nan


def _is_interval(value):
    try:
        low, high = value
    except (TypeError, ValueError):
        return False
    return _is_number(low, 0, 1) and _is_number(high, low, 1)


# {name of an argument: (check of its value, the rule in words)}.
RULES = {
    "guidance_scale": (
        lambda value: _is_number(value, 0, LARGEST_SCALE),
        f"must be a number from 0 to {LARGEST_SCALE}",
    ),
    "guidance_interval": (
        _is_interval,
        "must be two times, 0 <= low <= high <= 1, such as (0.1, 0.8)",
    ),
    "guidance_rescale": (lambda value: _is_number(value, 0, 1), "must be a number from 0 to 1"),
}


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How strongly samples are guided towards their condition.

    Args:
        scale: in [0, 100]; 1: off. See `diffusion.denoiser.make_denoiser`.
        interval: (low, high), the times t with 0 <= low <= high <= 1 where guidance is on.
        rescale: in [0, 1], the share of the added contrast that is removed again.

    Raises:
        ValueError: a value out of bounds, by its name in `NAMES`.

    Reference: Ho and Salimans 2022, arXiv:2207.12598; interval: Kynkaanniemi et al. 2024,
    arXiv:2404.07724; rescale: Lin et al. 2023, arXiv:2305.08891.
    """

    scale: float = 1.0
    interval: tuple = (0.0, 1.0)
    rescale: float = 0.0

    NAMES: ClassVar = tuple(RULES)  # of arguments and options, in the order of the fields

    def __post_init__(self):
        for name, value in self.options().items():
            valid, rule = RULES[name]
            if not valid(value):
                raise ValueError(f"{name}: {value!r} {rule}.")
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "interval", tuple(map(float, self.interval)))
        object.__setattr__(self, "rescale", float(self.rescale))

    @classmethod
    def from_options(cls, options):
        """Returns the `Guidance` of a dict with `NAMES`; missing and None are the default."""
        values = {name.removeprefix("guidance_"): options.get(name) for name in cls.NAMES}
        return cls(**{name: value for name, value in values.items() if value is not None})

    def options(self):
        """Returns {name in `NAMES`: value}."""
        return {name: getattr(self, name.removeprefix("guidance_")) for name in self.NAMES}

    def changed(self, options, num_classes):
        """Returns it with the values in `options`, as users give them; None values are skipped.

        Raises:
            ValueError: an option out of bounds; any option for a model without labels; an
                interval or a rescale that has no effect at scale 1.
        """
        options = {name: options[name] for name in self.NAMES if options.get(name) is not None}
        if options and not num_classes:
            raise ValueError(f"{next(iter(options))}: this model was trained without labels.")
        guidance = Guidance.from_options({**self.options(), **options})
        for name in options:
            if name != "guidance_scale" and guidance.scale == 1:
                raise ValueError(f"{name}: no effect at guidance_scale 1. Give another scale.")
        return guidance

    def check_labels(self, num_classes):
        """Raises ValueError if guidance is on and the model was trained without labels."""
        default = Guidance().options()
        for name, value in self.options().items():
            if not num_classes and value != default[name]:
                raise ValueError(f"{name}: this model was trained without labels.")
