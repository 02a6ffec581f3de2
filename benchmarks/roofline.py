"""Roofline: how far the default training steps are from the limits of this machine.

The lower bound of a step is the time for its multiplications at the rate of a large matrix product,
or for its memory traffic at the rate of a large copy, whichever is longer. TensorFlow's profiler
shows where the time goes: each operation is assigned to a class by its type and its layer.
"""

import collections
import re
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import formats, machine, runs, subjects

GOALS = {"bfloat16": 3, "float32": 1.5}  # times the lower bound, at most
MATRIX = 4096  # side; of the order of the largest layers, and far larger than all caches
COPY_BYTES = 2**28
WARM_UP, STEPS, PROFILED = 4, 12, 4
BATCHES = 8  # in an epoch of synthetic images
TINY_OPTIONS = {"widths": (8, 16), "embedding_width": 16, "batch_size": 4}
# Class: (pattern of the operation's type, pattern of its name); the first match counts. Names
# contain those of the layers, see `unet`, and of a scope in `DiffusionModel`. XLA's loops are the
# normalisation, and so are products and sums outside of any layer, of its gradient, but for a few
# small ones.
CLASSES = {
    "convolutions: gradients of the weights": ("Conv2DBackpropFilter", None),
    "convolutions: forward, gradients of the inputs": ("Conv2D", None),
    "noise and data": ("Random|Iterator|Stateless|Dataset|PyFunc", "random_|iterator"),
    "optimizer": ("L2Loss", "adam|muon|global_norm"),
    "average of the weights (EMA)": (None, "(^|/)average/"),
    "sums of gradients": ("AddN", None),
    "attention": (None, r"attention(_\d+)?/"),
    "normalisation and activation": (
        "^fusion$",
        r"_norm\d?(_\d+)?/|(^|Call/)(mul|Sum)(_\d+)?$",
    ),
}
OTHER = "other"


def run(options):
    """Measures the machine, then the training step of each preset in turns."""
    rates = runs.in_fresh_process("roofline.measure_machine", tiny=options.tiny)
    rows = [{"task": task} for task in subjects.TASKS]
    steps = runs.in_fresh_turns("roofline.measure_step", rows, options)
    return {"tiny": options.tiny, "rates": rates, "steps": steps}


def measure_machine(tiny):
    """Returns FLOP/s of a matrix product in each precision, and bytes/s of a copy."""
    import tensorflow as tf

    side, size = (256, 2**20) if tiny else (MATRIX, COPY_BYTES)
    rates = {}
    for dtype in ("bfloat16", "float32") if machine.has_bfloat16() else ("float32",):
        matrix = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), dtype)
        product = tf.function(lambda a=matrix: tf.matmul(a, a))
        rates[dtype] = 2 * side**3 / runs.fastest(product, 7)
    values = tf.zeros((size // 4,))
    rates["bytes"] = 2 * size / runs.fastest(tf.function(lambda: values + 1.0), 7)  # read, written
    return rates


def measure_step(task, tiny):
    """Trains with a preset on synthetic images; returns seconds per step, costs and shares."""
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.subjects import ours
    from keras_diffusion import build
    from keras_diffusion.data import pipeline
    from keras_diffusion.networks.costs import estimate_costs

    config = ours.configure(ours.DATASETS[task], TINY_OPTIONS if tiny else {})
    shape = subjects.image_shape(task, tiny)
    model = build.model(config, shape, num_classes=10)
    count = BATCHES * config.batch_size
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype="uint8")
    epochs = pipeline.batches_in_memory(
        {"image": images, "label": np.arange(count) % 10},
        config.batch_size,
        horizontal_flip=bool(config.horizontal_flip),
    )
    model.make_train_function()
    batches = iter(pipeline.endless(epochs))

    def train(steps):
        began = time.perf_counter()
        for _ in range(steps):
            model.train_function(batches)
        model.optimizer.iterations.numpy()
        return (time.perf_counter() - began) / steps

    model.optimizer.build(model.network.trainable_variables)
    train(1 if tiny else WARM_UP)
    seconds = train(1 if tiny else STEPS)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        train(PROFILED)
        tf.profiler.experimental.stop()
        shares = _shares(folder)
    costs = estimate_costs(model.network, config.batch_size)
    return {
        "precision": keras.config.dtype_policy().name,
        "seconds": seconds,
        "batch_size": config.batch_size,
        "flops": 3 * config.batch_size * costs["flops"],  # forward and both gradients
        "bytes": traffic(costs),
        "shares": shares,
    }


def traffic(costs):
    """Returns the least number of bytes that a step moves, of `networks.costs`.

    Each activation is written once and read twice (by the next layer and by its gradient), and its
    gradient is written and read once. Of each weight, the value, gradient, average and two moments
    are read, and all but the gradient are written.
    """
    weights = 4 * costs["parameters"]
    activations = costs["memory"] - 5 * weights
    return 5 * activations + 9 * weights


def _shares(folder):
    """Returns {class: share of the operations' time} of the profile in a folder."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    (path,) = Path(folder).rglob("*.xplane.pb")
    space.ParseFromString(path.read_bytes())
    total = collections.Counter()
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        for event in (event for line in plane.lines for event in line.events):
            name = class_of(plane.event_metadata[event.metadata_id].name)
            total[name] += event.duration_ps if name else 0
    everything = sum(total.values())
    return {name: total[name] / everything for name in (*CLASSES, OTHER)}


def class_of(event):
    """Returns the class of an event of the profiler; None if it is no single operation."""
    if event.endswith("_fusion"):
        name, kind = event, "fusion"
    else:
        name, _, kind = event.rpartition(":")
        if not name or not kind.isidentifier() or name.endswith(":") or name.startswith("__"):
            return None
    for title, (kinds, names) in CLASSES.items():
        if (kinds and re.search(kinds, kind)) or (names and re.search(names, name)):
            return title
    return OTHER


def report(result):
    """Returns the tables: the lower bound, and where the time goes."""
    rates = result["rates"]
    header = ["preset", "multiplications", "memory", "step, ms", "spread", "of the bound", "goal"]

    def names(row):
        batch = f", batch {row['runs'][0]['batch_size']}" if "runs" in row else ""
        return [subjects.DATASET_TITLES[row["task"]] + batch]

    def figures(row):
        first, seconds = row["runs"][0], formats.summary_of(row, "seconds")
        kind = "bfloat16" if "bfloat16" in first["precision"] else "float32"
        products, moved = first["flops"] / rates[kind], first["bytes"] / rates["bytes"]
        factor = seconds["median"] / max(products, moved)
        return [
            f"{first['flops'] / 1e9:.0f} GFLOP: {1e3 * products:.0f} ms",
            f"{first['bytes'] / 2**30:.1f} GiB: {1e3 * moved:.0f} ms",
            *formats.median_and_spread(seconds, 1e3),
            formats.times(factor),
            formats.verdict(f"{GOALS[kind]}x", factor, GOALS[kind], at_most=True),
        ]

    products = " and ".join(
        f"{rates[dtype] / 1e12:.2f} TFLOP/s in {dtype}"
        for dtype in ("bfloat16", "float32")
        if dtype in rates
    )
    steps = [row for row in result["steps"] if "runs" in row]
    groups = {name: [name] for name in (*CLASSES, OTHER)}
    groups["**all convolutions**"] = [name for name in CLASSES if name.startswith("convolutions")]
    groups["**everything else**"] = [name for name in (*CLASSES, OTHER) if "conv" not in name]
    shares = [[name, *(_share(row, group) for row in steps)] for name, group in groups.items()]
    return "\n\n".join([
        "## Roofline",
        f"This machine multiplies matrices at {products} (side {MATRIX}), and moves "
        f"{rates['bytes'] / 1e9:.1f} GB/s. The table shows how long the multiplications of a step "
        "take at this rate, and its memory traffic if each activation is written once and read "
        "twice and its gradient written and read once. The lower bound of a training step is the "
        "longer of the two.",
        formats.measured_table(header, result["steps"], names, figures),
        "Share of each class in the summed time of the operations, which run in parallel, and that "
        "share of a step:",
        formats.table(["", *(names(row)[0] for row in steps)], shares),
    ])  # fmt: skip


def _share(row, classes):
    """Returns the share and time of some classes together, as "25%, 86 ms"."""
    share = statistics.fmean(sum(run["shares"][name] for name in classes) for run in row["runs"])
    return f"{share:.0%}, {1e3 * share * formats.median_of(row, 'seconds'):.0f} ms"
