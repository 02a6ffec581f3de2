"""Checkpoints: nothing is lost in them, and none that is damaged is taken."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from fixtures_runs import assert_same_state, state_of, tiny_images, tiny_model

from keras_diffusion.runtime.files import PART
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.checkpoints import Progress

FULL = Progress(
    epoch=3,
    step=4,
    seconds=12.345678901234567,
    history=[{"epoch": 1, "loss": 0.1 + 0.2, "val_loss": 1e-30}, {"epoch": 2, "loss": 0.5}],
    means=[1 / 3, 1e9, 0.0],
    best={"val_loss": 2 / 3, "batches": 1234},
    skipped_in_a_row=2,
    skipped_before=7,
)


def trained(steps=3):
    """A model whose optimizer, average, random state and skipped steps are not as at first."""
    model = tiny_model()
    for _ in range(steps):
        model.train_on_batch(*tiny_images(8))
    model.skipped_steps.assign(7)
    return model


@pytest.fixture(scope="module")
def model():
    """Saved, not changed, by the tests of this file."""
    return trained()


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The bytes of one checkpoint."""
    path = checkpoints.save(model, Progress(epoch=1), tmp_path_factory.mktemp("whole"), 5)
    return path.read_bytes()


@pytest.fixture
def two(whole, tmp_path):
    """A folder with two checkpoints, steps 5 and 10, that are the same but for their names."""
    for batches in (5, 10):
        (tmp_path / f"step-{batches:08d}.keras").write_bytes(whole)
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def steps_in(folder):
    return [int(path.stem.split("-")[1]) for path in checkpoints.list_checkpoints(folder)]


# Saving and loading


def test_all_is_as_it_was(model, tmp_path):
    progress = dataclasses.replace(FULL)
    path = checkpoints.save(model, progress, tmp_path / "new" / "folder", batches=1234)
    assert path == tmp_path / "new" / "folder" / "step-00001234.keras"
    assert names_in(path.parent) == [path.name]
    warnings = []
    found, loaded, read = checkpoints.load(path.parent, warn=warnings.append)
    assert (found, warnings) == (path, [])
    assert read == dataclasses.replace(FULL, random=progress.random)
    kept, restored = state_of(model), state_of(loaded)
    assert_same_state(kept, restored)
    slots = [v for v in loaded.optimizer.variables if "momentum" in v.path or "veloc" in v.path]
    assert len(slots) == 2 * len(model.trainable_variables)
    assert all(np.abs(slot.numpy()).max() > 0 for slot in slots)
    assert int(loaded.optimizer.iterations) == 3
    assert int(loaded.skipped_steps) == 7
    ours, theirs = loaded.get_config(), model.get_config()
    assert {**ours, "network": None} == {**theirs, "network": None}


def test_what_xla_compiles_is_decided_where_a_run_goes_on(tmp_path):
    model = trained(1)
    model.compile(optimizer=model.optimizer, jit_compile=True)  # as on one GPU
    checkpoints.save(model, Progress(), tmp_path, 1)
    _, loaded, _ = checkpoints.load(tmp_path)
    assert model.jit_compile and not loaded.jit_compile
    assert_same_state(state_of(model), state_of(loaded))


def test_the_random_state_of_dropout_is_kept(model, tmp_path):
    # Keras itself does not save it: without Progress.random dropout would begin anew.
    checkpoints.save(model, progress := Progress(), tmp_path, 1)
    plain = keras.models.load_model(tmp_path / "step-00000001.keras")
    _, loaded, _ = checkpoints.load(tmp_path)
    [kept], [got], [other] = map(checkpoints._random_state, (model, loaded, plain))
    assert progress.random == [kept.numpy().tolist()]
    np.testing.assert_array_equal(got, kept)
    assert got.dtype == kept.dtype
    assert (other.numpy() != kept.numpy()).any()


def test_a_loaded_model_goes_on_as_the_saved_one(tmp_path):
    model = trained()
    checkpoints.save(model, Progress(), tmp_path, 3)
    _, loaded, _ = checkpoints.load(tmp_path)
    losses = [
        [float(m.train_on_batch(*tiny_images(8), return_dict=True)["loss"]) for _ in range(3)]
        for m in (model, loaded)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert len(set(losses[0])) == 3


# Which ones are kept


@pytest.fixture
def quick(model, monkeypatch):
    """Has the model write a zip file of little, and fail on request."""

    def save(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("model", "new")

    monkeypatch.setattr(model, "save", save)
    return model


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [
        (1, None, [50]),
        (2, None, [40, 50]),
        (9, None, [10, 20, 30, 40, 50]),
        (2, 20, [20, 40, 50]),
        (1, 10, [10, 50]),
        (2, 50, [40, 50]),
        (2, 35, [40, 50]),  # was never written
    ],
)
def test_the_last_few_and_the_best_are_kept(quick, tmp_path, keep, best, left):
    for batches in (10, 20, 30, 40, 50):
        progress = Progress(best=best and {"val_loss": 0.5, "batches": best})
        checkpoints.save(quick, progress, tmp_path, batches, keep)
    assert steps_in(tmp_path) == left
    assert names_in(tmp_path) == [f"step-{batches:08d}.keras" for batches in left]


def test_checkpoints_are_ordered_as_numbers(quick, tmp_path):
    for batches in (99_999_998, 99_999_999, 100_000_000, 100_000_001):
        checkpoints.save(quick, Progress(), tmp_path, batches)
    assert steps_in(tmp_path) == [100_000_000, 100_000_001]


@pytest.mark.parametrize("keep", [1, 2])
def test_one_that_goes_on_before_a_damaged_one_is_not_deleted(quick, tmp_path, keep):
    (tmp_path / "step-00000030.keras").write_bytes(b"damaged; the run goes on from step 10")
    for batches in (10, 15, 20):
        path = checkpoints.save(quick, Progress(), tmp_path, batches, keep)
        assert path.exists()
    assert steps_in(tmp_path) == [*[15, 20][-keep:], 30]


def test_other_files_are_no_checkpoints(tmp_path):
    others = (".part-step-00000001.keras", "step-1.keras.old", "step-.keras", "step-1a.keras")
    for name in (*others, "model.keras"):
        (tmp_path / name).write_text("of somebody")
    assert checkpoints.list_checkpoints(tmp_path) == []
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="--resume: there is no checkpoint in"):
            checkpoints.load(folder)


# Damage


def without(name, folder):
    """A checkpoint without one of the files in it."""
    old = zipfile.ZipFile(folder / "step-00000005.keras")
    with old, zipfile.ZipFile(folder / "other", "w") as new:
        for part in old.namelist():
            if part != name:
                new.writestr(part, old.read(part))
    return (folder / "other").read_bytes()


def of_another_class(data, folder):
    """A .keras file of a plain Keras model, with a good progress.json."""
    inputs = keras.Input((2,))
    other = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    other.save(folder / "other.keras")
    with zipfile.ZipFile(folder / "other.keras", "a") as file:
        record = {"format": checkpoints.FORMAT, **dataclasses.asdict(Progress())}
        file.writestr(checkpoints.PROGRESS_FILE, json.dumps(record))
    return (folder / "other.keras").read_bytes()


def with_progress(text):
    """A checkpoint that has another progress.json."""

    def damage(data, folder):
        rest = without("progress.json", folder)
        (folder / "other").write_bytes(rest)
        with zipfile.ZipFile(folder / "other", "a") as file:
            file.writestr("progress.json", text)
        return (folder / "other").read_bytes()

    return damage


def flipped(share):
    """A checkpoint with one bit flipped somewhere."""

    def damage(data, folder):
        place = int(share * len(data))
        return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]

    return damage


DAMAGES = {
    "empty": lambda data, folder: b"",
    "cut to a byte": lambda data, folder: data[:1],
    "cut to a third": lambda data, folder: data[: len(data) // 3],
    "cut by a tenth": lambda data, folder: data[: -len(data) // 10],
    "cut by a byte": lambda data, folder: data[:-1],
    "zeros": lambda data, folder: bytes(len(data)),
    "zeros at the end": lambda data, folder: data[: len(data) // 2] + bytes(len(data) // 2),
    "not a zip file": lambda data, folder: b"no zip file" * 1000,
    "no progress.json": lambda data, folder: without("progress.json", folder),
    "no weights": lambda data, folder: without("model.weights.h5", folder),
    "another class": of_another_class,
    "no JSON": with_progress("{"),
    "a list": with_progress("[]"),
    "a number": with_progress("3"),
    "an unknown field": with_progress('{"format": 1, "color": 3}'),
    "a format that is no number": with_progress('{"format": "new"}'),
    "no format": with_progress("{}"),
    "no random state": with_progress('{"format": 1}'),
    **{f"a bit at {share:.0%}": flipped(share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(two, whole, tmp_path_factory, damage):
    spare = tmp_path_factory.mktemp("spare")
    (spare / "step-00000005.keras").write_bytes(whole)
    newest = two / "step-00000010.keras"
    newest.write_bytes(damage(whole, spare))
    before = newest.read_bytes()
    warnings = []
    path, _, progress = checkpoints.load(two, warn=warnings.append)
    assert (path.name, progress.epoch) == ("step-00000005.keras", 1)
    [line] = warnings
    assert line.startswith(f"warning: skipping {newest}, which does not read back (")
    assert "\n" not in line and len(line) < 250 + len(str(newest))
    assert newest.read_bytes() == before, "it is left for whoever can mend it"


def test_a_best_one_that_was_deleted_for_a_damaged_one_is_forgotten(model, tmp_path):
    for batches, best in ((10, 10), (20, 10), (30, 10), (40, 40)):
        progress = Progress(best={"val_loss": 1 / batches, "batches": best})
        checkpoints.save(model, progress, tmp_path, batches, keep=2)
    assert steps_in(tmp_path) == [30, 40]
    (tmp_path / "step-00000040.keras").write_bytes(b"damaged")
    path, _, progress = checkpoints.load(tmp_path, warn=lambda line: None)
    assert path.name == "step-00000030.keras" and progress.best is None


def test_all_damaged(two):
    for path in checkpoints.list_checkpoints(two):
        path.write_bytes(b"no zip file")
    warnings = []
    with pytest.raises(ValueError, match="--resume: none of the checkpoints in .* can be read"):
        checkpoints.load(two, warn=warnings.append)
    assert len(warnings) == 2


def test_one_of_a_later_version_is_not_skipped(two, whole, tmp_path_factory):
    spare = tmp_path_factory.mktemp("spare")
    (spare / "step-00000005.keras").write_bytes(whole)
    later = with_progress(json.dumps({"format": checkpoints.FORMAT + 1, "color": 3}))
    (two / "step-00000010.keras").write_bytes(later(whole, spare))
    with pytest.raises(ValueError, match=r"step-00000010.keras: was written by a later version"):
        checkpoints.load(two)


# Saves that fail


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [0, 0.5, 1])
def test_a_failed_save_leaves_the_old_ones(model, two, whole, monkeypatch, error, written):
    def save(path):
        pathlib.Path(path).write_bytes(whole[: int(written * len(whole))])
        raise error

    before = names_in(two)
    monkeypatch.setattr(model, "save", save)
    with pytest.raises(type(error)):
        checkpoints.save(model, Progress(), two, 15, keep=1)
    assert names_in(two) == before
    assert checkpoints.load(two)[0].name == "step-00000010.keras"


def test_a_save_that_fails_at_its_progress_leaves_the_old_ones(quick, two, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoints.zipfile.ZipFile, "writestr", fail)
    before = names_in(two)
    monkeypatch.setattr(quick, "save", lambda path: pathlib.Path(path).write_bytes(b"PK"))
    with pytest.raises((OSError, zipfile.BadZipFile)):
        checkpoints.save(quick, Progress(), two, 15, keep=1)
    assert names_in(two) == before


LIMITED = """
import resource, sys
import keras
from keras_diffusion.saving import checkpoints

_, model, progress = checkpoints.load(sys.argv[1])
whole = int(sys.argv[2])
for share in (0.0, 0.1, 0.5, 0.9, 0.99):
    limit = int(share * whole)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoints.save(model, progress, sys.argv[1], 15, keep=1)
    except OSError as error:
        print("refused", error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(checkpoints.load(sys.argv[1])[0].name)
print(checkpoints.save(model, progress, sys.argv[1], 15, keep=1).name)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no limit of a file's size")
def test_a_disk_that_is_full_leaves_the_old_ones(two, whole):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, two, str(len(whole))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *refused, left, after = done.stdout.splitlines()
    assert refused == ["refused 27"] * 5  # EFBIG
    assert left == "step-00000010.keras"
    assert after == "step-00000015.keras"
    assert names_in(two) == ["step-00000015.keras"]


def test_parts_of_a_killed_process_are_cleared(two):
    (two / "samples").mkdir()
    for path in (two / f"{PART}step-00000015.keras", two / "samples" / f"{PART}epoch-0001.png"):
        path.write_bytes(b"half")
    kept = two / "samples" / "epoch-0002.png"
    kept.write_bytes(b"whole")
    assert steps_in(two) == [5, 10]
    checkpoints.clear_parts(two)
    assert names_in(two) == ["samples", "step-00000005.keras", "step-00000010.keras"]
    assert names_in(two / "samples") == ["epoch-0002.png"]
