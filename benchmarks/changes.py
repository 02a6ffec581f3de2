"""Section changes: what each optimisation was to bring, and what it brings.

Each is measured beside the plain version in one process, in turns, by the processor's time: on
two cores the clock shows more of the machine's other work than of the gain. `loss` trains the
plain network and ours from the same seeds on the same images.
"""

import statistics
import time

from benchmarks import data, runs

BATCH, SIDE, WIDTH = 128, 28, 64
TURNS, CALLS = 5, 10
# 3 turns of one call.
SLOW = ("end of a data set", "XLA for the whole step", "guidance in an interval", "AutoGraph")
BY_THE_CLOCK = ("end of a data set", "AutoGraph")  # and not by the processor's time
GIVEN_UP = 10 * 60  # seconds; XLA compiles a whole training step for long
LOSS_IMAGES, LOSS_SEEDS = 25_600, 3
CHANCE = 2.92  # standard errors: Student's t, of three values, one-sided, 95%
# Name: (title, whether the layers are the plain ones, the policy).
VERSIONS = {
    "float32": ("plain layers, float32", True, "float32"),
    "plain": ("plain layers", True, "auto"),
    "ours": ("ours", False, "auto"),
}
# Name: (before, after, what was expected, what came of it).
CHANGES = {
    "bfloat16": (
        "float32, in the step of the MNIST preset",
        "weights, moments, softmax and loss in float32, all else in bfloat16",
        "2x",
        "kept, where the processor multiplies in it",
    ),
    "layer": (
        "normalisation, modulation and silu as their formulas read, TensorFlow's gradient",
        "one layer with its own gradient; of its passes backward, chains are one loop by XLA",
        "2x",
        "kept",
    ),
    "training step": ("the same layers, in the step of the MNIST preset", "", "1.15x", "kept"),
    "stock layers": (
        "Keras' `GroupNormalization`, which takes off the mean and computes in float32, then silu",
        "the layer above",
        "4x",
        "kept",
    ),
    "attention at one level": (
        "at the two lowest levels, 14x14 and 7x7, in the step of the MNIST preset",
        "at the lowest alone, which is another network",
        "1.2x",
        "kept",
    ),
    "guidance in an interval": (
        "at all times; 16 digits in 20 steps",
        "at times from 0.1 to 0.8 alone, which draws other pictures",
        "1.4x",
        "kept, for whoever asks for it",
    ),
    "AutoGraph": (
        "reads and rewrites all code of a sampling graph; by the clock, from start to one picture",
        "off: loops and conditions are those of `keras.ops`",
        "1.3x",
        "kept",
    ),
    "halving": (
        "`tf.nn.space_to_depth`",
        "a reshape and a transposition, which every backend of Keras has",
        "2x",
        "kept: every backend runs it, and it is a hundredth of a step",
    ),
    "doubling": (
        "`UpSampling2D`, then a 3x3 convolution",
        "a 1x1 convolution to four times the channels, then depth to space",
        "3x",
        "kept",
    ),
    "end of a data set": (
        "tf.data's tuner on: an iterator ends when the tuner next wakes",
        "off; a validation of 5,000 images by the clock",
        "1.7x",
        "kept: it costs nothing, and such waits have been seen",
    ),
    "XLA for the whole step": (
        "XLA for chains of element-wise operations only",
        "XLA for the whole training step",
        "slower: it has no fast convolutions in bfloat16 on a CPU",
        "not kept",
    ),
    "embeddings before the loop": (
        "noise level and label are embedded in every call; 16 images, drawing",
        "they are embedded for all steps at once, before the loop",
        "1.03x",
        "not kept",
    ),
    "one operation of Adam": (
        "Keras' AdamW, about 15 operations for each weight",
        "one `ResourceApplyAdam` for each",
        "1.05x",
        "not kept",
    ),
}


def run(options):
    """Measures every change, and the loss of the plain network beside ours."""
    found = {"tiny": options.tiny}
    for name in CHANGES:
        print(f"  {name}", flush=True)
        try:
            found[name] = runs.in_fresh_process(
                "changes.pair", GIVEN_UP, name=name, tiny=options.tiny
            )
        except runs.RunFailed as error:
            found[name] = {"failed": str(error)}
    data.ensure("mnist", options.data_dir, options.tiny, options.cache)
    found["loss"] = [
        {version: _loss_of(version, seed, options) for version in VERSIONS}
        for seed in range(1 if options.tiny else LOSS_SEEDS)
    ]
    return found


def _loss_of(version, seed, options):
    """A float, or None if it could not be measured."""
    print(f"  loss, {VERSIONS[version][0]}, seed {seed}", flush=True)
    try:
        return runs.in_fresh_process(
            "changes.loss", seed=seed, version=version, tiny=options.tiny, cache=str(options.cache)
        )["loss"]
    except runs.RunFailed as error:
        print(f"    failed: {error}", flush=True)
        return None


def pair(name, tiny):
    """Seconds of one call before and after a change: the medians of some turns."""
    import keras

    from benchmarks import change_pairs

    keras.config.set_dtype_policy("mixed_bfloat16")
    clock = time.monotonic if name in BY_THE_CLOCK else time.process_time
    calls, turns = (1, 1) if tiny else (CALLS, TURNS)
    if name in SLOW:
        calls, turns = 1, min(turns, 3)
    functions = change_pairs.PAIRS[name](tiny)
    for function in functions:
        function()
    seconds = [[], []]
    for _ in range(turns):
        for function, taken in zip(functions, seconds, strict=True):
            began = clock()
            for _ in range(calls):
                function()
            taken.append((clock() - began) / calls)
    return dict(zip(("before", "after"), map(statistics.median, seconds), strict=True))


def loss(seed, version, tiny, cache):
    """The held-out loss of the MNIST preset after some images, as one of VERSIONS; in a process."""
    import contextlib

    import keras

    from benchmarks import plain
    from keras_diffusion import build
    from keras_diffusion.config import options as configuration
    from keras_diffusion.data import pipeline
    from keras_diffusion.runtime import precision
    from keras_diffusion.training.callbacks import Budget

    _, plainly, policy = VERSIONS[version]
    keras.config.set_dtype_policy(precision.policy(policy)[0])
    keras.utils.set_random_seed(seed)
    toy = {"widths": (8, 16), "batch_size": 8} if tiny else {}
    config = configuration.resolve("mnist", {**toy, "seed": seed})
    (images, labels), held_out = (data.load("mnist", part, tiny, cache) for part in data.PARTS)
    model = build.model(config, images.shape[1:], num_classes=10)
    arrays = {"image": images, "label": labels.astype("int64")}
    steps = max(1, (64 if tiny else LOSS_IMAGES) // config.batch_size)
    with plain.layers() if plainly else contextlib.nullcontext():
        model.fit(
            pipeline.endless(pipeline.batches_in_memory(arrays, config.batch_size, seed=seed)),
            steps_per_epoch=steps,
            callbacks=[Budget(config.learning_rate, warmup=config.warmup, total_steps=steps)],
            verbose=0,
        )
    test = {"image": held_out[0], "label": held_out[1].astype("int64")}
    batches = pipeline.validation_batches(test, config.batch_size)
    return {"loss": model.evaluate(batches, verbose=0, return_dict=True)["loss"]}


def table(found):
    """Returns the table of changes."""
    rows = []
    for name, (before, after, expected, kept) in CHANGES.items():
        seconds = found.get(name, {"failed": "still to be measured"})
        if "failed" in seconds:
            rows.append([name, before, after, expected, "-", "-", seconds["failed"], kept])
            continue
        ratio = seconds["before"] / seconds["after"]
        pair = [runs.figure(1e3 * seconds[when]) for when in ("before", "after")]
        rows.append([name, before, after, expected, *pair, f"**{ratio:.2f}x**", kept])
    header = ["", "before", "after", "expected", "ms before", "ms after", "measured", ""]
    return runs.table(header, rows)


def report(found):
    """Returns the table of changes, and that of the losses."""
    versions = [version for version in VERSIONS if version in found["loss"][0]]
    losses = [
        [seed, *("-" if each[v] is None else f"{each[v]:.5f}" for v in versions)]
        for seed, each in enumerate(found["loss"])
    ]
    return "\n\n".join([
        "## What was changed for speed",
        "Before and after take turns in one process. Milliseconds of the processor, all cores "
        f"added up; single layers on a batch of {BATCH} of {SIDE}x{SIDE}x{WIDTH} in bfloat16, "
        "forward and backward.",
        table(found),
        f"Held-out loss of the MNIST preset after {LOSS_IMAGES:,} images, the same for all:",
        runs.table(["seed", *(VERSIONS[version][0] for version in versions)], losses),
        *(_difference(found["loss"], version) for version in versions if version != "ours"),
    ])  # fmt: skip


def _difference(losses, version):
    """A sentence: how much worse ours is than another version, and whether by chance."""
    pairs = [(each["ours"], each[version]) for each in losses]
    differences = [ours - other for ours, other in pairs if None not in (ours, other)]
    title = f"Ours less {VERSIONS[version][0]}"
    if len(differences) != LOSS_SEEDS:
        return f"{title}: {len(differences)} of {LOSS_SEEDS} seeds, too few to tell."
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    verdict = "**more than chance**" if mean > CHANCE * error else "no more than chance"
    return (
        f"{title}, of the same seed: {mean:+.5f} on average (standard error {error:.5f}). That is "
        f"{verdict}, which alone would come to {CHANCE * error:+.5f} once in twenty times."
    )
