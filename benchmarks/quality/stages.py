"""The stages of a quality section; each does nothing if its result is in the cache.

Imports nothing heavy: the functions that need a framework are in `workers.py`, in other processes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import data, machine, runs, subjects
from benchmarks.quality import tables
from keras_diffusion.runtime.files import content_hash
from keras_diffusion.saving import export_folder

# Ours ---------------------------------------------------------------------------------------------


def train_ours(plan):
    """Runs train.py, or resumes its run, unless it has finished.

    Returns:
        dict: `folder` of all results, `model` (path of the SavedModel), `export` (`ExportConfig`),
        `images_seen`.
    """
    arguments = [*plan.training, "--minutes", str(plan.minutes)]
    if plan.options.tiny:
        height, _, channels = subjects.image_shape(plan.task, tiny=True)
        arguments += ["--image-size", str(height), "--channels", str(channels)]
    code = [runs.ROOT / "train.py", *(runs.ROOT / "keras_diffusion").rglob("*.py")]
    folder = plan.folder / f"ours-{_key(code, arguments)}"
    run_dir, model, log = folder / "run", folder / "model", folder / "train.log"
    folder.mkdir(exist_ok=True)
    if not (model / "saved_model.pb").exists():
        begun = any((run_dir / "checkpoints").glob("step-*.keras"))
        arguments = ["--resume", str(run_dir)] if begun else [*arguments, "--run-dir", str(run_dir)]
        if plan.options.data_dir and not plan.options.tiny:
            arguments += ["--data-dir", str(plan.options.data_dir)]
        runs.progress(f"ours: {plan.minutes:g} minutes of training, log in {log}")
        run_train([*arguments, "--export-dir", str(model)], log)
    export = export_folder.read(model)
    return {
        "folder": folder,
        "model": model,
        "images_seen": export.training["length"]["images"],
        "export": export,
    }


def run_train(arguments, log):
    """Runs train.py with its output in a file."""
    command = [sys.executable, str(runs.ROOT / "train.py"), *arguments]
    with open(log, "a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        reason = runs.reason(log.read_text(errors="replace"))
        raise runs.RunFailed(f"train.py ended with exit code {done.returncode}: {reason}")


def our_variants(plan, ours):
    """Returns the rows of ours, sets of images to sample; the goal is about the first one."""
    preset = ours["export"].sampler, ours["export"].num_steps
    return [
        _set(plan, ours, "preset", *preset),
        _set(plan, ours, "guidance off", *preset, guidance_scale=1.0),
    ]


def curve(plan, ours):
    """Returns the sets of all numbers of steps, without guidance, as in the sampling section."""
    return [
        _set(plan, ours, "curve", sampler, num_steps, seed, guidance_scale=1.0, num=plan.curve_num)
        for seed in range(plan.seeds)
        for sampler, counts in plan.steps.items()
        for num_steps in counts
    ]


def _set(plan, ours, variant, sampler, num_steps, seed=0, num=None, **guidance):
    """Returns a set of images for `workers.sample_ours`; the file name depends on all settings."""
    num = num or plan.num
    guidance = {**ours["export"].guidance.options(), **guidance}
    name = f"{sampler}-{num_steps}-guidance{guidance['guidance_scale']}-seed{seed}-{num}"
    return {
        "subject": "ours",
        "variant": variant,
        "averaged": True,
        "sampler": sampler,
        "num_steps": num_steps,
        "seed": seed,
        "guidance": guidance,
        "labels": str(_labels(plan, ours, num)),
        "images": str(ours["folder"] / f"{name}.npy"),
    }


def _labels(plan, ours, num):
    """Returns the file of the classes to sample, drawn with the frequencies of the data.

    A set with equal class shares would be nearer to the training images than as many real images
    are, and the peers do not choose their classes.
    """
    path = ours["folder"] / f"labels-{num}.npy"
    if not path.exists():
        _, real = data.load(plan.task, "train", plan.options.tiny, plan.options.cache)
        np.save(path, np.random.default_rng(0).choice(real, num).astype("int32"))
    return path


def sample_ours(ours, sets):
    """Samples the sets that are missing."""
    runs.in_fresh_process("quality.workers.sample_ours", model=str(ours["model"]), sets=sets)


# The peer -----------------------------------------------------------------------------------------


def train_peer(plan, variant):
    """Trains the peer unless it has been; returns its row, a set of images to sample."""
    settings = {"subject": plan.peer, "variant": variant, "task": plan.task,
                "tiny": plan.options.tiny, "minutes": plan.minutes}  # fmt: skip
    files = [f"{plan.peer}.py", "torch_parts.py", "keras_parts.py"]
    code = [runs.FOLDER / "subjects" / file for file in files]
    folder = plan.folder / f"{plan.peer}-{_key(code, settings, machine.versions())}"
    folder.mkdir(exist_ok=True)
    weights = folder / "weights"
    if not weights.with_suffix(".json").exists():
        runs.progress(f"{plan.peer}, {variant}: {plan.minutes:g} minutes of training")
        where = {"cache": str(plan.options.cache), "weights": str(weights)}
        runs.in_fresh_process("quality.workers.train_peer", **settings, **where)
    return {
        "subject": plan.peer,
        "variant": variant,
        "averaged": True,
        **json.loads(weights.with_suffix(".json").read_text()),
        "sampler": "ddim",
        "num_steps": plan.peer_steps,
        "num": plan.num,
        "labels": None,
        "weights": str(weights),
        "images": str(folder / f"averaged-ddim-{plan.peer_steps}-{plan.num}.npy"),
    }


def with_last_weights(plan, row):
    """Returns the row of the same training, sampled with the weights at its end."""
    num = min(plan.num, plan.last_num)
    images = Path(row["images"]).with_name(f"last-ddim-{row['num_steps']}-{num}.npy")
    return {**row, "averaged": False, "num": num, "images": str(images)}


def sample_peer(plan, row):
    """Samples the images of a row of the peer, unless they exist."""
    if not Path(row["images"]).exists():
        names = ("subject", "variant", "weights", "averaged", "num_steps", "num", "images")
        arguments = {name: row[name] for name in names}
        where = {"task": plan.task, "tiny": plan.options.tiny}
        runs.in_fresh_process("quality.workers.sample_peer", **arguments, **where)


# Both ---------------------------------------------------------------------------------------------


def score(plan, sets):
    """Scores sets of images, see `workers.score`."""
    files = [{"images": each["images"], "labels": each["labels"]} for each in sets]
    where = {"task": plan.task, "tiny": plan.options.tiny, "cache": str(plan.options.cache)}
    sizes = [plan.num, plan.curve_num]
    return runs.in_fresh_process("quality.workers.score", **where, sizes=sizes, sets=files)


def plot(plan, left, right):
    """Plots the first images of two rows side by side, unselected; returns the file name."""
    name = f"quality_{plan.task}_{machine.kind()}.png"
    runs.in_fresh_process(
        "quality.workers.plot",
        files=[left["images"], right["images"]],
        titles=[tables.caption(row) for row in (left, right)],
        out=str(plan.options.images / name),
    )
    return name


def _key(paths, *settings):
    """Returns a name that depends on the content of files and on settings."""
    contents = [path.read_bytes() for path in sorted(paths)]
    return content_hash(json.dumps(settings, sort_keys=True), *contents)
