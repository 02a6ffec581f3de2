"""Kills a training at random moments, resumes it each time, and compares the end bit for bit.

    python tests/kills.py --kills 20

trains on the digits twice, once undisturbed and once with SIGKILL after random times (in
start-up, in a step, in validation, while a checkpoint is written). Network, EMA, optimizer,
random state and history must come out equal in every bit. About twenty minutes on two cores.
"""

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "train.py")]
# All that could go wrong: labels and their dropout, dropout in the network, bfloat16 where it
# is, a checkpoint within nearly every epoch.
OPTIONS = ["--dataset", "digits", "--horizontal-flip", "--deterministic", "--seed", "3"]
OPTIONS += ["--set", "widths=(16,32)", "--set", "dropout=0.1", "--set", "num_steps=2"]
OPTIONS += ["--checkpoint-minutes", "0.005"]


def train(folder, *options):
    """Starts train.py in a folder; returns the process."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [*TRAIN, *options, "--export-dir", str(folder / "export")]
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def begin_or_resume(folder, options):
    """What a user would do after a power cut."""
    if list(folder.glob("run/checkpoints/step-*.keras")):
        return train(folder, "--resume", "run")
    return train(folder, *options, "--run-dir", "run")


def train_through(folder, options):
    """Trains without a disturbance; returns the seconds that it took."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    assert begin_or_resume(folder, options).wait() == 0, (folder / "log.txt").read_text()[-2000:]
    return time.monotonic() - began


def train_with_kills(folder, options, kills, wait):
    """Trains, killed `kills` times when `wait(process)` returns; returns where the kills fell."""
    folder.mkdir(parents=True)
    fell = []
    while len(fell) < kills:
        process = begin_or_resume(folder, options)
        wait(process)
        if process.poll() is not None:
            assert process.returncode == 0, (folder / "log.txt").read_text()[-2000:]
            break  # it was finished before its time
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = sorted(folder.glob("run/checkpoints/step-*.keras"))
        part = "while writing" if list(folder.glob("run/**/.part-*")) else "else"
        fell.append((found[-1].stem if found else "before the first checkpoint", part))
    process = begin_or_resume(folder, options)
    assert process.wait() == 0, (folder / "log.txt").read_text()[-2000:]
    return fell


def last_checkpoint(folder):
    """Returns ({name of a dataset: array}, progress) of the newest checkpoint of a run."""
    path = sorted(folder.glob("run/checkpoints/step-*.keras"))[-1]
    arrays = {}
    with zipfile.ZipFile(path) as file:
        progress = json.loads(file.read("progress.json"))
        with h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:

            def keep(name, item):
                if isinstance(item, h5py.Dataset):
                    arrays[name] = item[()]

            weights.visititems(keep)
    del progress["seconds"]  # the one thing that may differ
    return arrays, progress


def differences(one, other):
    """Returns in words what differs between the ends of two runs; empty if they are equal."""
    (arrays, progress), (others, other_progress) = last_checkpoint(one), last_checkpoint(other)
    found = [f"only in one: {name}" for name in set(arrays) ^ set(others)]
    for name in set(arrays) & set(others):
        a, b = arrays[name], others[name]
        if a.dtype != b.dtype or a.tobytes() != b.tobytes():
            found.append(f"{name}: differs by up to {np.abs(a - b).max()}")
    if progress != other_progress:
        found.append("progress or history")
    if (one / "run/history.csv").read_bytes() != (other / "run/history.csv").read_bytes():
        found.append("history.csv")
    return found


def main():
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--kills", type=int, default=20)
    flags.add_argument("--epochs", type=int, default=200)
    flags.add_argument("--seed", type=int, default=0, help="of the moments")
    flags.add_argument(
        "--folder", type=Path, help="default: a new temporary one; an undisturbed run there is used"
    )
    given = flags.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    options = [*OPTIONS, "--epochs", str(given.epochs)]
    if not (folder / "whole/export").exists():  # from an earlier call
        seconds = train_through(folder / "whole", options)
        print(f"undisturbed: {given.epochs} epochs in {seconds:.0f} s", flush=True)
    moments = random.Random(given.seed)

    def wait(process):
        time.sleep(moments.uniform(5, 35))

    fell = train_with_kills(folder / "killed", options, given.kills, wait)
    for number, (checkpoint, part) in enumerate(fell, 1):
        print(f"kill {number:2}: last checkpoint {checkpoint}, {part}")
    found = differences(folder / "whole", folder / "killed")
    arrays, progress = last_checkpoint(folder / "whole")
    size = sum(array.nbytes for array in arrays.values())
    print(f"{len(fell)} kills survived; {len(arrays)} arrays, {size / 2**20:.1f} MiB, and")
    print(f"{len(progress['history'])} rows of history compared: ", end="")
    print("all bits equal" if not found else f"{len(found)} differ, such as {found[:3]}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
