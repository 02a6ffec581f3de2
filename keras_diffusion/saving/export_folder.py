"""The folder of an export and its config.json; neither TensorFlow nor Keras is imported."""

import dataclasses
import datetime
import json
import os
import sysconfig
from pathlib import Path

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.config.options import MAX_STEPS
from keras_diffusion.runtime.console import names as join_names
from keras_diffusion.runtime.files import OLD, PART, whole_file

FORMAT = 4  # of the endpoints and of config.json
CONFIG_FILE = Path("assets.extra", "config.json")  # TensorFlow's folder for files of one's own

ROOT = Path("saved_models")  # of the current folder
# Beside the package in a checkout, else where pip puts the data files of pyproject.toml.
BESIDE = Path(__file__).resolve().parents[2] / "saved_models"
INSTALLED = Path(sysconfig.get_path("data"), "share/keras_diffusion/saved_models")
SHIPPED_ROOT = BESIDE if (BESIDE / "README.md").exists() else INSTALLED
SHIPPED_DEFAULT = "oxford_flowers102"


def _is_count(value, at_least=0, at_most=2**31 - 1):
    return type(value) is int and at_least <= value <= at_most  # not a bool


def _are_names(value):
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_shape(value):
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(_is_count(side, 1) for side in value)
    )


def _is_codec(value):
    """bool: `value` is what `describe` of a codec returns, as far as it is used."""
    if not isinstance(value, dict):
        return False
    if value.get("kind") == "latents":
        clip = value.get("clip", "missing")
        is_bound = type(clip) in (int, float) and clip > 0
        return _is_shape(value.get("x_shape")) and (clip is None or is_bound)
    return value.get("kind") == "pixels"


# {field: (check, the rule in words)}; what is not here needs no check to sample.
_RULES = {
    "image_shape": (_is_shape, "[height, width, channels]"),
    "codec": (_is_codec, 'of kind "pixels", or of kind "latents" with x_shape and clip'),
    "frames": (lambda number: _is_count(number, 1), "a whole number from 1"),
    "num_classes": (_is_count, "a whole number from 0"),
    "class_names": (_are_names, "a list of names"),
    "samplers": (_are_names, "a list of names"),
    "num_steps": (
        lambda number: _is_count(number, 1, MAX_STEPS),
        f"a whole number from 1 to {MAX_STEPS}",
    ),
    "training": (lambda value: isinstance(value, dict), "an object"),
    "created": (lambda value: isinstance(value, str), "a time as text"),
    "parameters": (lambda value: _is_count(value, at_most=10**15), "a whole number from 0"),
    "shipped": (lambda value: isinstance(value, bool), "true or false"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What others need to know of an exported model; config.json holds the same names.

    Attributes:
        image_shape: (H, W, C), of clips (H, W, frames * C).
        codec: dict, see `PixelCodec.describe`.
        num_classes: int; 0: without labels.
        class_names: tuple of num_classes names, or empty.
        prompts: None, or the `Prompts` of a model with prompts.
        schedule, prediction_type: names, see `DiffusionModel`.
        samplers: tuple of the samplers that have endpoints.
        sampler, num_steps, guidance: defaults for sampling.
        training: dict of facts about the training.
        versions: dict of the versions of Keras and TensorFlow.
        created: time of the export in UTC, ISO 8601; copying does not change it. May be empty.
        parameters: int, weights of the network; 0 if unknown.
        shipped: bool, whether the model comes with keras_diffusion.
        frames: int, of each clip; 1: images.

    Raises:
        ValueError: a value that cannot be sampled with, by its name.
    """

    image_shape: tuple
    codec: dict
    num_classes: int
    class_names: tuple
    prompts: Prompts | None
    schedule: str
    prediction_type: str
    samplers: tuple
    sampler: str
    num_steps: int
    guidance: Guidance
    training: dict
    versions: dict
    created: str = ""
    parameters: int = 0
    shipped: bool = False
    frames: int = 1

    def __post_init__(self):
        for name, (valid, rule) in _RULES.items():
            if not valid(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}; it must be {rule}.")
        for name in ("image_shape", "class_names", "samplers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.image_shape[-1] % self.frames:
            raise ValueError(
                f"frames: {self.frames}; it must divide the {self.image_shape[-1]} channels."
            )
        if self.sampler not in self.samplers:
            choices = ", ".join(self.samplers)
            raise ValueError(f"sampler: unknown {self.sampler!r}. Choose from: {choices}.")
        if len(self.class_names) not in (0, self.num_classes):
            raise ValueError(
                f"class_names: {len(self.class_names)} names for {self.num_classes} classes. "
                "Give one for each, or none."
            )
        if self.prompts and self.class_names != self.prompts.class_names:
            raise ValueError("class_names: differ from those of the prompts. Leave them out.")
        self.guidance.check_labels(self.num_classes)

    def to_json(self):
        """Returns a dict for config.json."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        guidance, prompts = values.pop("guidance"), self.prompts
        values["prompts"] = prompts and {
            "words": prompts.words,
            "length": prompts.length,
            "plain": prompts.plain,
            **prompts.get_config(),
        }
        return {"format": FORMAT, **values, **guidance.options()}

    @classmethod
    def from_json(cls, values):
        """Returns the `ExportConfig` of such a dict; fields with a default may be missing.

        Raises:
            ValueError: a missing value, or as `ExportConfig`.
        """
        fields = [f for f in dataclasses.fields(cls) if f.name != "guidance"]
        needed = [f.name for f in fields if f.default is dataclasses.MISSING]
        for name in (*needed, *Guidance.NAMES):
            if name not in values:
                raise ValueError(f"{name}: missing.")
        options = {f.name: values[f.name] for f in fields if f.name in values}
        options["prompts"] = _read_prompts(values["prompts"])
        return cls(**options, guidance=Guidance.from_options(values))


def _read_prompts(values):
    if values is None:
        return None
    try:
        prompts = Prompts(values["class_names"], values["templates"])
        same = (list(prompts.words), prompts.length) == (values["words"], values["length"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"prompts: cannot be read ({type(error).__name__}: {error}).") from error
    if not same:
        raise ValueError("prompts: words and length are not those of class_names and templates.")
    return prompts


def read(path):
    """Returns the `ExportConfig` of an export.

    Raises:
        ValueError: it is not an export, or one of another format.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ValueError(f"{path} {what}; give the folder of an export, as under saved_models/.")
    file = path / CONFIG_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        number = values.get("format")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = f"{file}: {type(error).__name__}: {str(error)[:100]}"
        raise ValueError(f"{path} is not an export of keras_diffusion ({reason}).") from error
    if number != FORMAT or type(number) is not int:
        raise ValueError(
            f"{path}: its format is {number!r}, but this version reads {FORMAT}. Export it again "
            "from its run: python train.py --resume RUN_DIR."
        )
    try:
        return ExportConfig.from_json(values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def locate(model=None):
    """Finds a model by its path or name, or chooses the default.

    The default is the user's newest export in saved_models/ of the current folder, by the time in
    its config.json; without one, the flowers that come with keras_diffusion.

    Args:
        model: None for the default; a path; or the name of a folder in saved_models/ of the
            current folder, or of a model that comes with keras_diffusion.

    Returns:
        (Path, reason for the default as text; "" for a model that was named).

    Raises:
        ValueError: there is no such model, or none at all.
    """
    if model is None:
        return _default()
    if not os.fspath(model):
        raise ValueError("is empty. Give a path or a name, or leave it out.")
    places = (Path(), ROOT, SHIPPED_ROOT)
    paths = [Path(model)] if os.path.dirname(model) else [place / model for place in places]
    for path in paths:
        if path.is_file() or (path / "saved_model.pb").exists() or (path / "checkpoints").exists():
            return path, ""
    if Path(model).exists():
        return Path(model), ""
    names = list_exports()
    choices = f", or a name in saved_models/: {join_names(names)}" if names else ""
    raise ValueError(f"{model} does not exist. Give the path of a model{choices}.")


def list_exports():
    """Returns {name: path} of the exports that `locate` finds by their name, sorted by name."""
    paths = {path.name: path for root in (SHIPPED_ROOT, ROOT) for path in _exports(root)}
    return dict(sorted(paths.items()))


def _default():
    own = [path for path in _exports(ROOT) if not _is_shipped(path)]
    if own:
        return max(own, key=_created), "the newest of yours in saved_models/"
    for path in (ROOT / SHIPPED_DEFAULT, SHIPPED_ROOT / SHIPPED_DEFAULT):
        if (path / "saved_model.pb").exists():
            return path, "comes with keras_diffusion; there is none of yours in saved_models/"
    raise ValueError(
        f"there is no model in {ROOT.absolute()}/. Change to the folder of the training, or name "
        "a model."
    )


def _exports(root):
    """Returns the folders of the exports in a folder."""
    paths = [path.parent for path in Path(root).glob("*/saved_model.pb")]
    return [path for path in paths if not path.name.startswith((PART, OLD))]


def _read_leniently(path):
    """Returns the dict in config.json, or {} where `read` would raise its error."""
    try:
        values = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_shipped(path):
    return _read_leniently(path).get("shipped") is True


def _created(path):
    """Returns when an export was written, in seconds; by its file if config.json does not say."""
    try:
        return datetime.datetime.fromisoformat(_read_leniently(path)["created"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return (path / "saved_model.pb").stat().st_mtime


def now():
    """Returns the current time as `ExportConfig.created` holds it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def write(config, path):
    """Writes config.json of an export.

    Args:
        config: `ExportConfig`.
        path: folder of the export.
    """
    file = Path(path) / CONFIG_FILE
    file.parent.mkdir(exist_ok=True)
    with whole_file(file) as part:
        Path(part).write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")


def mark_shipped(path):
    """Marks an export as one that comes with keras_diffusion: never the default before a user's
    own, and not replaced by a training. Where the data lay on this machine is left out."""
    config = read(path)
    training = {**config.training, "config": {**config.training.get("config", {})}}
    training["config"]["data_dir"] = None
    write(dataclasses.replace(config, shipped=True, training=training), path)


def check_target(path):
    """Returns `path` if an export may be written there.

    Raises:
        ValueError: it is a file, a folder with something other than an export, or a model that
            comes with keras_diffusion.
    """
    path = Path(path)
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest}: is not a folder; it is left as it is.")
    is_free = not path.exists() or not any(path.iterdir())
    if not is_free and not (path / "saved_model.pb").exists():
        raise ValueError(f"{path}: is not empty and not a SavedModel; it is left as it is.")
    if _is_shipped(path):
        raise ValueError(
            f"{path}: comes with keras_diffusion; it is left as it is. Choose another folder."
        )
    return path
