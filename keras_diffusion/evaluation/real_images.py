"""The real images that scores compare with, prepared as for training."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from keras_diffusion import build
from keras_diffusion.config.options import EXTRACTORS, Config
from keras_diffusion.data import pipeline
from keras_diffusion.data.sources import Source
from keras_diffusion.evaluation import references

CACHE = Path("evaluations/cache")  # of trained classifiers, and of features of real images
OPTIONS = ("dataset", "folder", "data_dir", "train_split", "val_split")  # of `Config`, see `load`


@dataclasses.dataclass(frozen=True)
class RealImages:
    """Both splits of a data set, resized as for training, in their own order, not mirrored.

    Attributes:
        source: `data.sources.Source`.
        arrays: dict of `train_images`, `test_images` (the validation split), uint8 (N, H, W, C),
            and, if the data has labels, `train_labels` and `test_labels`, int64 (N,).
        flip: bool, whether training mirrors half of them.
    """

    source: Source
    arrays: dict
    flip: bool

    @property
    def facts(self):
        """dict of what is written beside every score."""
        return {
            "name": self.source.name,
            "reference_split": self.source.train_split,
            "reference_images": len(self.arrays["train_images"]),
            "held_out_split": self.source.val_split,
            "held_out_images": len(self.arrays["test_images"]),
        }

    def labels(self, num, seed):
        """Returns int32 (num,) random labels, distributed as in the training split."""
        return sample_labels(self.arrays["train_labels"], num, seed)


def sample_labels(labels, num, seed):
    """Returns int32 (num,) random labels, from those in `labels`.

    Labels in exactly equal shares would score better than real images do, as the classes of a
    random sample of these are not balanced.
    """
    return np.random.default_rng(seed).choice(labels, num).astype("int32")


def from_source(source, image_shape, flip):
    """Returns the `RealImages` of a source; of very many, the first that fit into memory."""
    most = pipeline.MEMORY_LIMIT // 2 // math.prod(image_shape)  # of each split
    source = source if source.num_train <= most else source.limited(most)
    arrays = {}
    for split, data, count in (
        ("train", source.train, source.num_train),
        ("test", source.validation.take(most), min(source.num_val, most)),
    ):
        columns = pipeline.read(pipeline.prepared(data, *image_shape), count)
        arrays.update({f"{split}_{name}s": values for name, values in columns.items()})
    return RealImages(source, arrays, flip)


def load(model, options):
    """Returns the `RealImages` that a model was trained on, or others of that shape.

    Args:
        model: `LoadedModel`.
        options: dict of `OPTIONS` that replace those of the training; None values are skipped.
            Another data set than the one of the training has its own splits.

    Raises:
        ValueError, FileNotFoundError: as `build.load_data`; the data set is not known; a model
            of one image; another number of classes than the model's.
    """
    options = {name: value for name, value in options.items() if value is not None}
    height, width, channels = model.image_shape
    shape = {"image_size": (height, width), "channels": channels, "unconditional": False}
    data = build.load_data(Config(**{**data_options(model.options, options), **shape}))
    source, flip = data.source, data.horizontal_flip
    del data  # its own copy of the images
    if model.num_classes not in (0, source.num_classes):
        name = "--folder" if options.get("folder") else "--dataset"
        raise ValueError(
            f"{name}: {source.name} has {source.num_classes} classes, the model has "
            f"{model.num_classes}; give the data that it was trained on."
        )
    return from_source(source, model.image_shape, flip)


def data_options(trained_with, options):
    """Returns the options of `Config` for the data: those of the training, with others.

    Args:
        trained_with: dict of all options of the training; empty if unknown.
        options: dict of `OPTIONS`.
    """
    names = (*OPTIONS, "limit", "horizontal_flip")
    own = {name: trained_with[name] for name in names if name in trained_with}
    if "dataset" in options or "folder" in options:
        if _data_name(options) == _data_name(own):
            return {**own, **options}
        if own:
            print(f"{_data_name(options)} is not the training data: its own splits are used")
        kept = {name: own[name] for name in own if name == "data_dir"}
        return {"dataset": Config.dataset, **kept, **options}
    if trained_with.get("image"):
        raise ValueError(
            "--dataset: the model was trained on one image, which is no data set to score "
            "against; give --dataset or --folder."
        )
    if not own:
        raise ValueError(
            "--dataset: the training data of the model is unknown; give --dataset or --folder."
        )
    return {**own, **options}


def _data_name(options):
    """Returns what identifies the data; a folder keeps its name when it is moved."""
    folder = options.get("folder")
    return f"folder {Path(folder).resolve().name}" if folder else options.get("dataset")


def check_scores(config, source):
    """Raises ValueError if the images of a run cannot be scored as its `Config` asks.

    Args:
        config: `Config`.
        source: `data.sources.Source` of the run.
    """
    name = config.score_extractor
    if config.score_every is None:
        return
    if config.image:
        raise ValueError(
            "--score-every: one image is no data set to score against; every epoch of such a run "
            "has its psnr and ssim."
        )
    if name not in EXTRACTORS and not Path(name).is_file():
        choices = ", ".join(EXTRACTORS)
        raise ValueError(
            f"--set score_extractor: unknown {name!r}. Choose from: {choices}, or the path of a "
            "Keras model."
        )
    if name == "classifier" and source.num_classes < 2 and not config.unconditional:
        number = "one class" if source.num_classes else "none"
        raise ValueError(
            f"--score-every: the classifier learns from labels, and {source.name} has {number}; "
            "give --set score_extractor=inception, or a Keras model's path."
        )


def reference_of_run(config, data):
    """Returns (`RealImages`, `Reference`) for the scores of a run.

    Args:
        config: `Config`.
        data: `data.TrainingData` of the run.

    Raises:
        ValueError, OSError: as `references.prepare`.
    """
    source = data.source
    if config.unconditional:  # the classifier learns from labels all the same
        source = build.load_data(dataclasses.replace(config, unconditional=False)).source
    real = from_source(source, data.image_shape, data.horizontal_flip)
    try:
        accuracy = not config.unconditional
        reference = references.prepare(config.score_extractor, real, CACHE, accuracy=accuracy)
    except (ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--set score_extractor: {error}") from error
    return real, reference
