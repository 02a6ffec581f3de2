"""Export: a SavedModel with whole samplers inside, which needs none of this package."""

import contextlib
import functools
import inspect
import math

import keras
import tensorflow as tf

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion.samplers import SAMPLERS
from keras_diffusion.models.diffusion_model import in_float32
from keras_diffusion.plotting.images import save_png
from keras_diffusion.runtime.files import whole_folder
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling.graphs import SamplingGraphs, signature
from keras_diffusion.saving import export_folder, model_card
from keras_diffusion.saving.export_folder import ExportConfig, check_target

TRAJECTORY_FRAMES = 20  # besides the start
PRECISIONS = {"auto": lambda model: model, "float32": in_float32}
LARGEST_CONSTANTS = 2**30  # bytes of weights in a graph, which protobuf limits to 2 GiB


def export_saved_model(
    model,
    path,
    *,
    samplers=None,
    sampler="dpmpp_2m",
    num_steps=20,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    class_names=(),
    frames=1,
    precision="auto",
    training=None,
):
    """Writes the EMA network, the codec and samplers as a SavedModel, with a model card.

    Endpoints, called by argument name after `tf.saved_model.load`; int32 but for guidance:

        generate_SAMPLER(seed, indices, num_steps[, labels, guidance_scale, guidance_interval,
            guidance_rescale]) -> uint8 images (N, H, W, C)
        trajectory_SAMPLER(the same) -> uint8 (21, N, H, W, C), from noise to image
        denoise(x_t, t[, labels]) -> {"x0", "eps"}, x0 not clipped; x_t float32 (B, H, W, C), t
            (B,) in [0, 1]; with a codec for latents, x_t has their shape
        encode(images) -> x, decode(x) -> uint8 images, with a codec for latents; float32 images
            in [0, 1]

    `indices` (N,) are the numbers of the images, usually 0 .. N - 1: image i depends on
    (seed, i) only. The arguments in brackets are those of labelled models, guidance_interval
    has shape (2,). Models with prompts take tokens (N, L) and negative_tokens (N, L) instead of
    labels (denoise: tokens). `assets.extra/config.json` is described by `ExportConfig`; word i of
    its prompts is token i + 2, 1 begins each prompt, and 0 pads it to L. README.md and samples.png
    are the model card, see `saving.model_card`.

    Args:
        model: a `DiffusionModel`.
        path: folder to write; an export that is there already is replaced once the new one
            is whole. What its owner wrote into its model card is kept.
        samplers: names of the samplers that get endpoints; None: all. Each costs seconds.
        sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale: defaults for
            whoever samples it, see `DiffusionModel.generate`.
        class_names: names of the classes, or empty; those of prompts are known.
        frames: int, of each clip of a model of clips; 1: images.
        precision: "auto": that of the model; "float32": runs at full speed on every processor.
            bfloat16 is slow where the processor does not multiply in it.
        training: None, or a dict of facts about the training, as JSON allows.

    Returns:
        The path.

    Raises:
        ValueError: `path` holds something other than a SavedModel; an unknown sampler or
            precision; a default that cannot be sampled with; class names that are not one for each
            class.
        OSError: it cannot be written; what was there before is kept.
    """
    path = check_target(path)
    model = lookup(PRECISIONS, precision, "precision")(model)
    config = ExportConfig(
        image_shape=model.image_shape,
        frames=frames,
        codec=model.codec.describe(),
        num_classes=model.num_classes,
        class_names=class_names or (model.prompts.class_names if model.prompts else ()),
        prompts=model.prompts,
        schedule=model.schedule,
        prediction_type=model.prediction_type,
        samplers=tuple(sorted(SAMPLERS if samplers is None else samplers)),
        sampler=sampler,
        num_steps=num_steps,
        guidance=Guidance(guidance_scale, guidance_interval, guidance_rescale),
        training=training or {},
        versions={"keras": keras.__version__, "tensorflow": tf.__version__},
        created=export_folder.now(),
        parameters=model.ema_network.count_params(),
    )
    for name in config.samplers:
        lookup(SAMPLERS, name, "sampler")
    endpoints = _endpoints(model, config.samplers)
    module = tf.Module()
    for name, endpoint in endpoints.items():
        setattr(module, name, endpoint)
    parts = [part for part in (model.ema_network, model.codec) if isinstance(part, keras.Layer)]
    weights = [variable for part in parts for variable in part.variables]
    constant = sum(4 * math.prod(weight.shape) for weight in weights) <= LARGEST_CONSTANTS
    if not constant:
        module.weights = [weight.value for weight in weights]  # what is not tracked is not saved
    samples = model_card.sample_sheet(config, model.generate)
    with whole_folder(path) as part:
        try:
            with _ConstantWeights(weights) if constant else contextlib.nullcontext():
                # This traces the endpoints; what is traced before would be traced again.
                tf.saved_model.save(module, str(part), signatures=endpoints)
        except tf.errors.OpError as error:  # such as a full disk
            raise OSError(f"{path}: cannot be written: {error.message}") from error
        export_folder.write(config, part)
        save_png(part / model_card.SAMPLES_FILE, samples)
        model_card.write(part, path.resolve().name, replaces=path)
    return path


class _ConstantWeights(keras.StatelessScope):
    """Scope in which weights are traced as constants, once in each graph that reads them.

    As variables, hundreds of them would be arguments of every function around the network, and
    `tf.saved_model.load` would take three times as long.
    """

    def __init__(self, variables):
        super().__init__()
        self._values = {id(variable): variable.numpy() for variable in variables}
        self._constants = {}

    def get_current_value(self, variable):
        key = tf.compat.v1.get_default_graph(), id(variable)
        if key not in self._constants:
            self._constants[key] = tf.constant(self._values[id(variable)])
        return self._constants[key]


def _endpoints(model, samplers):
    """Returns {name: tf.function}; they share the graphs of network and decoder."""
    graphs, specs = SamplingGraphs(model), signature(model)
    endpoints = {"denoise": _endpoint(*_denoise(model, graphs))}
    for name in samplers:
        for kind, num_frames in (("generate", None), ("trajectory", TRAJECTORY_FRAMES)):
            sample = functools.partial(graphs.sample, name, num_frames, model.schedule)
            endpoints[f"{kind}_{name}"] = _endpoint(sample, specs)
    if model.x_shape != model.image_shape:  # latents
        images = tf.TensorSpec((None, *model.image_shape), tf.float32, "images")
        x = tf.TensorSpec((None, *model.x_shape), tf.float32, "x")
        endpoints["encode"] = _endpoint(
            lambda images: model.codec.encode(images), {"images": images}
        )
        endpoints["decode"] = _endpoint(graphs.decode, {"x": x})
    return endpoints


def _endpoint(function, specs):
    """Returns a function of keyword arguments as a tf.function with the parameters of `specs`."""

    def endpoint(*args, **kwargs):
        return function(**dict(zip(specs, args, strict=False)), **kwargs)

    # tf.function takes the names of the arguments from here.
    endpoint.__signature__ = inspect.Signature(
        [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in specs]
    )
    return tf.function(endpoint, input_signature=list(specs.values()), autograph=False)


def _denoise(model, graphs):
    """Returns the function of the denoise endpoint and its arguments, {name: TensorSpec}."""

    def denoise(**arguments):
        x0, eps = graphs.denoise(**arguments)
        return {"x0": x0, "eps": eps}

    specs = {
        "x_t": tf.TensorSpec((None, *model.x_shape), tf.float32, "x_t"),
        "t": tf.TensorSpec((None,), tf.float32, "t"),
    }
    condition = ("labels", "tokens")
    specs.update({name: spec for name, spec in signature(model).items() if name in condition})
    return denoise, specs
