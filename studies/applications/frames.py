"""Missing frames of clips, beside repeating and blending the known ones."""

import dataclasses
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from keras_diffusion import build
from keras_diffusion.config.resolve import resolve
from keras_diffusion.data import moving_digits, pipeline
from keras_diffusion.diffusion import operators
from keras_diffusion.plotting.images import save_gif, split_frames, to_pillow
from keras_diffusion.sampling import editing
from keras_diffusion.saving import loading
from studies import runs
from studies.applications import examples, fills
from studies.applications.context import length, training_facts, training_in_words
from studies.report import CHANCE, Claim, table

TITLE = "Missing frames are filled better than by repeating or blending the known ones"
FILLED = "MMPS"
SHOWN = 2  # clips for each task
FIGURES = ("frames_between", "frames_one")  # of the tasks


def measure(context):
    """Returns the result of `fill`, with `trained`, the number of clips."""
    trained = context.stages.run("frames-training", lambda folder: train(context))
    result = context.stages.run("frames", lambda folder: fill(context, folder))
    return {**trained, **result}


def config_of(context):
    """Returns the `Config` of clips of one moving digit, 32x32."""
    settings = context.settings
    options = {"seed": settings.seed, **length(settings, settings.frames_minutes)}
    if settings.toy_clips:
        folder = runs.folder("frames", context.stages).with_name("toy-clips")
        return resolve(None, {"folder": str(folder), **settings.frames_options, **options})
    options = {"image_size": (32, 32), "data_dir": context.data_dir, **options}
    return resolve("moving_mnist", {**options, **settings.frames_options})


def train(context):
    """Trains without labels; returns {"trained": number of clips, "minutes" or "epochs"}."""
    config = config_of(context)
    if config.folder:
        write_toy_clips(Path(config.folder), config.frames)
    batches = runs.train(config, runs.folder("frames", context.stages))
    return {**training_facts(config, batches), "side": config.image_size[0]}


def write_toy_clips(folder, frames, count=60):
    """Writes animations of scikit-learn's digits that move."""
    digits = (load_digits().images * 255 / 16).astype("uint8")[..., None]
    for i in range(count):
        clip = moving_digits.clip(digits, (i,), frames, num_digits=1)
        images = [to_pillow(clip[..., f : f + 1]) for f in range(frames)]
        save_gif(folder / f"{i}.gif", images, [100] * frames)


def held_out(context):
    """Returns (clips uint8 (N, H, W, K) of validation digits, K)."""
    config = config_of(context)
    source = build.load_data(dataclasses.replace(config, limit=1)).source
    size = (*config.image_size, source.channels)
    num = min(context.settings.clips, source.num_val)
    validation = pipeline.prepared(source.validation.take(num), *size, source.frames)
    return pipeline.read(validation, num)["image"], source.frames


def repeated(clips, known):
    """Returns clips (N, H, W, K) whose missing frames are the nearest known ones."""
    known = np.array(known)
    nearest = [known[np.abs(known - f).argmin()] for f in range(clips.shape[-1])]
    return clips[..., nearest]


def blended(clips, known):
    """Returns clips whose missing frames are mixed linearly from the known ones around them."""
    frames = np.arange(clips.shape[-1])
    after = np.searchsorted(known, frames).clip(1, len(known) - 1)
    first, last = np.array(known)[after - 1], np.array(known)[after]
    share = np.clip((frames - first) / (last - first), 0, 1)
    return np.rint(clips[..., first] * (1 - share) + clips[..., last] * share).astype("uint8")


def fill(context, folder):
    """Fills missing frames of held-out clips.

    Returns:
        dict of `rows` (task, method, psnr of the missing frames; gain: by how much MMPS is above
        it, mean over the clips, and its standard error), `clips`, `frames`, `examples`.
    """
    settings = context.settings
    model = loading.load(runs.folder("frames", context.stages))
    clips, frames = held_out(context)
    middle = frames // 2
    tasks = {
        "first and last known": [0, frames - 1],
        "all others known": [f for f in range(frames) if f != middle],
    }
    rows, kept = [], []
    titles = [f"frame {f + 1}" for f in range(frames)]
    for name, (task, known) in zip(FIGURES, tasks.items(), strict=True):
        missing = [f for f in range(frames) if f not in known]
        restored = editing.restore(
            model,
            clips,
            operators.frames(known, frames),
            num_steps=settings.num_steps,
            cg_steps=settings.cg_steps,
            seed=settings.seed,
        )
        scores, results = (
            {},
            {
                FILLED: restored,
                "nearest frame": repeated(clips, known),
                "linear blend": blended(clips, known),
            },
        )
        for method, filled in results.items():
            parts = [split_frames(each, frames)[:, missing] for each in (filled, clips)]
            pixels = [part.reshape(-1, *part.shape[2:]) for part in parts]
            each = fills.psnr_of_each(*pixels).reshape(len(clips), -1).mean(1)
            scores[method] = each
            gain = scores[FILLED] - each  # MMPS comes first
            error = gain.std() / np.sqrt(len(clips))
            row = {"task": task, "method": method, "psnr": float(each.mean())}
            rows.append({**row, "gain": float(gain.mean()), "error": float(error)})
        given = np.where(np.isin(np.arange(frames), known), clips, 128).astype("uint8")
        sets = {"truth": clips, "given": given, "linear blend": results["linear blend"],
                FILLED: restored}  # fmt: skip
        shown = [
            (title, list(split_frames(each[i], frames)))
            for i in range(SHOWN)
            for title, each in sets.items()
        ]
        kept.append(examples.keep(folder, name, shown, titles))
    return {"rows": rows, "clips": len(clips), "frames": frames, "examples": kept}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    by_task = {}
    for row in result["rows"]:
        by_task.setdefault(row["task"], []).append(row)
    return [_closer(task, rows) for task, rows in by_task.items()]


def _closer(task, rows):
    """The claim that MMPS is above all others, by more than chance."""
    gaps = [(row["gain"], CHANCE * row["error"]) for row in rows if row["method"] != FILLED]
    gain, chance = min(gaps)
    shown = ", ".join(f"{row['method']} {row['psnr']:.2f} dB" for row in rows)
    return Claim(
        f"{task}: missing frames are closer to the true ones than by repeating or blending",
        f"{shown}; above the best by {gain:.2f} dB, by chance up to {chance:.2f}",
        None if abs(gain) <= chance else gain > 0,
    )


def section(result):
    """Returns the part of the page."""
    rows = [[row["task"], row["method"], f"{row['psnr']:.1f} dB"] for row in result["rows"]]
    return "\n\n".join([
        f"Trained {training_in_words(result, 'clips')} on {result['frames']} frames of "
        f"{result['side']}x{result['side']} pixels, and measured on {result['clips']} held-out "
        "clips.",
        table(["known frames", "filled by", "PSNR of the missing frames"], rows),
        "![Two clips of which the first and the last frame are known](frames_between.png)",
        "![The same clips, of which one frame is missing](frames_one.png)",
    ])  # fmt: skip


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    found = {}
    for kept in result["examples"]:
        found.update(examples.figure(kept, "frames", stages, width=0.9))
    return found
