"""status.json of a run: how far it is, and why it has stopped."""

import json

import keras
import pytest
from fixtures_runs import STEPS, tiny_data, tiny_model, tiny_run

from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import status
from keras_diffusion.training.callbacks import TrainingStopped
from keras_diffusion.training.fit import fit


def read(folder):
    return json.loads((folder / "status.json").read_text())


class Reader(keras.callbacks.Callback):
    """Reads the file after each step, and may end the training."""

    def __init__(self, folder, fails_at=None):
        super().__init__()
        self.folder, self.fails_at, self.records = folder, fails_at, []

    def on_train_batch_end(self, batch, logs=None):
        self.records.append(read(self.folder))
        if len(self.records) == self.fails_at:
            raise TrainingStopped("ten steps\nin a row")


@pytest.mark.parametrize("options", [{"epochs": 2}, {"minutes": 0.0005, "epochs": 50}])
def test_it_says_how_far_a_training_is(options, tmp_path, monkeypatch):
    monkeypatch.setattr(status, "INTERVAL", 0)
    run, progress = tiny_run(tmp_path, tiny_data(), **options), Progress()
    reader = Reader(tmp_path)
    fit(run, tiny_model(), progress, [reader])
    first, last = reader.records[0], read(tmp_path)
    assert first["epoch"] == 0 and not first["finished"]
    if "minutes" in options:
        assert (last["epochs"], last["minutes"]) == (None, 0.0005)
        assert reader.records[1]["seconds_left"] <= 0.03
    else:
        assert (last["epoch"], last["epochs"], last["minutes"]) == (2, 2, None)
        left = [record["seconds_left"] for record in reader.records]
        assert left[0] is None and min(left[2:]) > 0 and len(left) == 2 * STEPS
    assert last["finished"] and last["seconds_left"] == 0 and last["seconds"] > 0
    assert last["message"] == last["warning"] == ""


def test_it_says_why_a_training_has_stopped(tmp_path):
    reader = Reader(tmp_path, fails_at=2)
    with pytest.raises(TrainingStopped):
        fit(tiny_run(tmp_path, tiny_data()), tiny_model(), Progress(), [reader])
    assert read(tmp_path)["message"] == "ten steps in a row"
    assert not read(tmp_path)["finished"]


def test_a_file_that_cannot_be_written_does_not_end_the_training(tmp_path):
    (tmp_path / "status.json").mkdir()
    progress = Progress()
    fit(tiny_run(tmp_path, tiny_data(), epochs=1), tiny_model(), progress)
    assert progress.epoch == 1
