"""Latents beside pixels: the cost of training, sampling, memory, encoding and decoding.

The presets of both data sets, as `train.py` takes them with and without --latent, on synthetic
images: the values of images and weights take no time.
"""

from benchmarks import formats, runs, subjects
from benchmarks.training import make_clock

# The titles are those of the reports, the shape is (H, W, C).
DATASETS = {
    "cifar10": {"title": "CIFAR-10 32x32", "shape": (32, 32, 3), "num_classes": 10},
    "oxford_flowers102": {
        "title": subjects.DATASET_TITLES["flowers"], "shape": (64, 64, 3), "num_classes": 102,
    },
}  # fmt: skip
KINDS = {"pixels": "pixels", "latents": "latents", "autoencoder": "stage one, the autoencoder"}
BATCH, NUM_STEPS, GUIDANCE_SCALE = 64, 20, 2.0
NUM_IMAGES = 1024  # synthetic ones
TINY = {"widths": (8, 8), "embedding_width": 16}
TINY_CODEC = {"codec_widths": (8,)}


def measure_training(dataset, kind, tiny=False):
    """Trains for a while; runs in a fresh process."""
    import numpy as np
    import tensorflow as tf

    from benchmarks.subjects import keras_parts
    from keras_diffusion.networks.costs import estimate_costs

    model, clock = _model(dataset, kind, tiny), make_clock(tiny)
    rng = np.random.default_rng(0)
    if kind == "latents":
        latents = rng.standard_normal((NUM_IMAGES, *model.x_shape)).astype("float16")
        arrays = {"latent": latents}
    else:
        arrays = {"image": rng.integers(0, 256, (NUM_IMAGES, *model.image_shape), np.uint8)}
    arrays["label"] = rng.integers(0, DATASETS[dataset]["num_classes"], NUM_IMAGES)
    batches = tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH).repeat().prefetch(2)
    keras_parts.fit(model, batches, clock)
    networks = [model.encoder, model.decoder] if kind == "autoencoder" else [model.network]
    costs = [estimate_costs(network, BATCH) for network in networks]
    return {
        "images_per_second": BATCH * clock.rate,
        **{name: sum(cost[name] for cost in costs) for name in ("parameters", "flops")},
    }


def measure_sampling(dataset, kind, tiny=False):
    """Times guided samples, encoding and decoding, in seconds per image; in a fresh process."""
    import tensorflow as tf

    model = _model(dataset, kind, tiny)
    num = 4 if tiny else BATCH
    options = {"num_steps": 2 if tiny else NUM_STEPS, "guidance_scale": GUIDANCE_SCALE}
    encode, decode = tf.function(model.codec.encode), tf.function(model.codec.decode)
    images = tf.zeros((num, *model.image_shape), tf.uint8)
    x = tf.zeros((num, *model.x_shape))
    calls = {
        "generate": lambda: model.generate(num, seed=1, **options),
        "encode": lambda: encode(images).numpy(),
        "decode": lambda: decode(x).numpy(),
    }
    return {name: runs.fastest(call, 3) / num for name, call in calls.items()}


def _model(dataset, kind, tiny):
    from benchmarks.subjects import ours
    from keras_diffusion import LatentCodec, build

    options = dict(TINY) if tiny else {}
    if kind != "pixels":
        options.update(latent=True, **(TINY_CODEC if tiny else {}))
    config = ours.configure(dataset, options)
    shape, num_classes = (DATASETS[dataset][name] for name in ("shape", "num_classes"))
    if kind == "pixels":
        return build.model(config, shape, num_classes)
    autoencoder = build.autoencoder(config, shape)
    if kind == "autoencoder":
        return autoencoder
    codec = LatentCodec(autoencoder.encoder, autoencoder.decoder)
    return build.model(config, shape, num_classes, codec)


def run(options):
    """Measures pixels, latents and stage one of both data sets in turns."""

    def measure(row):
        arguments = {**row, "tiny": options.tiny}
        training = runs.in_fresh_process("latents.measure_training", **arguments)
        if row["kind"] == "autoencoder":
            return training
        return {**runs.in_fresh_process("latents.measure_sampling", **arguments), **training}

    datasets = list(DATASETS)[: 1 if options.tiny else None]
    rows = [{"dataset": dataset, "kind": kind} for dataset in datasets for kind in KINDS]
    return {"tiny": options.tiny, "rows": runs.in_turns(measure, rows, options.rounds)}


def report(result):
    """Returns a table for each data set."""
    rounds = max(len(row.get("runs", ())) for row in result["rows"])
    parts = []
    for dataset, facts in DATASETS.items():
        rows = {row["kind"]: row for row in result["rows"] if row["dataset"] == dataset}
        if not rows:
            continue
        parts += [f"## Latents beside pixels, {facts['title']}", _table(rows)]
        if "runs" in rows["latents"]:
            encode, decode = (
                formats.number(1000 * formats.median_of(rows["latents"], name))
                for name in ("encode", "decode")
            )
            parts.append(
                f"Encoding takes {encode} ms per image, once and not in each step; decoding takes "
                f"{decode} ms, which the time per sample includes."
            )
    intro = (
        f"Presets, batch {BATCH}; samples with guidance, {NUM_STEPS} steps of dpmpp_2m. Medians of "
        f"{rounds} rounds."
    )
    return "\n\n".join([parts[0], intro, *parts[1:]])


def _table(rows):
    header = ["", "parameters", "GFLOP forward", "ms per image, training", "ratio", "MiB, training",
              "ms per sample", "ratio"]  # fmt: skip

    pixels_rate = formats.median_of(rows["pixels"], "images_per_second")
    pixels_seconds = formats.median_of(rows["pixels"], "generate")

    def figures(row):
        first = row["runs"][0]
        rate, peak = (formats.median_of(row, name) for name in ("images_per_second", "peak_mib"))
        cells = [
            f"{first['parameters'] / 1e6:.2f} M",
            f"{first['flops'] / 1e9:.2f}",
            f"**{formats.number(1000 / rate)}**",
            formats.times(formats.ratio(rate, pixels_rate)),
            formats.number(peak),
        ]
        if row["kind"] == "autoencoder":
            return [*cells, "-", "-"]
        seconds = formats.median_of(row, "generate")
        ratio = formats.times(formats.ratio(pixels_seconds, seconds))
        return [*cells, f"**{formats.number(1000 * seconds)}**", ratio]

    return formats.measured_table(header, rows.values(), lambda row: [KINDS[row["kind"]]], figures)
