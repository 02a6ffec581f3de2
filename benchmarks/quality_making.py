"""How `quality.py` comes to its pictures: the stages in order, each only if it is not done yet.

Imports nothing heavy: what needs a framework is in `quality_stages.py`, in other processes.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import data, runs, subjects
from benchmarks.quality_stages import fingerprint, tell

ROOT = Path(__file__).resolve().parents[1]


# Ours ---------------------------------------------------------------------------------------


def train_ours(todo):
    """Runs train.py, or goes on with it; returns dict of path, model, images_seen, defaults."""
    arguments = [*_training(todo), "--minutes", str(todo.minutes)]
    code = fingerprint([ROOT / "train.py", *(ROOT / "keras_diffusion").rglob("*.py")])
    path = todo.folder / f"ours-{_key(arguments, code)}"
    run_dir, model = path / "run", path / "model"
    path.mkdir(exist_ok=True)
    if not (model / "saved_model.pb").exists():
        begun = any((run_dir / "checkpoints").glob("step-*.keras"))
        arguments = ["--resume", str(run_dir)] if begun else [*arguments, "--run-dir", str(run_dir)]
        if todo.data_dir and not todo.tiny:
            arguments += ["--data-dir", str(todo.data_dir)]
        tell(f"  ours: {todo.minutes} minutes of training; {path / 'train.log'}")
        _train(arguments, model, path / "train.log")
    config = json.loads((run_dir / "config.json").read_text())["config"]
    last = max((run_dir / "checkpoints").glob("step-*.keras")).stem
    return {
        "path": path,
        "model": model,
        "images_seen": int(last.removeprefix("step-")) * config["batch_size"],
        "defaults": json.loads((model / "assets.extra" / "config.json").read_text()),
    }


def _training(todo):
    if not todo.tiny:
        return TRAINING[todo.task]
    height, _, channels = subjects.image_shape(todo.task, tiny=True)
    toy = ["--dataset", "digits", "--image-size", str(height), "--channels", str(channels)]
    return [*toy, "--batch-size", "32", *TINY_SETTINGS]


def _train(arguments, model, log):
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "--export-dir", str(model)]
    with open(log, "a") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise runs.RunFailed(f"train.py ended with exit code {code}: {lines[-1:]}")


def our_ways(todo, ours):
    """{name: job} of the sets of pictures that stand in the table; the first one is judged."""
    defaults = ours["defaults"]
    preset = {"sampler": defaults["sampler"], "num_steps": defaults["num_steps"]}
    return {
        "preset": _job(todo, ours, **preset),
        "guidance off": _job(todo, ours, **preset, guidance_scale=1.0),
        "classes as often as in training": _job(todo, ours, **preset, shares="training"),
    }


def our_curve(todo, ours):
    """List of jobs: every sampler and number of steps, the first seed of all first."""
    return [
        _job(todo, ours, sampler, num_steps, seed)
        for seed in range(todo.seeds)
        for sampler, counts in (TINY_STEPS if todo.tiny else STEPS).items()
        for num_steps in counts
    ]


def _job(todo, ours, sampler, num_steps, seed=0, guidance_scale=None, shares="equal"):
    """What `quality_stages.sample_ours` is to draw; the name of the file says all of it."""
    scale = ours["defaults"]["guidance_scale"] if guidance_scale is None else guidance_scale
    name = f"{sampler}-{num_steps}-guidance{scale}-{shares}-seed{seed}-{todo.num}.npy"
    return {
        "sampler": sampler,
        "num_steps": num_steps,
        "seed": seed,
        "guidance_scale": scale,
        "labels": str(_labels(todo, ours, shares)),
        "images": str(ours["path"] / name),
    }


def _labels(todo, ours, shares):
    """The file of the classes to draw: in turn, as `sample.py` does, or as often as they are."""
    path = ours["path"] / f"labels-{shares}-{todo.num}.npy"
    if not path.exists():
        labels = np.arange(todo.num) % ours["defaults"]["num_classes"]
        if shares == "training":
            _, real = data.load(todo.task, "train", todo.tiny, todo.cache)
            labels = np.random.default_rng(0).choice(real, todo.num)
        np.save(path, labels.astype("int32"))
    return path


def draw_ours(ours, jobs):
    """Draws what is not there yet; returns dict of `parameters`."""
    return shown("quality_stages.sample_ours", model=str(ours["model"]), jobs=jobs)


# The peer -----------------------------------------------------------------------------------


def variants(todo):
    """Names of the peer's variants that are trained."""
    peer = PEERS[todo.task]
    return [peer.variant, peer.autocast] if todo.autocast else [peer.variant]


def train_peer(todo, variant):
    """Trains the peer unless it was; returns its row of the table, with its files."""
    peer = PEERS[todo.task]
    settings = {
        "peer": peer.subject,
        "variant": variant,
        "task": todo.task,
        "tiny": todo.tiny,
        "minutes": todo.minutes,
        "batch_size": PEER_BATCH[todo.task],
    }
    code = fingerprint([Path(__file__).parent / "subjects" / f"{peer.subject}.py"])
    name = re.sub(r"\W+", "-", f"{peer.subject}-{variant}")
    path = todo.folder / f"{name}-{_key(settings, code)}"
    path.mkdir(exist_ok=True)
    weights = path / "weights"
    if not weights.with_suffix(".json").exists():
        tell(f"  {peer.subject}, {variant}: {todo.minutes} minutes of training")
        cache = str(todo.cache)
        shown("quality_stages.train_peer", **settings, cache=cache, weights=str(weights))
    facts = json.loads(weights.with_suffix(".json").read_text())
    return {
        "subject": subjects.TITLES[peer.subject],
        "variant": variant,
        "parameters": facts["parameters"],
        "images_seen": facts["images"],
        "sampler": "ddim",
        "num_steps": 2 if todo.tiny else peer.num_steps,
        "path": path,
    }


def draw_peer(todo, peer):
    """Draws the peer's pictures unless they are there."""
    images = peer["path"] / f"ddim-{peer['num_steps']}-{todo.num}.npy"
    peer.update(images=str(images), labels=None)
    if not images.exists():
        arguments = {"peer": PEERS[todo.task].subject, "variant": peer["variant"]}
        arguments.update(task=todo.task, tiny=todo.tiny, weights=str(peer["path"] / "weights"))
        arguments.update(num=todo.num, num_steps=peer["num_steps"], seed=0, images=str(images))
        shown("quality_stages.sample_peer", **arguments)


# Both ---------------------------------------------------------------------------------------


def score(todo, sets):
    """See `quality_stages.score`; sets are dicts with `images` and `labels`."""
    files = [{"images": each["images"], "labels": each["labels"]} for each in sets]
    where = {"task": todo.task, "tiny": todo.tiny, "cache": str(todo.cache)}
    return shown("quality_stages.score", **where, num=todo.num, sets=files)


def picture(todo, ours, peer, rows):
    """Draws docs/images/quality_TASK.png."""
    todo.images.mkdir(parents=True, exist_ok=True)
    titles = [quality_report.caption(row) for row in (rows[0], _kept(peer))]
    shown(
        "quality_stages.picture",
        left=ours["images"],
        right=peer["images"],
        titles=titles,
        caption=f"The first 64 pictures of each, not selected, after {todo.minutes} minutes of "
        "training on the same machine",
        out=str(todo.images / f"quality_{todo.task}.png"),
    )


def shown(name, **arguments):
    """`runs.in_fresh_process` that passes on what the process tells of its progress."""
    command = [sys.executable, str(runs.WORKER), name, json.dumps(arguments)]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            lines = [*lines[-200:], line]
            if line.startswith("  "):
                sys.stderr.write(line)
        output = process.stdout.read()
    if process.returncode:
        raise runs.RunFailed(runs.reason("".join(lines)) or f"exit code {process.returncode}")
    return json.loads(output.splitlines()[-1])


def _key(*settings):
    return fingerprint([], settings)
