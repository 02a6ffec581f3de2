"""Sections quality_mnist and quality_flowers: ours and a peer after the same minutes of training.

    python benchmarks/bench.py --only quality_mnist quality_flowers
    python -m benchmarks.quality mnist [--minutes 20] [--seeds 3] [--peer-images N] [--autocast]
        [--fresh] [--tiny]

Ours is trained by the project's own command with the preset of the data set, and drawn as
`sample.py` draws, with default sampler, steps and guidance; but with classes as often as in the
data. The peers are trained as their users train them, and drawn with the average of their weights,
as theirs do; beside it with the weights themselves, which an average of few steps lags behind. One
after the other, never at once. Each stage keeps its result in benchmarks/cache, under a name that
stands for its settings and for the code that it ran: what was stopped goes on, and what has not
changed is not made again. On a machine that does other work meanwhile, `--peer-images` says how
many images the peer would see in these minutes on an idle one (the training section measures how
many per second): it then sees that many.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import data, subjects
from benchmarks.quality import making, plans, tables

report = tables.report
PLANNED = ("task", "minutes", "num", "curve_num", "seeds", "tiny", "peer_images")
NO_FIGURES = ("images", "labels", "weights")
NO_FIGURES += ("guidance_scale", "guidance_interval", "guidance_rescale")


def run(options, task):
    """Trains, draws and scores; returns the section's figures as JSON allows.

    Args:
        options: `runs.Options`, or those of `plans`.
        task: "mnist" or "flowers".

    Raises:
        runs.RunFailed: a stage ended without a result; one line.
    """
    plan = plans.make(task, options)
    if plan.fresh:
        shutil.rmtree(plan.folder, ignore_errors=True)
    plan.folder.mkdir(parents=True, exist_ok=True)
    data.ensure(task, plan.data_dir, plan.tiny, plan.cache)
    making.score(plan, [])  # trains the classifier: nothing is of use without it
    ours = making.train_ours(plan)
    variants = [plan.peer.variant, plan.peer.autocast][: 1 + plan.autocast]
    peers = [making.train_peer(plan, variant) for variant in variants]
    peers += [making.not_averaged(plan, peer) for peer in peers]
    ways, curve = making.ways(plan, ours), making.curve(plan, ours)
    drawn = making.draw_ours(ours, [*ways.values(), *curve])
    for peer in peers:
        making.draw_peer(plan, peer)
    for name, way in ways.items():
        way.update(subject=subjects.TITLES["ours"], variant=name, averaged=True)
        way.update(parameters=drawn["parameters"], images_seen=ours["images_seen"])
    table = [*ways.values(), *peers]
    seen = making.score(plan, [*table, *curve])
    for each, found in zip([*table, *curve], seen.pop("scores"), strict=True):
        each["score"] = found
    floors = seen.pop("floors")
    rows = [{name: value for name, value in row.items() if name not in NO_FIGURES} for row in table]
    return {
        **{name: getattr(plan, name) for name in PLANNED},
        "extractor": seen["extractor"],
        "floor": floors[0],
        "rows": rows,
        "curve_floor": floors[-1],
        "curve": tables.curve(curve),
        "goal": tables.goal(task, rows, floors[0]),
        "picture": _picture(plan, table),
    }


def _picture(plan, table):
    """The first way of ours beside the better of the peer's: noise has nothing to compare."""
    peers = [row for row in table if row["labels"] is None]
    ours, peer = table[0], min(peers, key=lambda row: row["score"]["distance"])
    return making.picture(
        plan,
        ours,
        peer,
        [tables.caption(row) for row in (ours, peer)],
        f"The first pictures that each drew, none left out, after {plan.minutes:g} minutes of "
        "training on the same machine",
    )


def main(arguments=None):
    """Runs one section with settings of its own, as bench.py does; returns the exit code."""
    from benchmarks import bench
    from keras_diffusion.cli.parsing import OneLineParser, within

    title = __doc__.split("\n")[0]
    flags = OneLineParser(prog="python -m benchmarks.quality", description=title)
    count = within(1, 1_000_000_000)
    add = flags.add_argument
    add("task", choices=list(plans.PEERS))
    add("--minutes", type=_above_zero, help="of training, for each (20; of flowers 60)")
    add("--seeds", type=count, help="how often each number of steps is drawn (3; of flowers 1)")
    add("--num", type=count, help="pictures in each set (1000)")
    add("--peer-images", type=count, help="end the peer's training after so many images")
    add("--autocast", action="store_true", help="train the peer in bfloat16 too")
    add("--fresh", action="store_true", help="make anew what is in the cache, but the classifier")
    add("--tiny", action="store_true", help="toy sizes, to see that all works")
    add("--data-dir", type=bench.folder, help="where TensorFlow Datasets keeps its data")
    add("--out", type=Path, help="default: benchmarks/RESULTS.md; results/ is beside it")
    flags.set_defaults(rounds=1)
    given = flags.parse_args(arguments)
    out = given.out or bench.RESULTS
    if given.tiny and not given.out:
        out = Path(tempfile.mkdtemp(prefix="quality-")) / bench.RESULTS.name
    out = out.absolute()
    asked = {name: getattr(given, name) for name in plans.ASKED}
    shared = vars(bench.options_of(given, out))
    options = plans.Options(**shared, **asked)
    failures = [bench.measure(f"quality_{given.task}", options)]
    failures += bench.write_report(options, out)
    for failed in filter(None, failures):
        print(f"benchmarks.quality: {failed}", file=sys.stderr)
    return int(any(failures))


def _above_zero(text):
    if not 0 < float(text) < 1e6:
        raise ValueError
    return float(text)
