"""Checkpoints: nothing is lost in them, and a damaged one is never used."""

import dataclasses
import json
import os
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from fixtures_runs import assert_same_state, state_of, tiny_images, tiny_model

from keras_diffusion.runtime.files import PART
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress

FULL = Progress(
    epoch=3, step=4, seconds=12.345678901234567, means=[1 / 3, 1e9, 0.0],
    history=[{"epoch": 1, "loss": 0.1 + 0.2, "val_loss": 1e-30}, {"epoch": 2, "loss": 0.5}],
    best={"val_loss": 2 / 3, "batches": 1234}, skipped_in_a_row=2, skipped_before=7,
)  # fmt: skip


def trained():
    """A model whose optimizer, average, random state and skipped steps are not the initial ones."""
    model = tiny_model()
    for _ in range(3):
        model.train_on_batch(*tiny_images(8))
    model.skipped_steps.assign(7)
    return model


@pytest.fixture(scope="module")
def model():
    """Saved, but not changed, by the tests of this file."""
    return trained()


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The bytes of one checkpoint."""
    path = checkpoints.save(model, Progress(epoch=1), tmp_path_factory.mktemp("whole"), 5)
    return path.read_bytes()


@pytest.fixture
def two(whole, tmp_path):
    """A folder with two checkpoints, steps 5 and 10, that differ only in their names."""
    for batches in (5, 10):
        (tmp_path / f"step-{batches:08d}.keras").write_bytes(whole)
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def steps_in(folder):
    return [int(path.stem.split("-")[1]) for path in checkpoints.list_checkpoints(folder)]


# Saving and loading --------------------------------------------------------------------------


def test_a_loaded_model_continues_as_the_saved_one(tmp_path):
    model = trained()
    progress = dataclasses.replace(FULL)
    path = checkpoints.save(model, progress, tmp_path / "new" / "folder", batches=1234)
    assert path == tmp_path / "new" / "folder" / "step-00001234.keras"
    assert names_in(path.parent) == [path.name]
    warnings = []
    loaded_path, loaded, read = checkpoints.load(path.parent, warn=warnings.append)
    assert (loaded_path, warnings) == (path, [])
    assert read == dataclasses.replace(FULL, random=progress.random)
    assert_same_state(state_of(model), state_of(loaded))
    slots = [v for v in loaded.optimizer.variables if "momentum" in v.path or "veloc" in v.path]
    matrices = 1  # the kernel that Muon treats has a momentum only
    assert len(slots) == 2 * len(model.trainable_variables) - matrices
    assert all(np.abs(slot.numpy()).max() > 0 for slot in slots)
    assert (int(loaded.optimizer.iterations), int(loaded.skipped_steps)) == (3, 7)
    assert {**loaded.get_config(), "network": 0} == {**model.get_config(), "network": 0}
    # Keras does not save the state of dropout: without Progress.random it would start anew.
    plain = keras.models.load_model(path)
    [kept], [other] = map(checkpoints._random_state, (loaded, plain))
    assert progress.random == [kept.numpy().tolist()] != [other.numpy().tolist()]
    losses = [
        [float(m.train_on_batch(*tiny_images(8), return_dict=True)["loss"]) for _ in range(3)]
        for m in (model, loaded)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6) and len(set(losses[0])) == 3


def test_jit_compilation_is_decided_where_a_run_is_resumed(tmp_path):
    model = tiny_model()
    model.train_on_batch(*tiny_images(8))
    model.compile(optimizer=model.optimizer, jit_compile=True)  # as on one GPU
    checkpoints.save(model, Progress(), tmp_path, 1)
    _, loaded, _ = checkpoints.load(tmp_path)
    assert model.jit_compile and not loaded.jit_compile
    assert_same_state(state_of(model), state_of(loaded))


# Which ones are kept -------------------------------------------------------------------------


@pytest.fixture
def quick(model, monkeypatch):
    """A model that saves a zip file with next to nothing in it."""

    def save(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("model", "new")

    monkeypatch.setattr(model, "save", save)
    return model


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, None, [10**8]), (9, None, [10, 20, 99_999_999, 10**8]), (2, 20, [20, 99_999_999, 10**8]),
     (2, 10**8, [99_999_999, 10**8]), (2, 35, [99_999_999, 10**8])],
)  # fmt: skip
def test_the_last_few_by_number_and_the_best_are_kept(quick, tmp_path, keep, best, left):
    for batches in (10, 20, 99_999_999, 10**8):
        progress = Progress(best=best and {"val_loss": 0.5, "batches": best})
        checkpoints.save(quick, progress, tmp_path, batches, keep)
    assert steps_in(tmp_path) == left and len(names_in(tmp_path)) == len(left)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_new_one_before_a_damaged_one_is_not_deleted(quick, tmp_path, keep):
    (tmp_path / "step-00000030.keras").write_bytes(b"damaged; the run resumes from step 10")
    for batches in (10, 15, 20):
        assert checkpoints.save(quick, Progress(), tmp_path, batches, keep).exists()
    assert steps_in(tmp_path) == [*[15, 20][-keep:], 30]


def test_other_files_are_no_checkpoints(tmp_path):
    others = (".part-step-00000001.keras", "step-1.keras.old", "step-.keras", "step-1a.keras")
    for name in others:
        (tmp_path / name).write_text("of somebody")
    assert checkpoints.list_checkpoints(tmp_path) == []
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="--resume: there is no checkpoint in"):
            checkpoints.load(folder)


# Damage --------------------------------------------------------------------------------------


def with_other(name, text=None):
    """Returns a function that removes a file of a checkpoint, or puts another text in it."""

    def damage(whole, folder):
        (folder / "old").write_bytes(whole)
        with zipfile.ZipFile(folder / "old") as old, zipfile.ZipFile(folder / "new", "w") as new:
            for other in old.namelist():
                if other != name:
                    new.writestr(other, old.read(other))
            if text is not None:
                new.writestr(name, text)
        return (folder / "new").read_bytes()

    return damage


def of_another_class(whole, folder):
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(folder / "other.keras")
    record = {"format": checkpoints.FORMAT, **dataclasses.asdict(Progress())}
    with zipfile.ZipFile(folder / "other.keras", "a") as file:
        file.writestr(checkpoints.PROGRESS_FILE, json.dumps(record))
    return (folder / "other.keras").read_bytes()


def flipped(share):
    """Returns a function that flips one bit of a checkpoint."""

    def damage(whole, folder):
        place = int(share * len(whole))
        return whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]

    return damage


DAMAGES = {
    "empty": lambda whole, folder: b"",
    "cut to a third": lambda whole, folder: whole[: len(whole) // 3],
    "cut by a byte": lambda whole, folder: whole[:-1],
    "zeros at the end": lambda whole, folder: whole[: len(whole) // 2] + bytes(len(whole) // 2),
    "not a zip file": lambda whole, folder: b"no zip file" * 1000,
    "another class": of_another_class,
    "no weights": with_other("model.weights.h5"),
    "no progress.json": with_other("progress.json"),
    "no JSON": with_other("progress.json", "{"),
    "a list": with_other("progress.json", "[]"),
    "an unknown field": with_other("progress.json", '{"format": 1, "color": 3}'),
    "no random state": with_other("progress.json", '{"format": 1}'),
    "a bit in the middle": flipped(0.5),
    "a bit near the end": flipped(0.9),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(two, whole, tmp_path_factory, damage):
    newest = two / "step-00000010.keras"
    newest.write_bytes(damage(whole, tmp_path_factory.mktemp("spare")))
    before = newest.read_bytes()
    warnings = []
    path, _, progress = checkpoints.load(two, warn=warnings.append)
    assert (path.name, progress.epoch) == ("step-00000005.keras", 1)
    [line] = warnings
    assert str(newest) in line and "\n" not in line and len(line) < 250 + len(str(newest))
    assert newest.read_bytes() == before


def test_a_best_one_that_was_deleted_for_a_damaged_one_is_forgotten(model, tmp_path):
    for batches, best in ((10, 10), (20, 10), (30, 10), (40, 40)):
        progress = Progress(best={"val_loss": 1 / batches, "batches": best})
        checkpoints.save(model, progress, tmp_path, batches, keep=2)
    assert steps_in(tmp_path) == [30, 40]
    (tmp_path / "step-00000040.keras").write_bytes(b"damaged")
    path, _, progress = checkpoints.load(tmp_path, warn=lambda line: None)
    assert path.name == "step-00000030.keras" and progress.best is None


def test_a_later_version_is_not_skipped_and_nothing_is_left_of_damaged_ones(
    two, whole, tmp_path_factory
):
    newest, warnings = two / "step-00000010.keras", []
    later = with_other("progress.json", '{"format": 2, "color": 3}')
    newest.write_bytes(later(whole, tmp_path_factory.mktemp("spare")))
    with pytest.raises(ValueError, match=r"step-00000010.keras: was written by a later version"):
        checkpoints.load(two)
    for path in checkpoints.list_checkpoints(two):
        path.write_bytes(b"no zip file")
    with pytest.raises(ValueError, match="--resume: none of the checkpoints in"):
        checkpoints.load(two, warn=warnings.append)
    assert len(warnings) == 2


# Saves that fail -----------------------------------------------------------------------------


def test_an_interrupted_save_leaves_the_old_ones(model, two, whole, monkeypatch):
    def save(path):
        pathlib.Path(path).write_bytes(whole)
        raise KeyboardInterrupt

    before = names_in(two)
    monkeypatch.setattr(model, "save", save)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(model, Progress(), two, 15, keep=1)
    assert names_in(two) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of file sizes")
def test_a_full_disk_leaves_the_old_ones(model, two, whole):
    import resource

    before, limits = names_in(two), resource.getrlimit(resource.RLIMIT_FSIZE)
    for share in (0.0, 0.5, 0.99):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(whole)), limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                checkpoints.save(model, Progress(), two, 15, keep=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert names_in(two) == before
    assert checkpoints.save(model, Progress(), two, 15, keep=1).name == "step-00000015.keras"
    assert names_in(two) == ["step-00000015.keras"]


def test_parts_of_a_killed_process_are_cleared(two):
    (two / "samples").mkdir()
    for path in (two / f"{PART}step-00000015.keras", two / "samples" / f"{PART}epoch-0001.png"):
        path.write_bytes(b"half")
    (two / "samples" / "epoch-0002.png").write_bytes(b"whole")
    assert steps_in(two) == [5, 10]
    checkpoints.clear_parts(two)
    assert names_in(two) == ["samples", "step-00000005.keras", "step-00000010.keras"]
    assert names_in(two / "samples") == ["epoch-0002.png"]
