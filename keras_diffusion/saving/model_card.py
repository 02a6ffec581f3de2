"""The model card of an export: README.md, as the Hugging Face hub reads it, and samples.png.

The card is made of config.json and of the scores in assets.extra/scores.md, so it can be made again
at any time. Neither TensorFlow nor Keras is imported.

Reference: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import dataclasses
import json
import re
import shlex
import time
from pathlib import Path

import numpy as np

from keras_diffusion.config.command import command_line
from keras_diffusion.config.options import Config, from_json
from keras_diffusion.plotting.images import add_labels, grid, readable, strips
from keras_diffusion.runtime import console
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.saving import export_folder

CARD_FILE, SAMPLES_FILE = "README.md", "samples.png"
SCORES_FILE = Path("assets.extra", "scores.md")
BEGIN = "<!-- keras_diffusion: generated from here on; edits in this part are lost -->"
END = "<!-- keras_diffusion: end of the generated part; text below is kept -->"
ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # keeps whatever the owner wrote

MAX_ROWS, MAX_COLUMNS = 8, 8  # of samples.png; a model with at most 12 classes shows all of them
SECONDS = 5  # for samples.png, after its first column
COLOURS = {1: "grey levels", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set as the card describes it.

    Attributes:
        title: str, with authors and year.
        license: identifier of the hub.
        rights: the licence in words.
        hub: None, or the name of the data set on the hub.
    """

    title: str
    license: str
    rights: str
    hub: str | None = None


WEB = "none is stated; the photos are from the web, and the rights remain with their owners"
DATA = {
    "digits": Data(
        "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), the copy in "
        "scikit-learn",
        "cc-by-4.0", "CC BY 4.0 (UCI Machine Learning Repository)", "sklearn-docs/digits",
    ),
    "mnist": Data(
        "MNIST (LeCun, Cortes and Burges 1998)",
        "cc-by-sa-3.0", "CC BY-SA 3.0, copyright of Yann LeCun and Corinna Cortes", "ylecun/mnist",
    ),
    "moving_mnist": Data(
        "Moving MNIST (Srivastava et al. 2015, arXiv:1502.04681), made of the digits of MNIST",
        "cc-by-sa-3.0", "CC BY-SA 3.0 for MNIST, copyright of Yann LeCun and Corinna Cortes",
    ),
    "fashion_mnist": Data(
        "Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747)",
        "mit", "MIT, copyright of Zalando SE", "zalando-datasets/fashion_mnist",
    ),
    "cifar10": Data("CIFAR-10 (Krizhevsky 2009)", "unknown", WEB, "uoft-cs/cifar10"),
    "oxford_flowers102": Data(
        "Oxford Flowers 102 (Nilsback and Zisserman 2008)",
        "unknown", WEB, "nelorth/oxford-flowers",
    ),
}  # fmt: skip
UNKNOWN = Data("The export does not say what the model was trained on", "unknown", "unknown")


def write(path, name=None, scores=None, replaces=None):
    """Writes README.md of an export, from its config.json.

    Text outside of the generated part of an existing card is kept: the metadata block above it, and
    what follows it. A README.md without such a part is left as it is.

    Args:
        path: folder of the export.
        name: of the model; None: that of the folder.
        scores: None to keep the scores of the card, or new ones as Markdown.
        replaces: None, or the folder of an earlier export that `path` will replace: its owner's
            text is taken over, but not its scores.

    Returns:
        The path of the card, or None if there is another README.md.

    Raises:
        ValueError: as `export_folder.read`.
        OSError: it cannot be written.
    """
    path = Path(path)
    config = export_folder.read(path)
    card, file = path / CARD_FILE, path / SCORES_FILE
    before, after = _head(config), "\n"
    existing = Path(replaces or path) / CARD_FILE
    if existing.exists():
        text = existing.read_text(**ENCODING)
        old = re.split(f"({BEGIN}|{END})", text)
        if old[1::2] != [BEGIN, END]:
            if replaces:
                card.write_text(text, **ENCODING)
            return None
        after = old[-1]
        if not replaces or old[0] != _head_of(replaces):  # edited
            before = old[0]
    if scores is not None:
        with whole_file(file) as part:
            Path(part).write_text(scores, encoding="utf-8")
    elif file.exists():
        scores = file.read_text(encoding="utf-8")
    text = body(config, name or path.resolve().name, size_of(path), scores)
    with whole_file(card) as part:
        content = f"{before}{BEGIN}\n{text}{END}{after}"
        Path(part).write_text(content, **ENCODING)
    return card


def size_of(path):
    """Returns the bytes of an export, without its card."""
    files = [file for file in Path(path).rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.name not in (CARD_FILE, SAMPLES_FILE))


# The parts of a card -------------------------------------------------------------------------


def _head(config):
    """Returns what is above the generated part of a new card."""
    return f"---\n{metadata(config)}---\n\n"


def _head_of(path):
    """Returns the head that the card of an export began with; None if it is not known."""
    try:
        return _head(export_folder.read(path))
    except ValueError:  # damaged, or not of this package
        return None


def metadata(config):
    """Returns the YAML block of an `ExportConfig`, without its fences.

    There are no scores in it: they cannot be compared with those of other models on the hub.
    """
    data = data_of(config)
    task = "text-to-image" if config.prompts else "unconditional-image-generation"
    if config.prompts and config.frames > 1:
        task = "text-to-video"
    lines = [
        "library_name: keras_diffusion",
        f"pipeline_tag: {task}",
        f"license: {data.license}",
        *(["datasets:", f"- {data.hub}"] if data.hub else []),
        "tags:",
        *(f"- {tag}" for tag in ("diffusion", "image-generation", "tensorflow", "keras")),
    ]
    return "\n".join(lines) + "\n"


def data_of(config):
    """Returns the `Data` that a model was trained on, by its `ExportConfig`."""
    options = config.training.get("config", {})
    name = options.get("dataset")
    if options.get("folder"):
        folder = _plain(Path(options["folder"]).name)
        return Data(f"own images, folder {folder}", "unknown", "ask the owner of the images")
    if options.get("image") in ("flower", "china"):
        title = f"a single photo, `{options['image']}` of scikit-learn"
        return Data(title, "cc-by-2.0", "CC BY 2.0, see the README of scikit-learn's images")
    if options.get("image"):
        title = f"a single image, {_plain(Path(options['image']).name)}"
        return Data(title, "unknown", "ask the owner of the image")
    if not name:
        return UNKNOWN
    short = re.split("[:/]", name)[0]
    catalog = f"see https://www.tensorflow.org/datasets/catalog/{short}"
    return DATA.get(short, Data(f"{_plain(name)} of TensorFlow Datasets", "unknown", catalog))


def body(config, name, size, scores=None):
    """Returns the generated part of a card, Markdown.

    Args:
        config: `ExportConfig`.
        name: of the model.
        size: bytes of the export.
        scores: None, or Markdown.
    """
    sections = [
        f"# {_plain(name)}",
        _summary(config),
        f"![Samples of the model]({SAMPLES_FILE})",
        f"These samples are not selected: {_caption(config)}.",
        "## Use",
        _use(config, name),
        "## Data",
        _data(config),
        "## Training",
        _training(config, size),
        "## Scores",
        _scores(config, name, scores),
        "## Limits",
        _limits(config, scores),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(config):
    height, width, channels = config.image_shape
    channels //= config.frames
    kind = COLOURS.get(channels, f"{channels} channels")
    what = "images" if config.frames == 1 else f"clips of {config.frames} frames"
    given = ""
    if config.prompts:
        given = f', from prompts such as "{_plain(config.prompts.plain[0])}"'
    elif config.num_classes:
        given = f", of {config.num_classes} classes"
        if 0 < len(config.class_names) <= 12:
            given += f": {', '.join(map(_plain, config.class_names))}"
    return (
        f"A diffusion model that generates {what} of {width}x{height} pixels in {kind}{given}. "
        "Made with keras_diffusion."
    )


def _caption(config):
    rows = "one class in each row, " if config.num_classes else ""
    guided = config.num_classes and config.guidance.scale != 1
    scale = f", guidance scale {config.guidance.scale:g}" if guided else ""
    columns = "one seed in each column" if config.frames == 1 else "one clip in each row"
    return f"{rows}{columns}, {config.num_steps} steps of {config.sampler}{scale}"


def _use(config, name):
    example, argument = "", ""
    if config.prompts:
        prompt = config.prompts.plain[0]
        example, argument = f" --prompt {shlex.quote(prompt)}", f", prompts={json.dumps(prompt)}"
    elif config.class_names:
        example = f" --class-name {shlex.quote(config.class_names[0])}"
        argument = ", labels=[0] * 4"
    shape = ", ".join(map(str, (4, *config.image_shape)))
    frames = []
    if config.frames > 1:
        split = f"kd.plotting.images.split_frames(images, {config.frames})"
        frames = [f"clips = {split}  # (4, {config.frames}, H, W, C)"]
    return "\n".join([
        "In a checkout of keras_diffusion, with this folder in `saved_models/`:",
        "",
        "```bash",
        f"python sample.py --model {shlex.quote(name)}{example}",
        "```",
        "",
        "```python",
        "import keras_diffusion as kd",
        "",
        f"model = kd.load({json.dumps(name)})",
        f"images = model.generate(4{argument})  # uint8 ({shape})",
        *frames,
        "```",
        "",
        "The folder is a SavedModel with whole samplers inside, so TensorFlow alone suffices: "
        f"`tf.saved_model.load(folder).generate_{config.sampler}(...)`. "
        f"`{export_folder.CONFIG_FILE.as_posix()}` holds classes and defaults.",
    ])  # fmt: skip


def _data(config):
    data, facts = data_of(config), config.training.get("data", {})
    lines = [f"{data.title[:1].upper()}{data.title[1:]}."]
    if "training images" in facts:
        lines.append(
            f"{facts['training images']:,} images for training ({facts['training split']}), "
            f"{facts['validation images']:,} for validation ({facts['validation split']})."
        )
    lines.append(f"Licence of the data: {data.rights}.")
    if data.license != "unknown":
        lines.append("The metadata above repeats it; change it there if you decide otherwise.")
    return " ".join(lines)


def _training(config, size):
    training = config.training
    options, length = training.get("config", {}), training.get("length", {})
    rows = []
    if length:
        rows += [
            ["images", f"{length['images']:,}, in {length['steps']:,} steps of "
             f"{length['batch size']}"],
            ["time", console.duration(60 * length["minutes"])],
        ]  # fmt: skip
    if "hardware" in training:
        rows.append(["hardware", training["hardware"]])
    rows += [[name, options[name]] for name in ("optimizer", "precision") if name in options]
    network = []
    if "network" in options:
        widths = ", ".join(map(str, options.get("widths", ())))
        network.append(f"{options['network']}, widths {widths}")
    if config.parameters:
        network.append(f"{console.number(config.parameters)} parameters")
    rows.append(["network", "; ".join(network) or "unknown"])
    if config.codec.get("kind") == "latents":
        shape = "x".join(map(str, config.codec.get("x_shape", ())))
        rows.append(["latents", f"{shape}, of an autoencoder that is inside of the export"])
    rows += [
        ["diffusion", f"{config.schedule} schedule, the network predicts {config.prediction_type}"],
        ["size", f"{size / 1e6:.1f} MB"],
    ]
    if config.created:
        rows.append(["exported", config.created[:10]])
    versions = {**training.get("versions", {}), **config.versions}
    if training.get("git_revision"):
        versions["revision"] = training["git_revision"]
    rows.append(["versions", ", ".join(f"{name} {value}" for name, value in versions.items())])
    table = console.table(["", ""], rows, markdown=True)
    return "\n\n".join([table, *_command(training)])


def _command(training):
    """Returns the paragraphs about the command that trains the model again, maybe none."""
    try:
        options = Config(**from_json(training.get("config")))
        command = command_line(options, training.get("decided", ()))
    except (AttributeError, TypeError, ValueError):  # unknown, or of a later version
        return []
    return ["Train such a model again:", f"```bash\n{command}\n```"]


def _scores(config, name, scores):
    if config.frames > 1:
        return "None: there are no scores for clips."
    if scores is None:
        return (
            f"None yet. `python evaluate.py --model {shlex.quote(name)}` adds them: distances to "
            "real images beside those that held-out real images have, and whether samples are "
            "copies of training images."
        )
    return (
        "The row of real, held-out images is the baseline: the scores that these get in place of "
        "samples. FID and KID depend on the feature extractor and on the number of images: compare "
        f"them only with scores of the same settings.\n\n{scores.strip()}"
    )


def _limits(config, scores):
    height, width, _ = config.image_shape
    facts = config.training.get("data", {})
    of = f" of {facts['training images']:,} images" if "training images" in facts else ""
    lines = [
        f"The model knows its training data{of} alone, at {width}x{height} pixels: everything it "
        "generates resembles them, with their gaps and biases.",
        "Not every sample is good. Guidance above 1 makes samples more typical and less diverse.",
    ]
    if not config.num_classes:
        lines[1] = "Not every sample is good."
    if config.prompts:
        lines.append(
            f"Prompts are of {len(config.prompts.words)} words, those of the class names and their "
            "templates; other words are errors. They tell no more than the class."
        )
    if scores is None:
        lines.append("Whether samples are copies of training images was not examined.")
    return "\n".join(f"- {line}" for line in lines)


def _plain(text):
    """Returns text as one line of Markdown without markup."""
    return re.sub(r"([\\`*{}\[\]<>#|])", r"\\\1", " ".join(str(text).split()))


# samples.png ---------------------------------------------------------------------------------


def sample_sheet(config, generate):
    """Generates the samples of a card: a class in each row, a seed in each column.

    Of clips, a row is the frames of one.

    A new column is begun as long as `SECONDS` have not passed since the first was done.

    Args:
        config: `ExportConfig`.
        generate: function (number of images, **options) -> uint8 (N, H, W, C), see
            `DiffusionModel.generate`.

    Returns:
        Pillow image.
    """
    count = config.num_classes
    rows = count if 0 < count <= 12 else MAX_ROWS
    labels = [row * count // rows for row in range(rows)] if count else None
    options = {"sampler": config.sampler, "num_steps": config.num_steps, "labels": labels}
    if count:
        options.update(config.guidance.options())
    columns, began, most = [], None, MAX_COLUMNS if config.frames == 1 else 1
    while len(columns) < most and (began is None or time.monotonic() - began < SECONDS):
        columns.append(generate(rows, seed=len(columns), **options))
        began = began or time.monotonic()
    images = np.stack(columns, axis=1).reshape(-1, *config.image_shape)
    sheet = grid(strips(images, config.frames), len(columns))
    if not count:
        return sheet
    names = config.class_names or list(map(str, range(count)))
    names = [readable(names[label], label) for label in labels]
    return add_labels(sheet, names, list(map(str, range(len(columns)))), "seed")
