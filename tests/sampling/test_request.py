"""A request accepts what fits its model, and turns it into arguments of a graph."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.sampling.request import Request

SHAPE = (4, 2, 3)
LABELLED = SimpleNamespace(num_classes=3, prompts=None, image_shape=SHAPE)
UNLABELLED = SimpleNamespace(num_classes=0, prompts=None, image_shape=SHAPE)
PROMPTS = Prompts(("ant", "bee", "cat"), ("{a} {name}", "{name}"))
PROMPTED = SimpleNamespace(num_classes=3, prompts=PROMPTS, image_shape=SHAPE)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)


def as_lists(arrays):
    return {name: array.tolist() for name, array in arrays.items()}


def test_labels_are_the_classes_in_turn():
    request = Request(model=LABELLED, num_images=5, seed=-1, guidance=Guidance(2, (0, 0.5), 1))
    assert as_lists(request.per_image) == {"indices": [0, 1, 2, 3, 4], "labels": [0, 1, 2, 0, 1]}
    assert as_lists(request.shared) == {
        "seed": -1, "num_steps": 20, "guidance_scale": 2.0, "guidance_interval": [0.0, 0.5],
        "guidance_rescale": 1.0,
    }  # fmt: skip
    assert {a.dtype.name for a in request.per_image.values()} == {"int32"}
    batches = [as_lists(rows) for rows in request.batches(3)]
    assert batches == [
        {"indices": [0, 1, 2], "labels": [0, 1, 2]},
        {"indices": [3, 4], "labels": [0, 1]},
    ]


def test_a_model_without_labels_has_no_guidance():
    request = Request(model=UNLABELLED, num_images=2, images=IMAGES / 255, strength=0.5)
    assert set(request.per_image) == {"indices", "images"}
    assert set(request.shared) == {"seed", "num_steps", "strength"}
    assert request.per_image["images"].dtype == request.shared["strength"].dtype == "float32"


def test_prompts_are_tokens():
    def tokens(**options):
        options = {"guidance": Guidance(2.0), **options}
        arrays = as_lists(Request(model=PROMPTED, num_images=2, **options).per_image)
        return arrays["tokens"], arrays["negative_tokens"]

    plain, nothing = [[1, 2, 6], [1, 3, 4]], [[1, 0, 0]] * 2
    assert tokens(labels=[2, 0]) == (plain, nothing)
    assert tokens(prompts=["A cat!", "an ant"]) == (plain, nothing)
    assert tokens(prompts="bee", negative_prompts="cat") == ([[1, 5, 0]] * 2, [[1, 6, 0]] * 2)


@pytest.mark.parametrize(
    ("model", "name", "values"),
    [
        (LABELLED, "num_images", [0, -1]),
        (LABELLED, "num_steps", [0]),
        (LABELLED, "seed", [2**31, -(2**31) - 1]),
        (LABELLED, "strength", [0, 1.5, float("nan")]),
        (LABELLED, "labels", [[0], [0, 1, 2], [[0, 1]], 0, [0, -1], [0, 4], [0, 1.5], [0, 2**32]]),
        (LABELLED, "labels", [[0, float("nan")]]),
        (LABELLED, "prompts", ["ant"]),
        (LABELLED, "negative_prompts", ["ant"]),
        (UNLABELLED, "labels", [[0, 1]]),
        (UNLABELLED, "guidance_scale", [Guidance(2.0)]),
        (LABELLED, "endpoints", [IMAGES[:1], IMAGES[..., 0], IMAGES.astype("int64")]),
        (LABELLED, "images", [IMAGES[:1]]),
        (PROMPTED, "prompts", ["red", ["ant"], "an ant bee"]),
        (PROMPTED, "negative_prompts", ["ant"]),  # without guidance
    ],
)
def test_what_does_not_fit_is_rejected(model, name, values):
    for value in values:
        argument = "guidance" if name.startswith("guidance") else name
        with pytest.raises(ValueError, match=f"^{name}: "):
            Request(**{"model": model, "num_images": 2, argument: value})


def test_prompts_and_labels_exclude_each_other():
    with pytest.raises(ValueError, match="^prompts: "):
        Request(model=PROMPTED, num_images=1, prompts="ant", labels=[0])
    with pytest.raises(ValueError, match="^batch_size: "):
        list(Request(model=PROMPTED, num_images=1).batches(0))
