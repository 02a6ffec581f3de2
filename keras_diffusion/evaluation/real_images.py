"""The real pictures that scores are held against, read as training reads them."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from keras_diffusion import build
from keras_diffusion.config.options import Config
from keras_diffusion.data import pipeline
from keras_diffusion.data.sources import Source
from keras_diffusion.evaluation import extractors, reference

CACHE = Path("evaluations/cache")  # of trained classifiers, and features of real pictures
WHERE = ("dataset", "folder", "data_dir", "train_split", "val_split")  # what may be given anew


@dataclasses.dataclass(frozen=True)
class Real:
    """Both splits of a data set, resized as for training, in their own order, not mirrored.

    Attributes:
        source: `data.sources.Source`.
        arrays: dict of `train_images`, `test_images` (the validation split), uint8 (N, H, W, C),
            and, where the data has labels, `train_labels` and `test_labels`, int64 (N,).
        flip: bool, whether training mirrors half of them.
    """

    source: Source
    arrays: dict
    flip: bool

    @property
    def facts(self):
        """dict of what is to stand beside every score."""
        return {
            "name": self.source.name,
            "reference_split": self.source.train_split,
            "reference_images": len(self.arrays["train_images"]),
            "held_out_split": self.source.val_split,
            "held_out_images": len(self.arrays["test_images"]),
        }

    def labels(self, num, seed):
        """Returns int32 (num,) labels, drawn by their shares in the training split."""
        return labels_by_shares(self.arrays["train_labels"], num, seed)


def labels_by_shares(known, num, seed):
    """Returns int32 (num,) labels, drawn from known ones.

    Labels in equal shares would bring pictures nearer to the real ones than such a number of real
    pictures is: their classes do not come in equal shares.
    """
    return np.random.default_rng(seed).choice(known, num).astype("int32")


def of(source, image_shape, flip):
    """Returns the `Real` pictures of a source; of very many, the first that fit in memory."""
    most = pipeline.MEMORY_LIMIT // 2 // math.prod(image_shape)  # of each split
    source = source if source.num_train <= most else source.limited(most)
    arrays = {}
    for part, data, count in (
        ("train", source.train, source.num_train),
        ("test", source.validation.take(most), min(source.num_val, most)),
    ):
        found = pipeline.read(pipeline.prepared(data, *image_shape), count)
        arrays.update({f"{part}_{name}s": values for name, values in found.items()})
    return Real(source, arrays, flip)


def read(model, given):
    """Returns the `Real` pictures that a model was trained on, or others of that shape.

    Args:
        model: `trained.Trained`.
        given: dict of options in `WHERE`, instead of those of the training; None is not given.
            Data of another name than the training's has its own splits.

    Raises:
        ValueError, FileNotFoundError: as `build.load_data`; nothing says where they are; a model
            of one picture; another number of classes than the model's.
    """
    given = {name: value for name, value in given.items() if value is not None}
    options = _options(model, given)
    height, width, channels = model.image_shape
    shaped = {"image_size": (height, width), "channels": channels, "unconditional": False}
    data = build.load_data(Config(**{**options, **shaped}))
    source, flip = data.source, data.horizontal_flip
    del data  # its own copy of the images
    if model.num_classes not in (0, source.num_classes):
        raise ValueError(
            f"--dataset: {source.name} has {source.num_classes} classes, the model has "
            f"{model.num_classes}; give the data that it was trained on."
        )
    return of(source, model.image_shape, flip)


def _options(model, given):
    """Options of `Config` that say which pictures: those of the training, changed by `given`."""
    names = (*WHERE, "limit", "horizontal_flip")
    saved = {name: model.config[name] for name in names if name in model.config}
    if "dataset" in given or "folder" in given:
        if _name(given) == _name(saved):
            return {**saved, **given}
        if saved:
            print(f"{_name(given)} is not what the model was trained on: its splits are its own")
        kept = {name: saved[name] for name in saved if name == "data_dir"}
        return {"dataset": Config.dataset, **kept, **given}
    if model.config.get("image"):
        raise ValueError(
            "--dataset: the model was trained on one picture, which is no data set to score "
            "against; give --dataset or --folder."
        )
    if not saved:
        raise ValueError(
            "--dataset: the model does not say what it was trained on; give --dataset or --folder."
        )
    return {**saved, **given}


def _name(options):
    """What tells data sets apart: a folder keeps its own name when it is moved."""
    folder = options.get("folder")
    return f"folder {Path(folder).resolve().name}" if folder else options.get("dataset")


def check_scores(config, source):
    """Raises ValueError, if a run's pictures cannot be scored as its Config asks.

    Args:
        config: `Config`.
        source: `data.sources.Source` of the run.
    """
    name = config.score_extractor
    if config.score_every is None:
        return
    if config.image:
        raise ValueError(
            "--score-every: one picture is no data set to score against; every epoch of such a run "
            "has its psnr and ssim."
        )
    if name not in extractors.NAMES and not Path(name).is_file():
        choices = ", ".join(extractors.NAMES)
        raise ValueError(
            f"--score-extractor: unknown {name!r}. Choose from: {choices}, or a Keras model's path."
        )
    if name == "classifier" and source.num_classes < 2 and not config.unconditional:
        found = "one class" if source.num_classes else "none"
        raise ValueError(
            f"--score-every: the classifier learns from labels, and {source.name} has {found}; "
            "give --set score_extractor=inception, or a Keras model's path."
        )


def judge_of_run(config, data):
    """Returns (`Real`, `evaluation.reference.Reference`) for the scores of a run.

    Args:
        config: `Config`.
        data: `data.TrainingData` of the run.

    Raises:
        ValueError, OSError: as `reference.prepare`.
    """
    source = data.source
    if config.unconditional:  # the classifier learns from labels all the same
        source = build.load_data(dataclasses.replace(config, unconditional=False)).source
    pictures = of(source, data.image_shape, data.horizontal_flip)
    try:
        judge = reference.prepare(
            config.score_extractor,
            pictures.arrays,
            CACHE,
            data_name=source.name,
            flip=pictures.flip,
            accuracy=not config.unconditional,
        )
    except (ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--score-extractor: {error}") from error
    return pictures, judge
