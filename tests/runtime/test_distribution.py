"""Strategies, shares of a batch, and two worker processes through train.py."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import kills
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.runtime import distribution
from keras_diffusion.training import fit

TESTS = Path(__file__).resolve().parents[1] / "support"
SINGLE = tf.distribute.get_strategy()
DEADLINE = 600  # seconds, for waiting for a process


@pytest.mark.parametrize(
    "config",
    [None, "{", "[]", '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}'],
)  # fmt: skip
def test_multiworker_needs_a_valid_tf_config(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.make_strategy("auto").num_replicas_in_sync == 1
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
        with pytest.raises(ValueError, match="TF_CONFIG"):
            distribution.make_strategy("auto")
    with pytest.raises(ValueError, match="^--strategy: .*TF_CONFIG.*Example: {.*--strategy single"):
        distribution.make_strategy("multiworker")


@pytest.mark.parametrize(
    "config",
    ["", " ", "{}", '{"cluster": {}}', '{"cluster": {"worker": []}}',
     '{"cluster": {"worker": ["a:1"]}}',
     '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'],
)  # fmt: skip
def test_a_tf_config_without_other_machines_is_one_device(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    assert distribution.make_strategy("auto") is SINGLE


def test_a_missing_tpu_is_an_error():
    with pytest.raises(ValueError, match="^--strategy: no TPU found"):
        distribution.make_strategy("tpu")


class Strategy:
    """A strategy of many replicas, as far as it is used here."""

    def __init__(self, replicas):
        self.num_replicas_in_sync = replicas


def test_a_batch_must_be_a_multiple_of_replicas_and_microbatches():
    assert distribution.images_per_replica(Strategy(4), 64) == 16
    assert distribution.images_per_replica(Strategy(2), 64, parts=4) == 32
    for strategy, batch, parts, nearest in (
        (3, 64, 1, "63 or 66"), (2, 64, 3, "60 or 66"), (8, 4, 1, "8"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"Nearest: {nearest}\\."):
            distribution.images_per_replica(Strategy(strategy), batch, parts)


def test_one_replica_changes_nothing():
    data = tf.data.Dataset.range(3)
    assert distribution.share_out(SINGLE, data) is data
    tensors = [tf.constant(2.0)]
    assert distribution.mean_over_replicas(tensors) is tensors
    assert distribution.is_chief(SINGLE)
    votes = distribution.Votes(SINGLE)
    assert votes.total([1, 0.5]) == votes.of_chief([1, 0.5]) == [1.0, 0.5]


def test_rows_of_all_replicas_are_the_batch():
    for count in (0, 1, 5, 8):
        batch = {"image": tf.reshape(tf.range(2 * count), (count, 2)), "label": tf.range(count)}
        for replicas in (1, 2, 3, 8):
            parts = [distribution._rows(batch, tf.constant(r), replicas) for r in range(replicas)]
            for name, values in batch.items():
                together = tf.concat([part[name] for part in parts], 0)
                np.testing.assert_array_equal(together, values)
            sizes = [len(part["label"]) for part in parts]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("images", "batch_size", "replicas", "steps"),
    [(33, 32, 1, 2), (33, 32, 2, 1), (34, 32, 2, 2), (64, 32, 4, 2), (3, 32, 4, None)],
)
def test_every_replica_gets_a_validation_image(images, batch_size, replicas, steps):
    source = SimpleNamespace(num_val=images, num_train=1000)
    data = SimpleNamespace(source=source, validation=tf.data.Dataset.range(images))
    strategy = Strategy(replicas)
    strategy.distribute_datasets_from_function = lambda make: "shared"
    config, votes = SimpleNamespace(batch_size=batch_size), SimpleNamespace(strategy=strategy)
    chosen = fit._validation(SimpleNamespace(config=config, data=data, votes=votes))
    assert chosen.get("validation_steps") == steps
    assert ("validation_data" not in chosen) == (steps is None)


def free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def start_workers(folder, *options):
    """Starts two worker processes on this machine; returns them."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        with open(folder / f"log{index}.txt", "w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, TESTS / "worker.py", *options, "--export-dir", "export"],
                    cwd=folder,
                    env={**os.environ, "TF_CONFIG": config},
                    stdout=log,
                    stderr=log,
                )
            )
    return processes


def wait(processes):
    """Returns the exit codes; kills what is still running at the deadline."""
    until = time.monotonic() + DEADLINE
    try:
        return [process.wait(max(1, until - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_two_workers_train_lose_one_and_resume_to_the_weights_of_one(tmp_path):
    alone, workers_dir = tmp_path / "alone", tmp_path / "workers"
    workers_dir.mkdir()
    options = ["--epochs", "2", "--batch-size", "256", "--set", "num_steps=2"]
    options += ["--set", "widths=(8,)", "--set", "attention=(False,)"]
    options += ["--optimizer", "adamw"]  # Muon amplifies differences by rounding some 100 times
    options += ["--precision", "float32", "--run-dir", "run", "--checkpoint-minutes", "0"]
    workers = start_workers(workers_dir, *options)
    deadline = time.monotonic() + DEADLINE
    while not list(workers_dir.glob("run/checkpoints/step-*.keras")):
        log = (workers_dir / "log0.txt").read_text()[-2000:]
        assert all(w.poll() is None for w in workers) and time.monotonic() < deadline, log
        time.sleep(0.1)
    workers[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert wait(workers) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    log = (workers_dir / "log0.txt").read_text()
    assert "another worker is gone" in log and "run/checkpoints/" in log
    assert "Traceback" not in log

    ended = wait(start_workers(workers_dir, "--resume", "run"))
    logs = [(workers_dir / f"log{index}.txt").read_text() for index in range(2)]
    assert ended == [0, 0], logs[0][-2000:]
    kills.train_through(alone, options)
    (weights, _), (other, _) = (kills.last_checkpoint(folder) for folder in (alone, workers_dir))
    assert weights.keys() == other.keys()
    assert max(np.abs(weights[name] - other[name]).max() for name in weights) < 1e-5
    first, second = (re.findall(r"^weights (\w+)$", log, re.M) for log in logs)
    assert len(first) == 1 and first == second
    # Only the chief writes files and its last line.
    assert "done" in logs[0] and "done" not in logs[1]
    assert (workers_dir / "export/saved_model.pb").exists()
    assert len((workers_dir / "run/history.csv").read_text().splitlines()) == 1 + 2
    names = sorted(path.name for path in workers_dir.iterdir())
    assert names == ["export", "log0.txt", "log1.txt", "run"]
