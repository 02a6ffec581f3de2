"""From a Config back to the command line: the flags of train.py that give it."""

import shlex
from pathlib import Path

from keras_diffusion.config import fields
from keras_diffusion.config.options import OPTIONS
from keras_diffusion.config.resolve import resolve

# They choose the preset, and whether other options have an effect.
SELECTING = ("folder", "image", "latent", "network", "image_size", "minutes")


def differences(config, decided=()):
    """Returns the options that differ from the preset, as `resolve` takes them.

    Where a data set lies on one machine (`data_dir`) is left out.

    Args:
        config: `Config`.
        decided: names of options that were not given: data or hardware decided them.

    Returns:
        (name of the data set, or None for own images; {option: value}).
    """
    dataset = None if config.folder else config.dataset
    idle = {*decided, *config.without_effect(), "dataset", "data_dir"}
    idle.add("epochs" if config.minutes else "minutes")
    options = {"image": config.image} if config.image else {}
    for name in dict.fromkeys((*SELECTING, *OPTIONS)):
        start = resolve(dataset, options)
        value = getattr(config, name)
        lasts = name == "epochs" and start.minutes  # of the preset, which epochs replace
        if name not in idle and value is not None and (value != getattr(start, name) or lasts):
            options[name] = value
    return dataset, options


def command_line(config, decided=()):
    """Returns the command that trains with a Config, "python train.py ...".

    Paths are shortened to their last part. See `differences`.
    """
    dataset, options = differences(config, decided)
    words = [] if dataset is None or config.image else ["--dataset", dataset]
    for name, value in options.items():
        rule = OPTIONS[name].metadata
        if rule["path"] is not None:
            value = Path(value).name
        if not rule["flag"]:
            words += ["--set", f"{name}={value!r}" if type(value) is tuple else f"{name}={value}"]
        elif value is True:
            words.append(fields.flag(name))
        elif value is False:
            words.append(fields.flag(f"no_{name}"))
        elif type(value) is tuple:  # a size
            words += [fields.flag(name), "x".join(map(str, dict.fromkeys(value)))]
        else:
            text = str(value).removesuffix(".0") if type(value) is float else str(value)
            words += [fields.flag(name), text]
    return shlex.join(["python", "train.py", *words])
