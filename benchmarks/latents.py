"""Latents beside pixels: what training, sampling, memory and the way in and out of latents cost.

The presets of both data sets, as `train.py` takes them with and without --latent, on made-up
images: what they show and what the weights are takes no time.
"""

import time

from benchmarks import runs
from benchmarks.training import clock_of

DATASETS = {  # title, shape of the images, classes
    "cifar10": ("CIFAR-10 32x32", (32, 32, 3), 10),
    "oxford_flowers102": ("Oxford Flowers 64x64", (64, 64, 3), 102),
}
KINDS = {"pixels": "pixels", "latents": "latents", "autoencoder": "stage one, the autoencoder"}
BATCH, NUM_STEPS, GUIDANCE = 64, 20, 2.0
IMAGES = 1024  # that are made up
TINY, TINY_CODEC = {"widths": (8, 8), "embedding_width": 16}, {"codec_widths": (8,)}


def training(dataset, kind, tiny=False):
    """Trains for a while; in a fresh process."""
    from benchmarks.subjects.keras_parts import WITHOUT_END, Stop

    model = _model(dataset, kind, tiny)
    clock = clock_of(tiny)
    model.fit(
        _batches(model, kind, DATASETS[dataset][2]),
        steps_per_epoch=WITHOUT_END,
        callbacks=[Stop(clock)],
        shuffle=False,
        verbose=0,
    )
    return {"images_per_second": BATCH * clock.rate, **_costs(model, kind)}


def drawing(dataset, kind, tiny=False):
    """Draws guided pictures, and goes from images to x and back; in a fresh process."""
    import tensorflow as tf

    model = _model(dataset, kind, tiny)
    num = 4 if tiny else BATCH
    options = {"num_steps": 2 if tiny else NUM_STEPS, "guidance_scale": GUIDANCE}
    images = tf.constant(_made_up(num, model.image_shape))
    x = tf.zeros((num, *model.x_shape))
    calls = {
        "draw": lambda: model.generate(num, seed=1, **options),
        "encode": _quick(model.codec.encode, images),
        "decode": _quick(model.codec.decode, x),
    }
    return {name: _seconds(call) / num for name, call in calls.items()}


def _model(dataset, kind, tiny):
    import keras

    from keras_diffusion import LatentCodec, build
    from keras_diffusion.config.resolve import resolve
    from keras_diffusion.runtime import precision

    keras.config.set_dtype_policy(precision.policy("auto")[0])
    keras.utils.set_random_seed(0)
    given = dict(TINY) if tiny else {}
    if kind != "pixels":
        given.update(latent=True, **(TINY_CODEC if tiny else {}))
    config = resolve(dataset, given)
    _, shape, num_classes = DATASETS[dataset]
    if kind == "pixels":
        return build.model(config, shape, num_classes)
    autoencoder = build.autoencoder(config, shape)
    if kind == "autoencoder":
        return autoencoder
    codec = LatentCodec(autoencoder.encoder, autoencoder.decoder)
    return build.model(config, shape, num_classes, codec)


def _batches(model, kind, num_classes):
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    arrays = {"image": _made_up(IMAGES, model.image_shape)}
    if kind == "latents":
        arrays = {"latent": rng.standard_normal((IMAGES, *model.x_shape)).astype("float16")}
    arrays["label"] = rng.integers(0, num_classes, IMAGES)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH).repeat().prefetch(2)


def _made_up(count, shape):
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def _costs(model, kind):
    from keras_diffusion.networks.costs import estimate_costs

    networks = [model.encoder, model.decoder] if kind == "autoencoder" else [model.network]
    found = [estimate_costs(network, BATCH) for network in networks]
    return {name: sum(each[name] for each in found) for name in ("parameters", "flops")}


def _quick(function, tensor):
    import tensorflow as tf

    graph = tf.function(function)
    return lambda: graph(tensor).numpy()


def _seconds(call, times=3):
    """The shortest of a few calls, after one that traces."""
    call()
    found = []
    for _ in range(times):
        began = time.monotonic()
        call()
        found.append(time.monotonic() - began)
    return min(found)


def run(options):
    """Measures pixels, latents and stage one of both data sets in turns."""
    found = {"tiny": options.tiny}
    for dataset in list(DATASETS)[: 1 if options.tiny else None]:

        def measure(kind, dataset=dataset):
            arguments = {"dataset": dataset, "kind": kind, "tiny": options.tiny}
            trained = runs.in_fresh_process("latents.training", **arguments)
            drawn = {}
            if kind != "autoencoder":
                drawn = runs.in_fresh_process("latents.drawing", **arguments)
            return {**drawn, "drawing_mib": drawn.get("peak_mib"), **trained}

        results = runs.in_turns(measure, list(KINDS), options.rounds)
        found[dataset] = dict(zip(KINDS, results, strict=True))
    return found


def report(found):
    """Returns a table for each data set."""
    parts = []
    for dataset, (title, _, _) in DATASETS.items():
        if dataset in found:
            parts += [f"## Latents beside pixels, {title}", _table(found[dataset])]
            parts.append(_way_in_and_out(found[dataset]["latents"]))
    rounds = max(  # what has failed has none
        len(result.get("runs", ())) for name in DATASETS for result in found.get(name, {}).values()
    )
    how = (
        f"Presets, batch {BATCH}; pictures are guided, {NUM_STEPS} steps of dpmpp_2m. Medians of "
        f"{rounds} rounds."
    )
    return "\n\n".join([parts[0], how, *parts[1:]])


def _table(results):
    pixels = results["pixels"]
    rows = []
    for kind, result in results.items():
        if "failed" in result:
            rows.append([KINDS[kind], "-", "-", result["failed"], *"----"])
            continue
        first = result["runs"][0]
        cells = [KINDS[kind], f"{first['parameters'] / 1e6:.2f} M", f"{first['flops'] / 1e9:.2f}"]
        rate, slower = (_median(each, "images_per_second") for each in (result, pixels))
        cells += [f"**{runs.figure(1000 / rate)}**", runs.times(slower and rate / slower)]
        cells.append(runs.figure(_median(result, "peak_mib")))
        if kind == "autoencoder":
            rows.append([*cells, "-", "-"])
            continue
        seconds, longer = _median(result, "draw"), _median(pixels, "draw")
        cells += [f"**{runs.figure(1000 * seconds)}**", runs.times(longer and longer / seconds)]
        rows.append(cells)
    header = ["", "parameters", "GFLOP forward", "ms per image, training", "ratio", "MiB, training",
              "ms per picture", "ratio"]  # fmt: skip
    return runs.table(header, rows)


def _way_in_and_out(latents):
    if "failed" in latents:
        return ""
    encode, decode = (1000 * _median(latents, name) for name in ("encode", "decode"))
    return (
        f"An image is encoded in {runs.figure(encode)} ms, once and not in each step, and decoded "
        f"in {runs.figure(decode)} ms, which the time for a picture includes."
    )


def _median(result, name):
    if "failed" in result:
        return None
    return runs.summary(run[name] for run in result["runs"])["median"]
