"""Section roofline: how far the default training steps are from what this machine could do.

The floor of a step is the time for its multiplications at the rate of a large matrix product, or
for its memory traffic at the rate of a large copy, whichever is longer. What the time goes to is
read from TensorFlow's profiler: every operation is put into a class by its type and its layer.
"""

import collections
import re
import tempfile
import time
from pathlib import Path

from benchmarks import runs, subjects
from benchmarks.subjects import DATASET_TITLES

PRESETS = {"mnist": "mnist", "flowers": "oxford_flowers102"}
GOAL = 3  # times the floor
MATRIX = 4096  # side; of the largest layers' order, and far beyond all caches
COPIED = 2**28  # bytes
WARM_UP, STEPS, PROFILED = 4, 12, 4
BATCHES = 8  # in an epoch of the made-up images
# Class: (pattern of the operation's type, pattern of its name); the first that fits, in order.
# Names hold those of the layers, see `unet`, and of a scope in `DiffusionModel`; XLA's loops are
# the normalisation's backward pass, and so are products and sums of no layer, but for a few of the
# size of one image.
CLASSES = {
    "convolutions: gradients by weights": ("Conv2DBackpropFilter", ""),
    "convolutions: forward, gradients by inputs": ("Conv2D", ""),
    "noise and data": ("Random|Iterator|Stateless|Dataset|PyFunc", "random_|iterator"),
    "optimizer": ("L2Loss", "adam|global_norm"),
    "average of the weights": ("", "(^|/)average/"),
    "sums of gradients": ("AddN", ""),
    "attention": ("", r"attention(_\d+)?/"),
    "normalisation and activation": (
        "^fusion$",
        r"_norm\d?(_\d+)?/|(^|Call/)(mul|Sum)(_\d+)?$",
    ),
    "the rest": ("", ""),
}


def run(options):
    """Measures the machine, then each preset's training step."""
    rates = runs.in_fresh_process("roofline.rates", tiny=options.tiny)
    found = {"tiny": options.tiny, "rates": rates}
    for task in PRESETS:
        measured = runs.in_turns(
            lambda each: runs.in_fresh_process("roofline.step", task=each, tiny=options.tiny),
            [task], options.rounds,
        )[0]  # fmt: skip
        if "failed" in measured:
            raise runs.RunFailed(measured["failed"])
        found[task] = {**measured, "shares": _mean_shares(measured["runs"])}
    return found


def rates(tiny):
    """Returns FLOP/s of a matrix product in both precisions, and bytes/s of a copy."""
    import tensorflow as tf

    side, size = (256, 2**20) if tiny else (MATRIX, COPIED)
    found = {}
    for dtype in ("bfloat16", "float32"):
        matrix = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), dtype)
        found[dtype] = 2 * side**3 / _best(tf.function(lambda a=matrix: tf.matmul(a, a)))
    values = tf.zeros((size // 4,))
    found["bytes"] = 2 * size / _best(tf.function(lambda: values + 1.0))  # read and written
    return found


def _best(function, times=7):
    """Seconds of the fastest of some calls: what the machine can do, undisturbed."""
    function()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def step(task, tiny):
    """Trains with a preset on made-up images; returns seconds per step, costs and shares."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_diffusion import build
    from keras_diffusion.config.resolve import resolve
    from keras_diffusion.data import pipeline
    from keras_diffusion.networks.costs import estimate_costs
    from keras_diffusion.runtime import precision

    policy = precision.policy("auto")[0]
    keras.config.set_dtype_policy(policy)
    network = {"widths": (8, 16), "embedding_width": 16, "batch_size": 4} if tiny else {}
    config = resolve(PRESETS[task], network)
    shape = subjects.image_shape(task, tiny)
    model = build.model(config, shape, num_classes=10)
    batch = config.batch_size
    count = BATCHES * batch
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype="uint8")
    epochs = pipeline.batches_in_memory(
        {"image": images, "label": np.arange(count) % 10},
        batch,
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
    costs = estimate_costs(model.network, batch)
    return {
        "precision": policy,
        "seconds": seconds,
        "batch_size": batch,
        "flops": 3 * batch * costs["flops"],  # the gradients by inputs and by weights cost as much
        "bytes": traffic(costs),
        "shares": shares,
    }


def traffic(costs):
    """Bytes that a step must move at the least: see `networks.costs`.

    Each activation is written once and read twice (by the next layer and by its gradient), and
    its gradient is written and read once; of each weight the value, gradient, average and two
    moments are read, and all but the gradient are written.
    """
    weights = 4 * costs["parameters"]
    activations = costs["memory"] - 5 * weights
    return 5 * activations + 9 * weights


def _shares(folder):
    """{class: share of the operations' time} from the profile in a folder."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    (path,) = Path(folder).rglob("*.xplane.pb")
    space.ParseFromString(path.read_bytes())
    total = collections.Counter()
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        for event in (event for line in plane.lines for event in line.events):
            operation = _operation(plane.event_metadata[event.metadata_id].name)
            if operation:
                total[_class_of(*operation)] += event.duration_ps
    everything = sum(total.values())
    return {name: total[name] / everything for name in CLASSES}


def _operation(event):
    """(name, type) of an operation of TensorFlow or a loop of XLA; None for what contains them."""
    if event.endswith("_fusion"):
        return event, "fusion"
    name, _, kind = event.rpartition(":")
    is_operation = name and kind.isidentifier() and not name.endswith(":")
    return None if not is_operation or name.startswith("__") else (name, kind)


def _class_of(name, kind):
    for title, (kinds, names) in CLASSES.items():
        if kinds and re.search(kinds, kind) or names and re.search(names, name):
            return title
    return "the rest"


def _mean_shares(measured):
    return {
        name: sum(each["shares"][name] for each in measured) / len(measured) for name in CLASSES
    }


def report(found):
    """Returns the tables: the floor, and where the time goes."""
    rates, rows = found["rates"], []
    for task in PRESETS:
        first, seconds = found[task]["runs"][0], _seconds(found, task)
        products, moved = _floors(found, task)
        ratio = seconds["median"] / max(products, moved)
        rows.append([
            f"{DATASET_TITLES[task]}, batch {first['batch_size']}",
            f"{first['flops'] / 1e9:.0f} GFLOP: {1e3 * products:.0f} ms",
            f"{first['bytes'] / 2**30:.1f} GiB: {1e3 * moved:.0f} ms",
            f"**{1e3 * seconds['median']:.0f} ms**",
            f"{1e3 * seconds['low']:.0f} - {1e3 * seconds['high']:.0f}",
            f"{runs.figure(ratio)}x",
            f"{GOAL}x: {runs.verdict(ratio, GOAL, most=True)}",
        ])  # fmt: skip
    header = ["preset", "multiplications", "memory", "step", "spread", "of the floor", "goal"]
    tasks = [DATASET_TITLES[task] for task in PRESETS]
    shares = [[name, *(_share(found, task, [name]) for task in PRESETS)] for name in CLASSES]
    return "\n\n".join([
        "## Distance to the limit",
        f"This machine multiplies matrices at {rates['bfloat16'] / 1e12:.2f} TFLOP/s in bfloat16 "
        f"and {rates['float32'] / 1e12:.2f} in float32 (sides of {MATRIX}), and moves "
        f"{rates['bytes'] / 1e9:.1f} GB/s. The floor of a training step is the longer of the two "
        "times.",
        runs.table(header, rows),
        "Where the time goes, of the operations' own time (they run side by side), and what that "
        "share of a step is:",
        runs.table(["", *tasks], shares),
        *(_limits(found, task) for task in PRESETS),
    ])  # fmt: skip


def _seconds(found, task):
    return runs.summary(each["seconds"] for each in found[task]["runs"])


def _floors(found, task):
    """Seconds of a step's multiplications, and of its memory traffic, at the machine's rates."""
    first, rates = found[task]["runs"][0], found["rates"]
    kind = "bfloat16" if "bfloat16" in first["precision"] else "float32"
    return first["flops"] / rates[kind], first["bytes"] / rates["bytes"]


def _share(found, task, classes):
    """Share and time of some classes together, as "25%, 86 ms"."""
    share = sum(found[task]["shares"][name] for name in classes)
    return f"{share:.0%}, {1e3 * share * _seconds(found, task)['median']:.0f} ms"


def _limits(found, task):
    """A sentence: the two kinds of work, each beside its own floor."""
    products, moved = (1e3 * seconds for seconds in _floors(found, task))
    multiplied = [name for name in CLASSES if name.startswith("convolutions")]
    passes = [name for name in CLASSES if name not in multiplied]
    return (
        f"{DATASET_TITLES[task]}: convolutions {_share(found, task, multiplied)}, where the "
        f"multiplications of all layers would take {products:.0f} at the rate of a large matrix; "
        f"all else {_share(found, task, passes)}, where {moved:.0f} would do if each activation "
        "were written once and read twice, and its gradient written and read once."
    )
