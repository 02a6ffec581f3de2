"""Export: a SavedModel with the whole sampler inside, that needs none of this code."""

import json
import os
from pathlib import Path

import keras
import tensorflow as tf

from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.runtime.files import whole_folder
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling.request import checked_guidance, signature

# Of the folder; sample.py refuses a higher one than it knows. Endpoints of labelled models take as
# many arguments of guidance: 1, scale; 2, interval; 3, rescale. Prompts came with 3.
FORMAT = 3
CONFIG_FILE = os.path.join("assets.extra", "config.json")  # TensorFlow's folder for such files


def export_saved_model(
    model,
    path,
    *,
    sampler="dpmpp_2m",
    num_steps=20,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    class_names=(),
    training=None,
):
    """Writes the EMA network, the codec and all samplers as a SavedModel.

    Endpoints, of int32 tensors but those of guidance, which are float32, in this order:

        generate_SAMPLER(seed, indices, num_steps[, labels, guidance_scale, guidance_interval (2,),
            guidance_rescale]) -> uint8 images (N, H, W, C)
        trajectory_SAMPLER(the same) -> uint8 (21, N, H, W, C), from noise to picture
        denoise(x_t, t[, labels]) -> {"x0", "eps"}; x_t float32 (B, H, W, C), t (B,) in [0, 1];
            where the codec is one of latents, x_t has their shape

    `indices` (N,) are the numbers of the pictures, usually 0 .. N - 1: picture i depends on
    (seed, i) only. The bracketed arguments are those of labelled models. Models of prompts have
    tokens (N, L), negative_tokens (N, L) in the place of labels (denoise: tokens). `assets.extra/
    config.json` holds image shape, codec, class names, schedule, prediction type, the defaults
    and, where there are prompts, their words: word i is token i + 2; 1 begins each prompt, and 0
    fills it up to L.

    Args:
        model: a `DiffusionModel`.
        path: folder to write; an export that is there already is replaced once the new one
            is whole.
        sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale: defaults for
            whoever samples it, see `DiffusionModel.generate`.
        class_names: names of the classes, or empty; those of prompts are known.
        training: None, or what is worth knowing of the training, as JSON allows.

    Returns:
        The path.

    Raises:
        ValueError: `path` holds something that is not a SavedModel; a default that cannot be
            sampled with; class names that are not one for each class.
        OSError: it cannot be written; what was there before is there still.
    """
    path = check_target(path)
    class_names = class_names or (model.prompts.class_names if model.prompts else ())
    _check_defaults(model, sampler, num_steps, class_names)
    checked_guidance(guidance_scale, guidance_interval, guidance_rescale, model.num_classes)
    archive = keras.export.ExportArchive()
    archive.track(model.ema_network)
    specs = list(signature(model).values())
    for name in SAMPLERS:
        archive.add_endpoint(f"generate_{name}", _generator(model, name), specs)
        archive.add_endpoint(f"trajectory_{name}", _generator(model, name, num_frames=20), specs)
    archive.add_endpoint("denoise", *_denoise_endpoint(model))
    config = {
        **_described(model),
        "class_names": list(class_names),
        "sampler": sampler,
        "num_steps": num_steps,
        "guidance_scale": guidance_scale,
        "guidance_interval": [float(end) for end in guidance_interval],
        "guidance_rescale": float(guidance_rescale),
        "training": training or {},
    }
    with whole_folder(path) as part:
        try:
            archive.write_out(str(part), verbose=False)
        except tf.errors.OpError as error:  # such as a full disk
            raise OSError(f"{path}: cannot be written: {error.message}") from error
        (part / CONFIG_FILE).parent.mkdir(exist_ok=True)
        (part / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    return path


def _check_defaults(model, sampler, num_steps, class_names):
    lookup(SAMPLERS, sampler, "sampler")
    if not 1 <= num_steps <= 1000:
        raise ValueError(f"num_steps: {num_steps} is not in 1 .. 1000.")
    if len(class_names) not in (0, model.num_classes):
        raise ValueError(
            f"class_names: {len(class_names)} names for {model.num_classes} classes; "
            "give one for each, or none."
        )
    if model.prompts and tuple(class_names) != model.prompts.class_names:
        raise ValueError("class_names: those of the model's prompts are others; leave them out.")


def _described(model):
    """Returns what others need to know of a model, as JSON allows."""
    prompts = model.prompts
    if prompts:
        words = {"words": prompts.words, "length": prompts.length, "plain": prompts.plain}
        prompts = {**words, **prompts.get_config()}
    return {
        "format": FORMAT,
        "image_shape": model.image_shape,
        "codec": model.codec.describe(),
        "num_classes": model.num_classes,
        "prompts": prompts,
        "schedule": model.schedule,
        "prediction_type": model.prediction_type,
        "samplers": sorted(SAMPLERS),
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }


def _generator(model, sampler, num_frames=None):
    """An endpoint with positional arguments in the order of `signature`."""
    names = list(signature(model))
    graph = model.graphs.sampling(sampler, num_frames)

    def generate(*tensors):
        return graph(**dict(zip(names, tensors, strict=True)))

    return generate


def _denoise_endpoint(model):
    name = "tokens" if model.prompts else "label"

    def denoise(x_t, t, *told):
        denoiser = make_denoiser(
            model.graphs.network(),
            model.noise_schedule,
            model.prediction_type,
            condition={name: told[0]} if told else None,
        )
        x0, eps = denoiser(x_t, t)
        return {"x0": x0, "eps": eps}

    specs = [
        tf.TensorSpec((None, *model.x_shape), tf.float32, "x_t"),
        tf.TensorSpec((None,), tf.float32, "t"),
    ]
    if model.prompts:
        specs.append(tf.TensorSpec((None, model.prompts.length), tf.int32, "tokens"))
    elif model.num_classes:
        specs.append(tf.TensorSpec((None,), tf.int32, "labels"))
    return denoise, specs


def check_target(path):
    """Returns `path`, unless an export would replace what is not an export: ValueError."""
    path = Path(path)
    nearest = next(found for found in (path, *path.absolute().parents) if found.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest}: is not a folder; it is left as it is.")
    free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not free and not (path / "saved_model.pb").exists():
        raise ValueError(f"{path}: is not empty and not a SavedModel; it is left as it is.")
    return path
