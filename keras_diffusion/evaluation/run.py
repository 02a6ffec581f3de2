"""An evaluation, from a trained model to a folder of scores, tables and pictures."""

import json
import time
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.config.options import flag
from keras_diffusion.evaluation import memorisation, real_images, reference, tables
from keras_diffusion.evaluation.cells import Artist, Cell
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime.console import is_watched
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.saving import loading

MOST_IMAGES = 5000  # of a cell, unless more are asked for
MOST_TO_COMPARE = 2000  # pictures whose nearest training picture is looked for
PAIRS = 10  # of the closest ones, that are shown
PICTURES = ("samplers.png", "samples.png", "memorisation.png", "closest.png")


def run(
    model,
    *,
    out,
    cache,
    num=None,
    samplers=None,
    steps=None,
    minutes=None,
    extractor="classifier",
    extractor_size=75,
    guidance=(),
    seed=0,
    batch_size=64,
    where=(),
):
    """Draws with every sampler and number of steps, scores, compares, and writes it all down.

    Args:
        model: path, see `trained.load`.
        out: folder for the results.
        cache: folder for what is made once: the classifier, features of real pictures.
        num: pictures of each cell; None: 5000, or all held-out ones if these are fewer.
        samplers, steps: lists; None: the model's own.
        minutes: None, or how long it may take; cells that do not fit are left out. The report on
            copies comes on top.
        extractor, extractor_size: see `reference.prepare`.
        guidance: dict of guidance_scale, guidance_interval and guidance_rescale, where given.
        seed: int; all cells get the same noise and labels.
        batch_size: pictures at once.
        where: dict of the options in `real.WHERE`, where given.

    Returns:
        dict, as in scores.json.

    Raises:
        ValueError, OSError: what cannot be used or written, on one line.
        KeyboardInterrupt: Ctrl-C; says where the scores are, if there are any.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        drawn = loading.load(model)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    guidance = _guidance(drawn, dict(guidance))
    cells = _cells(drawn, samplers, steps, guidance)
    pictures = real_images.read(drawn, dict(where))
    print(tables.in_words({"data": pictures.facts}), flush=True)
    judge = _judge(extractor, pictures, cache, extractor_size, drawn.num_classes > 0)
    num = num or min(MOST_IMAGES, len(judge.held_out))
    _warn(num, judge)
    facts = {"data": pictures.facts, "extractor": judge.extractor.facts}
    how = {"image_shape": drawn.image_shape, "num": num, "guidance": guidance, "seed": seed}
    record = {"model": str(model), **facts, **how, "floor": judge.floor(num)}
    record.update(cells=[], left_out=[])
    labels = pictures.labels(num, seed) if drawn.num_classes else None
    options = {"guidance": guidance, "seed": seed, "batch_size": batch_size}
    artist = Artist(drawn, labels, num=num, **options)
    Path(out).mkdir(parents=True, exist_ok=True)
    try:
        looking = num * _looking(judge, pictures) if minutes else 0.0
        kept = _score(cells, artist, judge, end, record, Path(out), looking)
        _report(kept, judge, pictures, record, Path(out))
    except KeyboardInterrupt as error:
        if record["cells"]:
            raise KeyboardInterrupt(f"the scores so far are in {out}/") from error
        raise
    return record


def _guidance(drawn, given):
    """The guidance to draw with: the model's own, changed by what was given."""
    given = {name: value for name, value in given.items() if value is not None}
    if given and not drawn.num_classes:
        raise ValueError(f"{flag(next(iter(given)))}: this model was trained without labels.")
    for name in given:
        if name not in drawn.guidance:
            raise ValueError(f"{flag(name)}: this export has none; export it anew.")
    guidance = {name: given.get(name, drawn.defaults[name]) for name in drawn.guidance}
    for name in given:
        if name != "guidance_scale" and guidance["guidance_scale"] == 1:
            why = "changes nothing at scale 1, the model's; give another."
            raise ValueError(f"{flag(name)}: {why}")
    return guidance


def _cells(drawn, samplers, steps, guidance):
    """All cells, the cheapest first."""
    samplers = samplers or [drawn.defaults["sampler"]]
    for sampler in samplers:
        if sampler not in drawn.samplers:
            choices = ", ".join(drawn.samplers)
            raise ValueError(f"--samplers: the model has no {sampler!r}. Choose from: {choices}.")
    cells = [
        Cell(sampler, num_steps, drawn.network_calls(sampler, num_steps, guidance))
        for sampler in dict.fromkeys(samplers)
        for num_steps in dict.fromkeys(steps or [drawn.defaults["num_steps"]])
    ]
    return sorted(cells, key=lambda cell: cell.calls)


def _judge(extractor, pictures, cache, size, accuracy):
    try:
        return reference.prepare(
            extractor,
            pictures.arrays,
            cache,
            data_name=pictures.source.name,
            flip=pictures.flip,
            size=size,
            accuracy=accuracy,
            bar=bar,
        )
    except (ValueError, OSError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--extractor: {error}") from error


def _warn(num, judge):
    """Says what is wrong with a number of pictures."""
    width = judge.train.shape[1]
    if num > len(judge.held_out):
        print(f"the floor is of {len(judge.held_out):,} held-out pictures, all that there are")
    if num < width:
        print(f"{num:,} pictures are few for {width:,} features: FID is too large, go by KID")


def _score(cells, artist, judge, end, record, out, looking=0.0):
    """Fills in the cells of the record; keeps what was drawn in the model's own, or best, cell.

    `looking` is what the extractor will take for the first cell, in seconds.

    Returns:
        dict of the cell's `row`, `images` and `features`.
    """
    if end is not None and time.monotonic() >= end:
        raise ValueError(
            "--minutes: over before the first picture, by looking at the real ones; what was seen "
            "is kept in --cache, so the same command has more time for the cells now."
        )
    own = artist.model.defaults
    kept, overhead = None, looking  # seconds of scoring
    for number, cell in enumerate(cells):
        left = [artist.seconds_for(each) + overhead for each in cells[number:]]
        if end is not None and time.monotonic() + left[0] > end:
            record["left_out"] = [str(each) for each in cells[number:]]
            break
        rest = f"; {in_words(sum(left))} in all" if len(left) > 1 else ""
        print(f"{cell} ({number + 1} of {len(cells)}), {in_words(left[0])}{rest}", flush=True)
        drawn, seconds = artist.draw(cell, bar(artist.num))
        began = time.monotonic()
        features, probabilities = judge.look(drawn, bar(artist.num))
        score = judge.score(features, probabilities, artist.labels)
        overhead = time.monotonic() - began
        how = {"sampler": cell.sampler, "num_steps": cell.num_steps, "network_calls": cell.calls}
        row = {**how, "seconds_per_image": seconds / artist.num, **score}
        record["cells"].append(row)
        is_own = (cell.sampler, cell.num_steps) == (own["sampler"], own["num_steps"])
        if kept is None or is_own or (not kept["own"] and row["fid"] < kept["row"]["fid"]):
            kept = {"own": is_own, "row": row, "images": drawn, "features": features}
        if number == 0:
            for name in PICTURES:  # of an evaluation before
                (out / name).unlink(missing_ok=True)
        _write(record, out)
    if kept is None:
        raise ValueError(
            f"--minutes: {cells[0]} alone would take {in_words(left[0])}; choose a smaller --num, "
            "or fewer --steps."
        )
    return kept


def _looking(judge, pictures):
    """Seconds that the extractor takes for each picture, by a batch of real ones."""
    some = pictures.arrays["test_images"][: judge.extractor.batch]
    judge.look(some)  # traces
    began = time.monotonic()
    judge.look(some)
    return (time.monotonic() - began) / len(some)


def _report(kept, judge, pictures, record, out):
    """Draws the figures, and writes and prints the rest."""
    if len(record["cells"]) > 1:
        figures.sampler_report(record["cells"], record["floor"], out / "samplers.png")
    images.save_png(out / "samples.png", images.grid(kept["images"][:64]))
    print("looking for the nearest training pictures", flush=True)
    record["memorisation"] = _memorisation(kept, judge, pictures, out)
    _write(record, out)
    print(f"\n{tables.aligned(*tables.rows(record))}\n")
    print("\n".join([tables.in_words(record), *_remarks(record)]))
    print(f"wrote {out}/: scores.json, scores.csv, scores.md and pictures")


def _memorisation(kept, judge, pictures, out):
    """Compares drawn and held-out pictures with the training pictures, and draws both figures."""
    training = pictures.arrays["train_images"]
    held_out = pictures.arrays["test_images"][:MOST_TO_COMPARE]
    drawn = kept["images"][:MOST_TO_COMPARE]
    find = memorisation.nearest_or_mirrored if pictures.flip else memorisation.nearest
    spaces = {
        "pixels": [find(each, training) for each in (drawn, held_out)],
        "features": [
            memorisation.nearest(each[:MOST_TO_COMPARE], judge.train)
            for each in (kept["features"], judge.held_out)
        ],
    }
    figures.memorisation(spaces, out / "memorisation.png")
    rows = {}
    for space, both in spaces.items():
        for who, found, theirs in zip(("drawn", "held out"), both, (drawn, held_out), strict=True):
            closest = np.argsort(found.distances, kind="stable")[:PAIRS]
            rows[f"{who}, by {space}"] = (theirs[closest], found.matches(training)[closest])
    figures.closest_pairs(rows, out / "closest.png")
    compared = {
        space: memorisation.compare(*(found.distances for found in both))
        for space, both in spaces.items()
    }
    how = {name: kept["row"][name] for name in ("sampler", "num_steps")}
    return {**how, "images": len(drawn), "held_out": len(held_out), "spaces": compared}


def _write(record, out):
    """Writes the scores so far, each file whole."""
    with whole_file(out / "scores.json") as part:
        Path(part).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with whole_file(out / "scores.csv") as part:
        tables.write_csv(record, part)
    with whole_file(out / "scores.md") as part:
        lines = [tables.markdown(*tables.rows(record)), tables.in_words(record), *_remarks(record)]
        Path(part).write_text("\n".join([*lines, ""]), encoding="utf-8")


def _remarks(record):
    """What there is to say of copies, and of cells that were left out: lines."""
    spaces = record.get("memorisation", {}).get("spaces", {})
    lines = [memorisation.in_words(space, found) for space, found in spaces.items()]
    if record["left_out"]:
        lines.append(f"left out, as --minutes were over: {', '.join(record['left_out'])}")
    return lines


def bar(total):
    """Returns a function that shows how many of `total` pictures are done."""
    interval = 0.1 if is_watched() else 30  # seconds; a log is not to be filled
    return keras.utils.Progbar(total, unit_name="picture", interval=interval).update


def in_words(seconds):
    """Returns a length of time to be read: "about 40 s", "about 3 min"."""
    if seconds < 90:
        return f"about {max(1, seconds):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
