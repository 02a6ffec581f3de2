"""Scores as a callback."""

from types import SimpleNamespace

import numpy as np

from keras_diffusion.training.score_callback import Scores


class Reference:
    """Scores samples by their number; the distances are 0, 1, 2, ..."""

    def __init__(self):
        self.samples = []

    def extract(self, images):
        self.samples.append(images)
        return images, None

    def score(self, features, probabilities, labels):
        assert len(features) == len(labels)
        fid = len(self.samples) - 1
        return {"num_images": len(features), "fid": fid, "kid": 0.5, "kid_error": 0.1}


class Model:
    stop_training = False

    def __init__(self, clock):
        self.clock, self.calls = clock, []

    def generate(self, num_images, num_steps, labels=None):
        self.clock.now += num_steps + (0 if self.calls else 60)  # tracing
        self.calls.append((num_images, num_steps, labels))
        return np.zeros((num_images, 2, 2, 1), "uint8")


def scores_of(monkeypatch, **options):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    scores = Scores(Reference(), 5, np.zeros(5, int), num_steps=10, **options)
    scores.set_model(Model(clock))
    scores.on_train_begin()
    return scores, clock


def test_every_few_epochs_and_the_last_one(monkeypatch):
    scores, _ = scores_of(monkeypatch, every=2, last_epoch=5)
    logs = [{"loss": 1.0} for _ in range(5)]
    for epoch, row in enumerate(logs):
        scores.on_epoch_end(epoch, row)
    assert [row.get("fid") for row in logs] == [None, 0, None, 1, 2]
    assert logs[1] == {"loss": 1.0, "fid": 0, "kid": 0.5}
    tracing, *calls = scores.model.calls
    assert tracing[:2] == (5, 1)
    assert [call[:2] for call in calls] == [(5, 10)] * 3
    assert all(labels is scores.labels for _, _, labels in calls)


def test_scores_take_no_more_than_their_share(monkeypatch):
    scores, clock = scores_of(monkeypatch, max_share=0.1)
    scored = []
    for epoch in range(40):
        clock.now += 10
        scored.append({})
        scores.on_epoch_end(epoch, scored[-1])
    count = sum(map(bool, scored))
    assert scored[0], "the first one always"
    assert 30 <= 10 * count <= 0.1 * clock.now, "only tracing is not counted"
    scores.model.stop_training = True
    scores.on_epoch_end(40, last := {})
    assert "fid" in last, "the last epoch always"
