"""Section settings: what threads, memory allocation and graph options do to our training step.

Each is the training of ours in section training, MNIST, in a process with other settings. A
setting that is worth it becomes the default, or README tells of it.
"""

from benchmarks import data, runs, training

# Name: (environment variables, options of TensorFlow's graph optimizer).
SETTINGS = {
    "as it is": ({}, {}),
    "one operation at a time (`TF_NUM_INTEROP_THREADS=1`)": ({"TF_NUM_INTEROP_THREADS": "1"}, {}),
    "one arena (`MALLOC_ARENA_MAX=1`)": ({"MALLOC_ARENA_MAX": "1"}, {}),
    "freed memory is kept (`MALLOC_MMAP_MAX_=0`, `MALLOC_TRIM_THRESHOLD_` of a terabyte)": (
        {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)},
        {},
    ),
    "huge pages (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`)": (
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        {},
    ),
    "TensorFlow's graph optimizer off": ({}, {"disable_meta_optimizer": True}),
}


def run(options):
    """Measures all settings in turns."""
    data.ensure("mnist", options.data_dir, options.tiny, options.cache)

    def measure(name):
        environment, graph = SETTINGS[name]
        return runs.in_fresh_process(
            "settings.rate", training.GIVEN_UP, environment, graph=graph,
            cache=str(options.cache), tiny=options.tiny,
        )  # fmt: skip

    results = runs.in_turns(measure, list(SETTINGS), options.rounds)
    return {"tiny": options.tiny, "rows": dict(zip(SETTINGS, results, strict=True))}


def rate(graph, cache, tiny=False):
    """Trains ours for a while; in a fresh process that has the environment already."""
    import tensorflow as tf

    if graph:
        tf.config.optimizer.set_experimental_options(graph)
    return training.rate("mnist", "ours", "default", cache, tiny)


def report(found):
    """Returns the table: speed and memory of each setting beside those of none."""
    usual = _medians(next(iter(found["rows"].values())))
    rows = []
    for name, row in found["rows"].items():
        if "failed" in row:
            rows.append([name, "-", row["failed"], "-", "-", "-"])
            continue
        rates, peaks = _medians(row)
        faster = less = "-"
        if usual:
            faster = runs.times(rates["median"] / usual[0]["median"])
            less = f"{peaks['median'] / usual[1]['median']:.2f}"
        rows.append([name, f"**{runs.figure(rates['median'])}**", runs.spread(rates), faster,
                     runs.figure(peaks["median"]), less])  # fmt: skip
    header = ["setting", "images/s", "spread", "speed", "MiB", "memory"]
    return (
        "## Settings of the process\n\nTraining of ours, MNIST, as above: speed and most memory, "
        f"and both beside those without a setting.\n\n{runs.table(header, rows)}"
    )


def _medians(row):
    """(images per second, MiB) as `runs.summary`, or None if it failed."""
    if "failed" in row:
        return None
    return tuple(
        runs.summary(run[name] for run in row["runs"]) for name in ("images_per_second", "peak_mib")
    )
