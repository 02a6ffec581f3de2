"""Sections quality_mnist and quality_flowers: ours and a peer after the same minutes of training.

    python benchmarks/bench.py --only quality_mnist quality_flowers

Ours is trained by `train.py` with the preset of the data set and sampled as `sample.py` samples,
with the default sampler, steps and guidance, but with the class frequencies of the data. The peer
is trained as its users train it, and sampled with its averaged weights, as its users do; and also
with its last weights, because an average over few steps lags behind. The keras.io network is also
trained with our optimizer, learning rate and its decay. The trainings run one after the other. Each
stage keeps its result in benchmarks/cache, under a name that depends on its settings and its code:
an interrupted run continues, and unchanged stages are not repeated.
"""

from benchmarks import data
from benchmarks.quality import plan as plans
from benchmarks.quality import stages, tables

report = tables.report


def run(options, task):
    """Trains, samples and scores.

    Args:
        options: `runs.Options`.
        task: "mnist" or "flowers".

    Returns:
        dict for JSON, see `report`.

    Raises:
        runs.RunFailed: a stage failed.
    """
    plan = plans.make(task, options)
    plan.folder.mkdir(parents=True, exist_ok=True)
    data.ensure(task, options)
    stages.score(plan, [])  # trains the classifier first: without it nothing can be scored
    ours = stages.train_ours(plan)
    trained = [stages.train_peer(plan, variant) for variant in plan.variants]
    variants, curve = stages.our_variants(plan, ours), stages.curve(plan, ours)
    stages.sample_ours(ours, [*variants, *curve])
    for row in variants:
        row.update(parameters=ours["export"].parameters, images_seen=ours["images_seen"])
    peers = [row for peer in trained for row in (peer, stages.with_last_weights(plan, peer))]
    for row in peers:
        stages.sample_peer(plan, row)
    rows = [*variants, *peers]
    scored = stages.score(plan, [*rows, *curve])
    for each, score in zip([*rows, *curve], scored["scores"], strict=True):
        each["score"] = score
    best = min(peers, key=lambda row: row["score"]["distance"])
    return {
        **{name: getattr(plan, name) for name in ("task", "minutes", "num", "curve_num", "seeds")},
        "tiny": options.tiny,
        "extractor": scored["extractor"],
        "baseline": scored["baselines"][0],
        "rows": [{name: row[name] for name in tables.FIELDS} for row in rows],
        "curve_baseline": scored["baselines"][-1],
        "curve": tables.curve(curve),
        "figure": stages.plot(plan, rows[0], best),
    }
