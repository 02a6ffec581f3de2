"""Strategies: what they share out, two replicas against one, two workers through train.py."""

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

import train
from keras_diffusion.runtime import distribution
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import fit, run

TESTS = Path(__file__).resolve().parents[1] / "support"
SINGLE = tf.distribute.get_strategy()
DEADLINE = 600  # seconds, for anything that waits for a process


# Choosing


@pytest.mark.parametrize(
    "config",
    [None, "", "{", "[]", "{}", '{"cluster": {"worker": []}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}'],
)  # fmt: skip
def test_multiworker_needs_a_whole_tf_config(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG, such as") as error:
        distribution.make_strategy("multiworker")
    assert "\n" not in str(error.value)


def test_auto_is_one_device_here(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.make_strategy("auto").num_replicas_in_sync == 1
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        distribution.make_strategy("auto")


def test_no_tpu_is_said():
    with pytest.raises(ValueError, match="--strategy: no TPU found"):
        distribution.make_strategy("tpu")


class Strategy:
    """Stands for one with many replicas."""

    def __init__(self, replicas):
        self.num_replicas_in_sync = replicas


def test_batches_must_fall_into_equal_shares():
    assert distribution.images_per_replica(Strategy(4), 64) == 16
    assert distribution.images_per_replica(Strategy(2), 64, parts=4) == 32
    for strategy, batch, parts, nearest in (
        (3, 64, 1, "63 or 66"),
        (2, 64, 3, "60 or 66"),
        (8, 4, 1, "8"),
    ):
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
def test_every_replica_has_an_image_to_evaluate(images, batch_size, replicas, steps):
    source = SimpleNamespace(num_val=images, num_train=1000)
    data = SimpleNamespace(source=source, validation=tf.data.Dataset.range(images))
    strategy = Strategy(replicas)
    strategy.distribute_datasets_from_function = lambda make: "shared"
    chosen = fit._validation(SimpleNamespace(batch_size=batch_size), data, strategy)
    assert chosen.get("validation_steps") == steps
    assert (chosen["validation_data"] is None) == (steps is None)


# Two replicas against one


@pytest.fixture(scope="module")
def compared():
    ended = subprocess.run(
        [sys.executable, TESTS / "replicas.py"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_two_replicas_end_with_the_weights_and_losses_of_one(compared):
    assert compared["replicas"] == 2
    assert compared["two_weights"] < 1e-5
    assert compared["two_losses"] < 1e-5


def test_accumulation_on_two_replicas_too(compared):
    assert compared["two_in_parts_weights"] < 1e-5
    assert compared["two_in_parts_losses"] < 1e-5


def test_replicas_stay_in_step(compared):
    # the average of the weights included, and a network with dropout
    assert compared["two_copies"] == compared["two_in_parts_copies"] == 0
    assert compared["dropout_copies"] == 0
    assert compared["dropout_finite"]


def test_noise_and_times_differ_between_replicas(compared):
    assert compared["noise_differs"]
    assert compared["noise_is_whole"]
    assert compared["keys_are_one"]
    assert compared["places"] == list(range(8))


def test_a_request_is_shared_out_with_the_same_pictures(compared):
    assert compared["pictures"] <= 1


def test_a_model_moves_between_strategies(compared):
    assert compared["reloaded"] == 0


def test_a_bad_gradient_on_one_replica_is_skipped_on_both(compared):
    # the weights and losses after it are compared above
    assert compared["two_skipped"] == compared["two_in_parts_skipped"] == [1, 1]


def test_latents_and_prompts_are_shared_out_as_images_are(compared):
    assert compared["latent_weights"] < 1e-4  # their scale, too, is measured on sums
    assert compared["latent_pictures"] <= 1


# Two workers, through train.py


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def start_workers(folder, *options):
    """Starts two workers on this machine; returns their processes."""
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
    """Returns the exit codes, within the deadline."""
    until = time.monotonic() + DEADLINE
    try:
        return [process.wait(max(1, until - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_two_workers_train_lose_one_and_go_on_to_the_weights_of_one(tmp_path, monkeypatch):
    alone, tmp_path = tmp_path / "alone", tmp_path / "workers"
    alone.mkdir()
    tmp_path.mkdir()
    options = ["--epochs", "2", "--batch-size", "256", "--set", "num_steps=2"]
    options += ["--set", "widths=(8,)", "--set", "attention=(False,)"]
    options += ["--precision", "float32", "--run-dir", "run", "--checkpoint-minutes", "0"]
    workers = start_workers(tmp_path, *options)
    until = time.monotonic() + DEADLINE
    while not checkpoints.list_checkpoints(tmp_path / "run/checkpoints"):
        assert all(w.poll() is None for w in workers), (tmp_path / "log0.txt").read_text()[-2000:]
        assert time.monotonic() < until
        time.sleep(0.1)
    workers[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert wait(workers) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    told = (tmp_path / "log0.txt").read_text()
    assert re.search(r"another worker is gone.*last good checkpoint is run/checkpoints/", told)
    assert "Traceback" not in told

    workers = start_workers(tmp_path, "--resume", "run")
    try:
        monkeypatch.chdir(alone)
        monkeypatch.setattr(run, "_finish", lambda *_: None)  # pictures and export
        monkeypatch.setattr(fit, "_shown", lambda *_: [])
        assert train.main([*options, "--export-dir", "export"]) == 0
    finally:
        ended = wait(workers)
    assert ended == [0, 0]
    (weights, _), (other, _) = (kills.last_checkpoint(folder) for folder in (alone, tmp_path))
    assert weights.keys() == other.keys()
    assert max(np.abs(weights[name] - other[name]).max() for name in weights) < 1e-5
    logs = [(tmp_path / f"log{index}.txt").read_text() for index in range(2)]
    first, second = (re.findall(r"^weights (\w+)$", log, re.M) for log in logs)
    assert len(first) == 1 and first == second
    assert all("resuming run/checkpoints/" in log for log in logs)
    assert "2 x 128 images" in logs[0]
    # one copy of everything, written by the chief
    assert "done" in logs[0] and "done" not in logs[1]
    assert (tmp_path / "export/saved_model.pb").exists()
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 1 + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "log0.txt", "log1.txt", "run"]
