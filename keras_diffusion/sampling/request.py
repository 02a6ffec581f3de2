"""A request: what one call of `generate` or `img2img` asks for, as arguments of a graph.

Neither Keras nor TensorFlow is imported, so that `sample.py` can check its flags here.
"""

import dataclasses
import numbers
from typing import Any

import numpy as np

from keras_diffusion.config.guidance import Guidance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of a sampling graph for N images, checked.

    Args:
        model: its `num_classes`, `prompts` and `image_shape` decide what fits.
        num_images: N; image i depends only on (seed, i).
        guidance: `Guidance`.
        images, strength: what `img2img` starts from: (N, H, W, C), and a time in (0, 1].
        num_steps, seed, labels, prompts, negative_prompts, endpoints: see
            `DiffusionModel.generate`.

    Attributes:
        per_image: {name: array (N, ...)}: "indices"; "labels" of a labelled model, or "tokens"
            and "negative_tokens" of one with prompts; "endpoints" and "images" if there are any.
        shared: {name: array}: "seed", "num_steps", "strength" and, of a labelled model,
            `Guidance.NAMES`.

    Raises:
        ValueError: an argument that is out of bounds or does not fit the model, by its name.
    """

    model: Any
    num_images: int
    num_steps: int = 20
    seed: int = 0
    labels: Any = None
    prompts: Any = None
    negative_prompts: Any = None
    guidance: Guidance = Guidance()
    endpoints: Any = None
    images: Any = None
    strength: float | None = None
    per_image: dict = dataclasses.field(init=False)
    shared: dict = dataclasses.field(init=False)

    def __post_init__(self):
        for name in ("num_images", "num_steps", "seed"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or value % 1:
                raise ValueError(f"{name}: {value!r} is not a whole number.")
            object.__setattr__(self, name, int(value))
        for name in ("num_images", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not 1 or more.")
        if not -(2**31) <= self.seed < 2**31:
            raise ValueError(f"seed: {self.seed} does not fit into 32 bits.")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength: {self.strength} is not in (0, 1].")
        self.guidance.check_labels(self.model.num_classes)
        object.__setattr__(self, "per_image", self._per_image())
        object.__setattr__(self, "shared", self._shared())

    def batches(self, batch_size):
        """Yields `per_image` for `batch_size` images at a time, the last ones maybe fewer."""
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size} is not 1 or more.")
        for first in range(0, self.num_images, batch_size):
            rows = slice(first, first + batch_size)
            yield {name: values[rows] for name, values in self.per_image.items()}

    def _per_image(self):
        arrays = {"indices": np.arange(self.num_images, dtype="int32"), **self._condition()}
        for name in ("endpoints", "images"):
            if getattr(self, name) is not None:
                arrays[name] = self._checked_images(name)
        return arrays

    def _shared(self):
        arrays = {"seed": np.int32(self.seed), "num_steps": np.int32(self.num_steps)}
        if self.model.num_classes:
            options = self.guidance.options()
            arrays.update({name: np.float32(value) for name, value in options.items()})
        if self.strength is not None:
            arrays["strength"] = np.float32(self.strength)
        return arrays

    def _condition(self):
        """Returns {"labels"}, or {"tokens", "negative_tokens"}, or {}."""
        if self.prompts is not None and self.labels is not None:
            raise ValueError("prompts: take the place of labels; give one of the two.")
        labels = self._checked_labels()
        if self.model.prompts:
            if self.negative_prompts is not None and self.guidance.scale == 1:
                raise ValueError("negative_prompts: no effect at guidance_scale 1.")
            null = np.full_like(labels, self.model.num_classes)
            return {
                "tokens": self._tokens("prompts", labels),
                "negative_tokens": self._tokens("negative_prompts", null),
            }
        for name in ("prompts", "negative_prompts"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: this model was trained without prompts.")
        return {} if labels is None else {"labels": labels}

    def _checked_labels(self):
        """Returns int32 (N,); None for a model without labels."""
        num_classes = self.model.num_classes
        if not num_classes:
            if self.labels is not None:
                raise ValueError("labels: this model was trained without labels.")
            return None
        if self.labels is None:
            return np.arange(self.num_images, dtype="int32") % num_classes
        try:
            values = np.asarray(self.labels)
        except ValueError:  # lists of different lengths
            values = np.asarray(None)
        if values.dtype.kind not in "iufb":
            raise ValueError(f"labels: must be whole numbers; got {self.labels!r}.")
        with np.errstate(invalid="ignore"):  # nan becomes an int, and is rejected below
            labels = values.astype("int32")
        if labels.shape != (self.num_images,):
            raise ValueError(f"labels: shape {labels.shape} for {self.num_images} images.")
        if (labels != values).any() or labels.min() < 0 or labels.max() > num_classes:
            raise ValueError(
                f"labels: must be 0 .. {num_classes - 1}, or {num_classes} for no class."
            )
        return labels

    def _tokens(self, name, labels):
        """Returns int32 (N, L), of a text for all images, of N texts, or of the labels."""
        prompts, texts = self.model.prompts, getattr(self, name)
        if texts is None:
            return prompts.table[labels, 0]  # the plain prompts
        texts = [texts] * self.num_images if isinstance(texts, str) else list(texts)
        if len(texts) != self.num_images:
            raise ValueError(f"{name}: {len(texts)} texts for {self.num_images} images.")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        try:
            return prompts.tokens(list(rows))[[rows[text] for text in texts]]
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _checked_images(self, name):
        """Returns uint8 or float32 (N, H, W, C)."""
        images, shape = np.asarray(getattr(self, name)), (self.num_images, *self.model.image_shape)
        if images.shape != shape:
            raise ValueError(f"{name}: shape {images.shape}; it must be {shape}.")
        if images.dtype.kind == "f":
            if not (abs(images - 0.5) <= 0.501).all():  # NaN is not, either
                raise ValueError(f"{name}: NaN, or floats outside of [0, 1].")
            return images.astype("float32")
        if images.dtype != np.uint8:
            raise ValueError(
                f"{name}: dtype {images.dtype}; give uint8 in 0 .. 255 or floats in [0, 1]."
            )
        return images
