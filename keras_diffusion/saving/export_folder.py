"""The folder of an export and its config.json; neither TensorFlow nor Keras is imported."""

import dataclasses
import json
from pathlib import Path

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.runtime.files import OLD, PART

FORMAT = 4  # of the endpoints and of config.json
CONFIG_FILE = Path("assets.extra", "config.json")  # TensorFlow's folder for files of one's own
MAX_STEPS = 1000


def _is_count(value, at_least=0, at_most=2**31 - 1):
    return type(value) is int and at_least <= value <= at_most  # not a bool


def _are_names(value):
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


# {field: (check, the rule in words)}; what is not here needs no check to sample.
_RULES = {
    "image_shape": (
        lambda shape: (
            isinstance(shape, list | tuple)
            and len(shape) == 3
            and all(_is_count(side, 1) for side in shape)
        ),
        "[height, width, channels]",
    ),
    "num_classes": (_is_count, "a whole number from 0"),
    "class_names": (_are_names, "a list of names"),
    "samplers": (_are_names, "a list of names"),
    "num_steps": (
        lambda number: _is_count(number, 1, MAX_STEPS),
        f"a whole number from 1 to {MAX_STEPS}",
    ),
    "training": (lambda value: isinstance(value, dict), "an object"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What others need to know of an exported model; config.json holds the same names.

    Attributes:
        image_shape: (H, W, C).
        codec: dict, see `PixelCodec.describe`.
        num_classes: int; 0: without labels.
        class_names: tuple of num_classes names, or empty.
        prompts: None, or the `Prompts` of a model with prompts.
        schedule, prediction_type: names, see `DiffusionModel`.
        samplers: tuple of the samplers that have endpoints.
        sampler, num_steps, guidance: defaults for sampling.
        training: dict of facts about the training.
        versions: dict of the versions of Keras and TensorFlow.

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

    def __post_init__(self):
        for name, (valid, rule) in _RULES.items():
            if not valid(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r}; it must be {rule}.")
        for name in ("image_shape", "class_names", "samplers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
        """Returns the `ExportConfig` of such a dict.

        Raises:
            ValueError: a missing value, or as `ExportConfig`.
        """
        names = [f.name for f in dataclasses.fields(cls) if f.name != "guidance"]
        for name in (*names, *Guidance.NAMES):
            if name not in values:
                raise ValueError(f"{name}: missing.")
        options = {name: values[name] for name in names}
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


def newest(root="saved_models"):
    """Returns the folder of the export that was written last.

    Raises:
        ValueError: there is none.
    """
    paths = Path(root).glob("*/saved_model.pb")
    paths = [path for path in paths if not path.parent.name.startswith((PART, OLD))]
    if not paths:
        raise ValueError(
            f"there is no model in {Path(root).absolute()}/. Change to the folder of the training, "
            "or name a model."
        )
    return max(paths, key=lambda path: path.stat().st_mtime).parent


def check_target(path):
    """Returns `path` if an export may be written there.

    Raises:
        ValueError: it is a file, or a folder with something other than an export.
    """
    path = Path(path)
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest}: is not a folder; it is left as it is.")
    is_free = not path.exists() or not any(path.iterdir())
    if not is_free and not (path / "saved_model.pb").exists():
        raise ValueError(f"{path}: is not empty and not a SavedModel; it is left as it is.")
    return path
