"""How the section comes to its pictures: the stages, each only if it is not done yet.

Imports nothing heavy: what needs a framework is in `stages.py`, in other processes.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import data, machine, runs, subjects
from benchmarks.quality.plans import TINY_SETTINGS, TRAINING
from keras_diffusion.runtime.files import whole_file

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = ROOT / "benchmarks" / "subjects"


# Ours ---------------------------------------------------------------------------------------


def train_ours(plan):
    """Runs train.py, or goes on with its run, unless it is finished.

    Returns:
        dict of `path` (folder for all of it), `model` (SavedModel), `images_seen`, `defaults`
        (the model's own for whoever draws).
    """
    arguments = [*_training(plan), "--minutes", str(plan.minutes)]
    code = fingerprint([ROOT / "train.py", *(ROOT / "keras_diffusion").rglob("*.py")])
    path = plan.folder / f"ours-{_key(arguments, code)}"
    run_dir, model, log = path / "run", path / "model", path / "train.log"
    path.mkdir(exist_ok=True)
    if not (model / "saved_model.pb").exists():
        begun = any((run_dir / "checkpoints").glob("step-*.keras"))
        arguments = ["--resume", str(run_dir)] if begun else [*arguments, "--run-dir", str(run_dir)]
        if plan.data_dir and not plan.tiny:
            arguments += ["--data-dir", str(plan.data_dir)]
        tell(f"ours: {plan.minutes} minutes of training, told of in {log}")
        _run_train([*arguments, "--export-dir", str(model)], log)
    return {
        "path": path,
        "model": model,
        "images_seen": _images_seen(run_dir, path / "images_seen.json"),
        "defaults": json.loads((model / "assets.extra" / "config.json").read_text()),
    }


def _images_seen(run_dir, kept):
    """What a finished run of ours has seen; kept in a file, as reading it takes TensorFlow."""
    if not kept.exists():
        count = shown("quality.stages.images_seen", run_dir=str(run_dir))["count"]
        with whole_file(kept) as part:
            Path(part).write_text(json.dumps(count))
    return json.loads(kept.read_text())


def _training(plan):
    if not plan.tiny:
        return TRAINING[plan.task]
    height, _, channels = subjects.image_shape(plan.task, tiny=True)
    toy = ("--dataset", "digits", "--image-size", str(height), "--channels", str(channels))
    return (*toy, *TINY_SETTINGS)


def _run_train(arguments, log):
    with open(log, "a") as file:
        command = [sys.executable, str(ROOT / "train.py"), *arguments]
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=runs.ENVIRONMENT
        ).returncode
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise runs.RunFailed(f"train.py ended with exit code {code}: {' '.join(lines[-1:])}")


def ways(plan, ours):
    """{name: set} of what stands in the table of ours; the first one is judged."""
    defaults = ours["defaults"]
    preset = {"sampler": defaults["sampler"], "num_steps": defaults["num_steps"]}
    return {
        "preset": _set(plan, ours, **preset),
        "guidance off": _set(plan, ours, **preset, guidance_scale=1.0),
        "classes in equal shares": _set(plan, ours, **preset, shares="equal"),
    }


def curve(plan, ours):
    """List of sets: every number of steps, all of the first seed first; without guidance.

    So is drawn what section sampling times, at half the work.
    """
    return [
        _set(plan, ours, sampler, num_steps, seed, guidance_scale=1.0, num=plan.curve_num)
        for seed in range(plan.seeds)
        for sampler, counts in plan.steps.items()
        for num_steps in counts
    ]


def _set(plan, ours, sampler, num_steps, seed=0, guidance_scale=None, shares="data", num=None):
    """What `stages.sample_ours` is to draw; the name of the file says all of it."""
    num = num or plan.num
    scale = ours["defaults"]["guidance_scale"] if guidance_scale is None else guidance_scale
    name = f"{sampler}-{num_steps}-guidance{scale}-{shares}-seed{seed}-{num}.npy"
    return {
        "sampler": sampler,
        "num_steps": num_steps,
        "seed": seed,
        "guidance_scale": scale,
        "guidance_interval": ours["defaults"]["guidance_interval"],
        "guidance_rescale": ours["defaults"]["guidance_rescale"],
        "labels": str(_labels(plan, ours, shares, num)),
        "images": str(ours["path"] / name),
    }


def _labels(plan, ours, shares, num):
    """The file of the classes to draw: by the data's shares, or in turn, as `sample.py` does.

    What is judged has the data's: a set with as many of each class is nearer to the training
    pictures than so many real ones are, and the peers have no say in their classes.
    """
    path = ours["path"] / f"labels-{shares}-{num}.npy"
    if not path.exists():
        labels = np.arange(num) % ours["defaults"]["num_classes"]
        if shares == "data":
            _, real = data.load(plan.task, "train", plan.tiny, plan.cache)
            labels = np.random.default_rng(0).choice(real, num)
        np.save(path, labels.astype("int32"))
    return path


def draw_ours(ours, sets):
    """Draws what is not there yet; returns dict of `parameters`."""
    return shown("quality.stages.sample_ours", model=str(ours["model"]), sets=sets)


# The peer -----------------------------------------------------------------------------------


def train_peer(plan, variant):
    """Trains the peer unless it was; returns its row of the table, as a set of pictures."""
    peer = plan.peer
    settings = {
        "peer": peer.subject,
        "variant": variant,
        "task": plan.task,
        "tiny": plan.tiny,
        "minutes": plan.minutes,
        "images_to_see": plan.peer_images,
        "batch_size": subjects.BATCH_SIZES[plan.task],
    }
    name = re.sub(r"\W+", "-", f"{peer.subject}-{variant}")
    code = fingerprint([SUBJECTS / file for file in peer.files], machine.versions())
    path = plan.folder / f"{name}-{_key(settings, code)}"
    path.mkdir(exist_ok=True)
    weights = path / "weights"
    if not weights.with_suffix(".json").exists():
        length = f"{plan.peer_images} images" if plan.peer_images else f"{plan.minutes} minutes"
        tell(f"{peer.subject}, {variant}: {length} of training")
        where = {"cache": str(plan.cache), "weights": str(weights)}
        shown("quality.stages.train_peer", **settings, **where)
    facts = json.loads(weights.with_suffix(".json").read_text())
    num_steps = 2 if plan.tiny else peer.num_steps
    return {
        "subject": subjects.TITLES[peer.subject],
        "variant": variant,
        "parameters": facts["parameters"],
        "images_seen": facts["images"],
        "sampler": "ddim",
        "num_steps": num_steps,
        "num": plan.num,
        "labels": None,
        "weights": str(weights),
        "averaged": True,
        "images": str(path / f"ddim-{num_steps}-seed0-{plan.num}.npy"),
    }


def not_averaged(plan, row):
    """Returns the row of the same training, drawn with the weights that it ended with."""
    num = min(plan.num, plan.peer.last_num)
    name = f"last-ddim-{row['num_steps']}-seed0-{num}.npy"
    images = str(Path(row["images"]).with_name(name))
    return {**row, "averaged": False, "num": num, "images": images}


def draw_peer(plan, row):
    """Draws the pictures of a row of `train_peer`, unless they are there."""
    if not Path(row["images"]).exists():
        names = ("variant", "weights", "averaged", "num_steps", "num", "images")
        shared = {name: row[name] for name in names}
        subject = {"peer": plan.peer.subject, "task": plan.task, "tiny": plan.tiny}
        shown("quality.stages.sample_peer", **shared, **subject, seed=0)


# Both ---------------------------------------------------------------------------------------


def score(plan, sets):
    """See `stages.score`; sets are dicts with `images` and `labels`."""
    files = [{"images": each["images"], "labels": each["labels"]} for each in sets]
    where = {"task": plan.task, "tiny": plan.tiny, "cache": str(plan.cache)}
    return shown("quality.stages.score", **where, sizes=[plan.num, plan.curve_num], sets=files)


def picture(plan, left, right, titles, caption):
    """Draws the picture of two sets; returns the name of the file."""
    plan.images.mkdir(parents=True, exist_ok=True)
    out = plan.images / f"quality_{plan.task}.png"
    files = {"left": left["images"], "right": right["images"], "out": str(out)}
    shown("quality.stages.picture", **files, titles=titles, caption=caption)
    return out.name


def shown(name, **arguments):
    """As `runs.in_fresh_process`, and passes on what the process tells of its progress."""
    command = [sys.executable, str(runs.WORKER), name, json.dumps(arguments)]
    lines = []
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(
            command, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace",
            env=runs.ENVIRONMENT,
        ) as process:  # fmt: skip
            for line in process.stderr:
                lines = [*lines[-200:], line]
                if line.startswith(INDENT):
                    sys.stderr.write(line)
        if process.returncode:
            reason = runs.reason("".join(lines)) or f"exit code {process.returncode}"
            raise runs.RunFailed(reason)
        output.seek(0)
        return json.loads(output.read().splitlines()[-1])


INDENT = "  quality: "  # begins a line of progress


def tell(line):
    """Writes a line of progress."""
    print(INDENT + line, file=sys.stderr, flush=True)


def fingerprint(paths, *settings):
    """A name for the meaning of Python files, whatever their comments, and of settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(paths):
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(body := getattr(node, "body", None), list):
                node.body = [line for line in body if not _is_text(line)]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _key(*settings):
    return fingerprint([], *settings)
