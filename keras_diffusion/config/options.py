"""What a training run is made of: one frozen dataclass, and the presets of `configs/`."""

import ast
import dataclasses
import importlib
import itertools
import json
import re
import typing
from pathlib import Path

from keras_diffusion.config import rules
from keras_diffusion.config.rules import CHOICES, CODEC_OPTIONS, NETWORK_OPTIONS, OF_NETWORKS, RULES


@dataclasses.dataclass(frozen=True)
class Config:
    """Every option of a run. None means: the data set decides."""

    # data
    dataset: str = "digits"  # a name in tfds, or "digits"
    folder: str | None = None  # of the user's own pictures, instead of a data set
    image: str | None = None  # one picture instead: its file, or "flower" or "china"
    data_dir: str | None = None  # where tfds keeps its data; None: ~/tensorflow_datasets
    image_size: tuple | None = None  # (height, width) in pixels; None: as they come
    crop_size: tuple | None = None  # of the random crops of one picture; None: 3/4 of its sides
    channels: int | None = None  # 1, 3 or 4
    train_split: str | None = None  # tfds slicing strings
    val_split: str | None = None
    balance: str = "none"  # "classes": every class equally likely in training
    horizontal_flip: bool | None = None
    limit: int | None = None  # use only the first N training images
    unconditional: bool = False  # leave the labels out
    text: bool = False  # prompts, made of the names of the classes, in the place of labels

    # network
    network: str = "unet"
    widths: tuple = (64, 128, 256)  # channels per level, full resolution first
    block_depth: int = 1  # residual blocks per level and direction
    attention: tuple | None = None  # per level; None: at the last one
    dropout: float = 0.0
    embedding_width: int = 256
    kernel_size: int = 3  # of depthwise convolutions
    expansion: int = 2  # of the width, inside of a ConvNeXt block
    text_width: int = 128  # features of a word
    text_depth: int = 2  # transformer blocks that read a prompt
    word_vectors: str | None = None  # a text model of KerasHub, with whose words training begins

    # latents: stage one of a run trains their autoencoder, unless there is one already
    latent: bool = False
    codec: str | None = None  # a run on latents, or the file of its autoencoder, to be used again
    codec_widths: tuple = (64,)  # channels per level, half resolution first
    latent_channels: int = 4
    edge_weight: float = 0.5
    kl_weight: float = 1e-3
    codec_learning_rate: float = 2e-3  # peak
    codec_epochs: int = 20  # at most; with `minutes`, `codec_share` stands in its place
    codec_share: float = 0.3  # of `minutes`, at most

    # diffusion
    start_from: str | None = None  # a run, or a .keras file, whose weights this one begins with
    schedule: str = "cosine"
    prediction_type: str = "v"
    loss_weighting: str = "uniform"
    ema_decay: float = 0.999
    label_dropout: float = 0.1

    # training
    epochs: int = 50
    minutes: float | None = None  # train this long instead of `epochs`
    batch_size: int = 64  # over all devices
    remat: bool = False  # compute blocks again in the backward pass: less memory, more time
    learning_rate: float = 1e-3  # peak
    warmup: float = 0.03  # share of the training
    weight_decay: float = 1e-4
    clip_norm: float = 1.0  # of the gradients of all weights together
    accumulate: int = 1  # parts that a batch is worked through in, to save memory
    precision: str = "auto"
    strategy: str = "auto"  # of tf.distribute
    deterministic: bool = False  # only operations that give the same bits again
    seed: int = 0
    checkpoint_minutes: float = 10.0  # between checkpoints within an epoch; its end is saved too
    keep_checkpoints: int = 2  # the last ones, besides the best
    score_every: int | None = None  # epochs between scores; None: the best is that of val_loss
    score_num: int = 1000  # pictures to score
    score_extractor: str = "classifier"  # or "inception", or a Keras model's path

    # pictures: previews, and the defaults of the export
    sampler: str = "dpmpp_2m"
    num_steps: int = 20
    guidance_scale: float = 2.0
    guidance_interval: tuple = (0.0, 1.0)  # times between which guidance is on
    guidance_rescale: float = 0.0  # share of the contrast of guidance that is taken back

    def __post_init__(self):
        for name, value in vars(self).items():
            kinds = _kinds(name)
            if type(value) not in kinds and not (float in kinds and type(value) is int):
                raise ValueError(f"{flag(name)}: {value!r} is not {rules.in_words(kinds)}.")
            if value == "":
                raise ValueError(f"{flag(name)}: is empty; give a value or leave the flag out.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{flag(name)}: unknown {getattr(self, name)!r}. "
                    f"Choose from: {', '.join(sorted(choices))}."
                )
        for name, (valid, rule) in RULES.items():
            value = getattr(self, name)
            if value is not None and not valid(value):
                raise ValueError(f"{flag(name)}: {value} {rule}.")
        self._check_that_nothing_is_ignored()
        if self.attention is not None and len(self.attention) != len(self.widths):
            raise ValueError(f"--attention: {self.attention} must be one for each of the widths.")

    def _check_that_nothing_is_ignored(self):
        if self.latent and self.image is not None:
            raise ValueError("--latent: not allowed with --image; give one of the two.")
        reasons = self._ignored()
        for field in dataclasses.fields(self):
            if field.name in reasons and getattr(self, field.name) != field.default:
                raise ValueError(f"{flag(field.name)}: {reasons[field.name]}")

    def _ignored(self):
        """{option: why it would be ignored}."""
        taken = NETWORK_OPTIONS[self.network]
        why = f"the network {self.network!r} has no such option; it takes {', '.join(taken)}."
        reasons = dict.fromkeys(OF_NETWORKS - set(taken), why)
        if self.image is None:
            reasons["crop_size"] = "is for crops of one picture; give it with --image."
        if self.network not in rules.READERS:
            reasons["text"] = f"is for {' and '.join(rules.READERS)}, which read prompts."
        if not self.text:
            why = "is for prompts; give it with --text."
            reasons.update(dict.fromkeys(rules.TEXT_OPTIONS, why))
        if not self.latent:
            why = "is for latents; give it with --latent."
            reasons.update(dict.fromkeys(("codec", *CODEC_OPTIONS), why))
        elif self.codec is not None:
            why = "is for an autoencoder to be trained; --codec names one that is."
            reasons.update(dict.fromkeys(CODEC_OPTIONS, why))
        return reasons

    @property
    def network_options(self):
        """{option: value} of what the network's builder takes."""
        return {name: getattr(self, name) for name in NETWORK_OPTIONS[self.network]}


def _kinds(name):
    """Returns the types that an option may have."""
    kind = typing.get_type_hints(Config)[name]
    return typing.get_args(kind) or (kind,)


def flag(name):
    """Returns the command-line spelling of an option: "batch_size" -> "--batch-size"."""
    return "--" + name.replace("_", "-")


def resolve(dataset=None, overrides=()):
    """Returns the Config of a data set: its preset, changed by what the user gave.

    Args:
        dataset: name of a data set; None for own pictures, whose preset is also that of data
            sets without one.
        overrides: dict of options; None values are skipped.

    Raises:
        ValueError: an unknown option or an invalid value, on one line.
    """
    options = {name: value for name, value in dict(overrides).items() if value is not None}
    if "epochs" in options:
        options.setdefault("minutes", None)  # those of a preset
    names = [field.name for field in dataclasses.fields(Config)]
    for name in options:
        if name not in names:
            raise ValueError(f"--set: unknown option {name!r}. Choose from: {', '.join(names)}.")
    chosen = {name: options[name] for name in ("image_size", "latent") if name in options}
    Config(**chosen)  # these have to be right to choose a preset by them
    start = with_network(preset(dataset, **chosen), options.get("network"))
    if "codec" in options:  # whose options are those of its own run
        start = dataclasses.replace(start, **_defaults(CODEC_OPTIONS))
    if "widths" in options:  # a preset's attention is for its own
        options.setdefault("attention", None)
    config = dataclasses.replace(start, **options)
    for name, why in rules.unused(config).items():
        if name in options:
            raise ValueError(f"{flag(name)}: {why}")
    return config


def with_network(config, network):
    """Returns the same Config for another network, with that network's own options.

    Those of presets are for the network that they name; None leaves it.
    """
    if network in (None, config.network):
        return config
    options = {**_defaults(OF_NETWORKS), **NETWORK_OPTIONS[network]}
    return dataclasses.replace(config, network=network, **options)


def _defaults(names):
    return {f.name: f.default for f in dataclasses.fields(Config) if f.name in names}


def preset(dataset, image_size=None, latent=False):
    """Returns the preset in `configs/NAME.py`; that of own pictures for any other name, or None.

    A preset file holds CONFIG and, where other sizes want other networks, SIZES, {height:
    Config}; the smallest one that `image_size` fits into is taken. For latents it may hold
    LATENT; else latents of half the size go through the levels below the first.
    """
    dataset = re.split("[:/]", dataset)[0] if dataset else None  # without version or variant
    known = {path.stem for path in (Path(__file__).parent / "presets").glob("[a-z]*.py")}
    name = dataset if dataset in known else "pictures"
    module = importlib.import_module(f"keras_diffusion.config.presets.{name}")
    if latent and hasattr(module, "LATENT"):
        return module.LATENT
    found = _of_size(module, image_size)
    if latent:
        return dataclasses.replace(found, latent=True, widths=found.widths[1:] or found.widths)
    return found


def _of_size(module, image_size):
    if image_size in (None, module.CONFIG.image_size):
        return module.CONFIG
    fitting = [size for size in getattr(module, "SIZES", {}) if image_size[0] <= size]
    return module.SIZES[min(fitting)] if fitting else module.CONFIG


def resumed(run_dir, given):
    """Returns the Config that a run was started with, but for `rules.MOVABLE` given anew.

    Args:
        run_dir: folder of the run.
        given: options given again; None values are skipped.

    Raises:
        FileNotFoundError: no run is there.
        ValueError: an option that contradicts the run, with both values.
    """
    path = Path(run_dir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"--resume: there is no run in {run_dir}.")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["config"]
        saved = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {str(error)[:100]}"
        raise ValueError(
            f"{path}: is not the configuration of a run, as train.py writes it ({what})."
        ) from error
    unknown = sorted(set(saved) - {field.name for field in dataclasses.fields(Config)})
    if unknown:
        raise ValueError(
            f"{path}: unknown options {', '.join(map(repr, unknown[:5]))}; go on with the "
            "version of keras_diffusion that wrote it, or start another run."
        )
    try:
        config = Config(**saved)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    resolved = ("precision", "auto")  # what that came to was saved
    given = dict(pair for pair in given.items() if pair[1] is not None and pair != resolved)
    moved = {name: given.pop(name) for name in rules.MOVABLE if name in given}
    for name, value in given.items():
        if value != getattr(config, name):
            raise ValueError(
                f"{flag(name)}: {value!r} contradicts {getattr(config, name)!r} of {path}."
            )
    return dataclasses.replace(config, **moved)


def parse_setting(text):
    """Parses "key=value" of `--set`, the value as the type of the option: (key, value).

    Raises:
        ValueError: no "=", an unknown key, or a value of the wrong type.
    """
    name, equals, written = text.partition("=")
    types = typing.get_type_hints(Config)
    if not equals or name not in types:
        raise ValueError(
            f"--set: {text!r} is not KEY=VALUE with one of the keys: {', '.join(types)}."
        )
    try:
        value = ast.literal_eval(written)
    except Exception:  # whatever Python makes of it
        value = written  # a bare word is a string
    if isinstance(value, list):
        value = tuple(value)
    kinds = _kinds(name)
    if float in kinds and type(value) is int and abs(value) < 2**53:  # a float holds it
        value = float(value)
    if type(value) not in kinds:
        raise ValueError(f"--set: {text!r} is not {rules.in_words(kinds)}.")
    return name, value


def add_settings(given, texts):
    """Adds the options of `--set` to those given as flags, a dict.

    Raises:
        ValueError: as `parse_setting`; two values for one option, or options that exclude
            each other.
    """
    for text in texts:
        name, value = parse_setting(text)
        if given.get(name) not in (None, value):
            raise ValueError(f"--set: {text!r} contradicts {given[name]!r}; give one of the two.")
        given[name] = value
    for one, other in (
        pair for group in rules.EXCLUSIVE for pair in itertools.combinations(group, 2)
    ):
        if given.get(one) is not None and given.get(other) is not None:
            raise ValueError(f"{flag(one)}: not allowed with {flag(other)}; give one of the two.")
