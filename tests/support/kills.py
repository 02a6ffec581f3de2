"""Kills a training at random moments, resumes it each time, and compares the end bit for bit.

    python tests/support/kills.py --kills 20

Trains twice on the digits data set: once without interruption, and once with SIGKILL after random
times (at start-up, in a step, in validation, while a checkpoint is written). Weights, optimizer,
random states and history must be equal. 20 kills take about twenty minutes on two cores.
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
# Everything that has a state: label dropout, dropout in the network, flips, and a checkpoint in
# nearly every epoch.
OPTIONS = ["--dataset", "digits", "--horizontal-flip", "--deterministic", "--seed", "3"]
OPTIONS += ["--set", "widths=(16,32)", "--set", "dropout=0.1", "--set", "num_steps=2"]
OPTIONS += ["--checkpoint-minutes", "0.005"]


def train(folder, *options):
    """Starts train.py in a folder; returns the process."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [*TRAIN, *options, "--export-dir", str(folder / "export")]
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def start_or_resume(folder, options):
    """Resumes the run if it has a checkpoint; else starts it."""
    if list(folder.glob("run/checkpoints/step-*.keras")):
        return train(folder, "--resume", "run")
    return train(folder, *options, "--run-dir", "run")


def wait(process, folder):
    assert process.wait() == 0, (folder / "log.txt").read_text()[-2000:]


def train_through(folder, options):
    """Trains without interruption; returns the seconds."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    wait(start_or_resume(folder, options), folder)
    return time.monotonic() - began


def train_with_kills(folder, options, kills, until):
    """Trains with up to `kills` kills, each when `until(process)` returns.

    Returns:
        List of (newest checkpoint, bool: a file was being written), one for each kill.
    """
    folder.mkdir(parents=True)
    killed_at = []
    while len(killed_at) < kills:
        process = start_or_resume(folder, options)
        until(process)
        if process.poll() is not None:  # the training ended before
            wait(process, folder)
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        names = sorted(path.stem for path in folder.glob("run/checkpoints/step-*.keras"))
        killed_at.append((names[-1] if names else None, bool(list(folder.glob("run/**/.part-*")))))
    wait(start_or_resume(folder, options), folder)
    return killed_at


def last_checkpoint(folder):
    """Returns ({name: array}, progress) of the newest checkpoint of a run."""
    path = sorted(folder.glob("run/checkpoints/step-*.keras"))[-1]
    arrays = {}
    with zipfile.ZipFile(path) as file:
        progress = json.loads(file.read("progress.json"))
        with h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:

            def keep(name, item):
                if isinstance(item, h5py.Dataset):
                    arrays[name] = item[()]

            weights.visititems(keep)
    del progress["seconds"]  # the only value that may differ
    return arrays, progress


def differences(one, other):
    """Returns a list of texts, what differs between the ends of two runs."""
    (arrays, progress), (others, other_progress) = last_checkpoint(one), last_checkpoint(other)
    different = [f"only in one: {name}" for name in set(arrays) ^ set(others)]
    for name in set(arrays) & set(others):
        a, b = arrays[name], others[name]
        if a.dtype != b.dtype or a.tobytes() != b.tobytes():
            different.append(f"{name}: by up to {np.abs(a - b).max()}")
    if progress != other_progress:
        different.append("progress.json")
    if (one / "run/history.csv").read_bytes() != (other / "run/history.csv").read_bytes():
        different.append("history.csv")
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument(
        "--folder", type=Path, help="default: a new one; an uninterrupted run in it is used again"
    )
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    options = [*OPTIONS, "--epochs", str(arguments.epochs)]
    if not (folder / "whole/export").exists():
        seconds = train_through(folder / "whole", options)
        print(f"without interruption: {arguments.epochs} epochs in {seconds:.0f} s", flush=True)
    generator = random.Random(arguments.seed)
    killed_at = train_with_kills(
        folder / "killed", options, arguments.kills, lambda _: time.sleep(generator.uniform(5, 35))
    )
    for number, (checkpoint, writing) in enumerate(killed_at, 1):
        place = ", while writing a file" if writing else ""
        print(f"kill {number:2}: after {checkpoint or 'no checkpoint'}{place}")
    different = differences(folder / "whole", folder / "killed")
    arrays, progress = last_checkpoint(folder / "killed")
    size = sum(array.nbytes for array in arrays.values())
    print(f"{len(killed_at)} kills; compared {len(arrays)} arrays, {size / 2**20:.1f} MiB, and")
    print(f"{len(progress['history'])} rows of history: ", end="")
    print("all bits equal" if not different else f"{len(different)} differ: {different[:3]}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
