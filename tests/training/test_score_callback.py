"""Scores as a callback."""

from types import SimpleNamespace

import numpy as np

from keras_diffusion.training.score_callback import Scores


class Reference:
    """Its distances are 0, 1, 2, ..."""

    fid = -1

    def extract(self, images):
        return images, None

    def score(self, features, probabilities, labels):
        self.fid += 1
        assert len(features) == len(labels)
        return {"num_images": len(features), "fid": self.fid, "kid": 0.5, "kid_error": 0.1}


class Model:
    stop_training = False

    def __init__(self, clock):
        self.clock, self.calls = clock, []

    def generate(self, num_images, num_steps, labels=None):
        self.clock.now += num_steps + (0 if self.calls else 60)  # tracing
        self.calls.append((num_images, num_steps))
        return np.zeros((num_images, 2, 2, 1), "uint8")


def score(monkeypatch, epochs, **options):
    """Returns (the callback, its clock, the logs of the epochs), of 10 s each."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    scores = Scores(Reference(), 5, np.zeros(5, int), num_steps=10, **options)
    scores.set_model(Model(clock))
    scores.on_train_begin()
    logs = [{"loss": 1.0} for _ in range(epochs)]
    for epoch, row in enumerate(logs):
        clock.now += 10
        scores.on_epoch_end(epoch, row)
    return scores, clock, logs


def test_every_few_epochs_and_the_last_one(monkeypatch):
    scores, _, logs = score(monkeypatch, 5, every=2, last_epoch=5)
    assert [row.get("fid") for row in logs] == [None, 0, None, 1, 2]
    assert logs[1] == {"loss": 1.0, "fid": 0, "kid": 0.5}
    assert scores.model.calls == [(5, 1), *[(5, 10)] * 3]  # the first one is for tracing


def test_scores_take_no_more_than_their_share(monkeypatch):
    scores, clock, logs = score(monkeypatch, 40, max_share=0.1)
    assert "fid" in logs[0], "the first one always"
    seconds = 10 * sum("fid" in row for row in logs)
    assert 30 <= seconds <= 0.1 * clock.now, "only tracing is not counted"
    scores.model.stop_training = True
    scores.on_epoch_end(40, last := {})
    assert "fid" in last, "the last one always"
