"""From what a user gives to the Config of a run, new or resumed."""

import dataclasses
import importlib
import itertools
import json
import os
import re
from pathlib import Path

from keras_diffusion.config.fields import check
from keras_diffusion.config.options import (
    EXCLUSIVE,
    LEARNING_RATES,
    NETWORK_DEFAULTS,
    OPTIONS,
    Config,
    from_json,
    named,
)

PRESETS = Path(__file__).parent / "presets"


def resolve(dataset=None, options=()):
    """Returns the Config of a new run: the preset of a data set, changed by options.

    Args:
        dataset: name of a data set; None for own images, whose preset is also that of data sets
            without one.
        options: dict of options of `Config`; None values are skipped.

    Raises:
        ValueError: an unknown option, an invalid value, or an option without effect, on one line.
    """
    options = {name: value for name, value in dict(options).items() if value is not None}
    for name, value in options.items():
        if name not in OPTIONS:
            raise ValueError(f"--set: unknown option {name!r}. Choose from: {', '.join(OPTIONS)}.")
        check(OPTIONS[name], value)
    options = absolute_paths(options)
    for group in EXCLUSIVE:
        for one, other in itertools.combinations([name for name in group if name in options], 2):
            raise ValueError(f"{named(one)}: not allowed with {named(other)}. Give only one.")
    start = preset(dataset, options.get("image_size"), options.get("latent", False))
    start = for_network(start, options.get("network", start.network))
    changed = {"dataset": dataset or start.dataset, **options}
    if "epochs" in options:
        changed["minutes"] = None  # of the preset
    if options.get("optimizer", start.optimizer) != start.optimizer:
        changed.setdefault("learning_rate", LEARNING_RATES[options["optimizer"]])
    if options.get("widths", start.widths) != start.widths:
        changed.setdefault("attention", None)  # the preset's is for its own widths
    config = dataclasses.replace(start, **changed)
    _check_effect(config, options)
    return config


def _path(name, value):
    """Returns the path in a value of an option, or None if there is none in it."""
    names = OPTIONS[name].metadata["path"] if name in OPTIONS else None
    if names is None or not isinstance(value, str) or value in ("", *names) or "://" in value:
        return None
    return os.path.expanduser(value)


def absolute_paths(options):
    """Returns a dict of options with absolute paths: a run may be resumed from any folder."""
    paths = {name: _path(name, value) for name, value in options.items()}
    return {
        name: value if paths[name] is None else os.path.abspath(paths[name])
        for name, value in options.items()
    }


def locate_paths(options, folder):
    """Returns the options of a run of an earlier version, which may have relative paths, with those
    found from the current folder or from one of those that the run or its export is in.

    Args:
        options: dict of options of `Config`.
        folder: of the run or the export.
    """
    located = dict(options)
    for name, value in options.items():
        path = _path(name, value)
        if path is not None and not os.path.exists(path):
            candidates = [parent / path for parent in Path(os.path.abspath(folder)).parents]
            located[name] = str(next((each for each in candidates if each.exists()), value))
    return located


def _check_effect(config, options):
    """Raises ValueError if one of the options has no effect in a Config."""
    for name, reason in config.without_effect().items():
        if name in options and options[name] is not False:
            raise ValueError(f"{named(name)}: {reason}")


def for_network(config, network):
    """Returns a Config for another network, with that network's own defaults.

    The options of a preset are for the network that it names.
    """
    if network == config.network:
        return config
    defaults = {
        name: field.default for name, field in OPTIONS.items() if field.metadata["networks"]
    }
    defaults.update(NETWORK_DEFAULTS[network])
    return dataclasses.replace(config, network=network, **defaults)


def preset(dataset, image_size=None, latent=False):
    """Returns the Config in `presets/NAME.py`; for other names and None, that in `images.py`.

    A preset file holds CONFIG; it may hold SIZES, {side: Config}, of which the smallest that
    `image_size` fits into is taken, and LATENT, for latents. Without LATENT, latents of half the
    size go through the levels below the first.
    """
    name = re.split("[:/]", dataset or "")[0]  # without version or variant
    if name not in {path.stem for path in PRESETS.glob("[a-z]*.py")}:
        name = "images"
    module = importlib.import_module(f"keras_diffusion.config.presets.{name}")
    if latent and hasattr(module, "LATENT"):
        return module.LATENT
    config = module.CONFIG
    if image_size not in (None, config.image_size):
        sizes = getattr(module, "SIZES", {})
        fitting = [size for size in sizes if max(image_size) <= size]
        config = sizes[min(fitting)] if fitting else config
    if latent:
        widths, attention = config.widths[1:] or config.widths, config.attention
        attention = attention and attention[-len(widths) :]
        return dataclasses.replace(config, latent=True, widths=widths, attention=attention)
    return config


def resumed(run_dir, options):
    """Returns the Config of a run to be resumed, with other values of its movable options.

    Args:
        run_dir: folder of the run.
        options: dict of options of `Config`; None values are skipped.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: an option that contradicts the run, with both values.
    """
    path = Path(run_dir) / "config.json"
    config = _read(path)
    options = absolute_paths(options)
    changes = {
        name: value
        for name, value in options.items()
        if value is not None and value != getattr(config, name)
    }
    if changes.get("precision") == "auto":
        del changes["precision"]  # the run has saved what "auto" was resolved to
    for name, value in changes.items():
        if not OPTIONS[name].metadata["movable"]:
            saved = getattr(config, name)
            raise ValueError(f"{named(name)}: {value!r} contradicts {saved!r} of {path}.")
    config = dataclasses.replace(config, **changes)
    _check_effect(config, changes)
    return config


def _read(path):
    """Returns the Config in the config.json of a run."""
    if not path.exists():
        raise FileNotFoundError(f"--resume: there is no run in {path.parent}.")
    try:
        saved = from_json(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {str(error)[:100]}"
        raise ValueError(
            f"{path}: is not the configuration of a run, as train.py writes it ({what})."
        ) from error
    unknown = sorted(set(saved) - set(OPTIONS))
    if unknown:
        raise ValueError(
            f"{path}: unknown options {', '.join(map(repr, unknown[:5]))}. Resume with the version "
            "of keras_diffusion that wrote it, or start another run."
        )
    try:
        return Config(**absolute_paths(locate_paths(saved, path.parent)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
