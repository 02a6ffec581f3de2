"""Clips: animations, folders of frames, Moving MNIST."""

import numpy as np
import pytest
from fixtures_data import DATA_DIR, needs, save_image
from PIL import Image

from keras_diffusion.data import folder, load_source, moving_digits, pipeline, sources, splits


def random_frames(count, channels=3, size=(8, 6), seed=0):
    shape = (count, *size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save_animation(path, frames, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.fromarray(frame.squeeze()) for frame in frames]
    first, *others = frames
    first.save(path, save_all=True, append_images=others, duration=100, **options)


def save_frames(path, frames, name="frame{}.png"):
    path.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame.squeeze()).save(path / name.format(index))


def joined(frames):
    """A clip as it should be: channel f * C + c is channel c of frame f."""
    clip = np.empty((*frames.shape[1:3], len(frames) * frames.shape[3]), np.uint8)
    for f in range(len(frames)):
        for c in range(frames.shape[3]):
            clip[..., f * frames.shape[3] + c] = frames[f, ..., c]
    return clip


def same(clips, expected):
    return sorted(c.tobytes() for c in clips) == sorted(joined(e).tobytes() for e in expected)


def decoded(files):
    return [files.decode(i, files.image_shape[-1]) for i in range(len(files.items))]


# Folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.apng", {"format": "PNG"}), ("a.webp", {"lossless": True})],
)
def test_an_animation_is_cut_into_clips(name, options, tmp_path):
    frames = random_frames(11)
    save_animation(tmp_path / name, frames, **options)
    files = folder.scan(tmp_path, frames=4)
    assert files.image_shape == (8, 6, 3) and files.labels is None and not files.skipped
    assert same(decoded(files), [frames[:4], frames[4:8]])
    assert any("3 frames at the ends" in note for note in files.notes)


def test_a_still_before_an_animated_png_is_no_frame(tmp_path):
    frames = random_frames(5)
    save_animation(tmp_path / "a.png", frames, default_image=True)
    assert same(decoded(folder.scan(tmp_path, frames=2)), [frames[1:3], frames[3:]])


def test_gray_and_coloured_gifs(tmp_path):
    gray = random_frames(3, 1)
    save_animation(tmp_path / "gray.gif", gray)
    files = folder.scan(tmp_path, frames=3)
    assert files.image_shape == (8, 6, 1) and same(decoded(files), [gray])
    red = np.zeros((3, 8, 6, 3), np.uint8)
    red[:, :, :, 0] = np.arange(0, 144).reshape(3, 8, 6)
    save_animation(tmp_path / "red.gif", red)
    assert any("2 of 2 files are animations" in note for note in folder.scan(tmp_path).notes)
    files = folder.scan(tmp_path, frames=3)
    assert files.image_shape == (8, 6, 3)
    assert same(decoded(files), [gray.repeat(3, axis=-1), red])
    data = load_source(folder=tmp_path, frames=3, channels=1)
    assert data.image_shape == (8, 6, 3) and data.channels == 1


def test_frames_are_in_natural_order_and_their_folders_in_classes(tmp_path):
    frames = random_frames(12, 1)
    save_frames(tmp_path / "walk/one", frames)  # frame2 before frame10
    save_frames(tmp_path / "run/two", frames[:4], "{:05d}.png")
    save_animation(tmp_path / "run/three.png", frames[4:8])
    files = folder.scan(tmp_path, frames=4)
    assert files.class_names == ("run", "walk") and files.labels.tolist() == [0, 0, 1, 1, 1]
    assert same(decoded(files)[2:], [frames[:4], frames[4:8], frames[8:]])
    assert folder.scan(tmp_path / "walk", frames=4).labels is None
    assert same(decoded(folder.scan(tmp_path / "walk/one", frames=6)), [frames[:6], frames[6:]])


def test_what_is_no_clip_is_not_used_by_reason(tmp_path):
    save_frames(tmp_path / "good", random_frames(4))
    (tmp_path / "good/frame1.png").write_bytes(b"no image")
    (tmp_path / "good/notes.txt").write_text("")
    save_frames(tmp_path / "short", random_frames(2))
    save_image(tmp_path / "still.gif")
    save_frames(tmp_path / "sizes", random_frames(3))
    save_image(tmp_path / "sizes/frame9.png", size=(4, 4))
    save_image(tmp_path / "sizes/cover.jpg")
    save_animation(tmp_path / "short.webp", random_frames(2), lossless=True)
    files = folder.scan(tmp_path, frames=3)
    assert len(files.items) == 1 and len(files.items[0].files) == 3
    reasons = dict(line.split(": ") for line in files.skipped)
    assert reasons == {
        "good/frame1.png": "not an image by its content",
        "good/notes.txt": "not an image by its name",
        "short": "shorter than 3 frames",
        "short.webp": "shorter than 3 frames",
        "sizes": "frames of several sizes",
        "sizes/cover.jpg": "a still image without a number",
        "still.gif": "a still image without a number",
    }
    with pytest.raises(ValueError, match="no readable clip of 9 frames"):
        folder.scan(tmp_path, frames=9)


def test_splits_do_not_share_a_video(tmp_path):
    for video in range(10):
        save_frames(tmp_path / f"a/{video}", np.full((6, 4, 4, 1), video, np.uint8))
    save_frames(tmp_path / "b/alone", np.arange(20, dtype=np.uint8)[:, None, None, None]
                + np.full((4, 4, 1), 100, np.uint8))  # fmt: skip
    data = load_source(folder=tmp_path, frames=2, batch_size=100)
    sets = [data.epoch_batches(0), data.validation]
    train, held_out = ({int(x) for b in each for x in b["image"][:, 0, 0, 0]} for each in sets)
    assert len(train) == 8 + 8 and not train & held_out
    assert {x for x in held_out if x >= 100} == {116, 118}  # the end of the single video of b


def test_folders_of_splits_may_hold_one_video_each(tmp_path):
    train, held_out = random_frames(4), random_frames(2, seed=1)
    save_frames(tmp_path / "train", train)
    save_frames(tmp_path / "val", held_out)
    source = sources.folder(tmp_path, frames=2)
    images = [
        [e["image"] for e in d.as_numpy_iterator()] for d in (source.train, source.validation)
    ]
    assert same(images[0], [train[:2], train[2:]]) and same(images[1], [held_out])


def test_each_frame_is_resized_and_converted_alone(tmp_path):
    frames = random_frames(4, 1, size=(16, 16))  # four grey frames are no image with alpha
    for index in range(2):
        save_animation(tmp_path / f"{index}.png", frames[::-1] if index else frames)
    data = load_source(folder=tmp_path, frames=4, channels=3, image_size=8, limit=1)
    [batch] = data.epoch_batches(0)
    assert batch["image"].shape == (1, 8, 8, 12)
    gray = np.asarray(batch["image"])[0, ..., ::3]
    expected = [pipeline.resize(frame, 8, 8)[..., 0] for frame in frames]
    assert any(np.array_equal(gray, np.stack(e, -1)) for e in (expected, expected[::-1]))
    assert "clips of 4 frames of 8x8x3" in data.summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digits"}, "--frames is for clips"),
        ({"image": "flower"}, "--frames is for clips"),
        ({"folder": "x", "channels": 4}, "--channels"),
        ({"name": "moving_mnist", "train_split": "train", "val_split": "test"}, "--train-split"),
    ],
)
def test_what_is_not_for_clips(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_source(frames=3, **arguments)


def test_groups_stay_in_one_split():
    groups = np.arange(100) // 5
    train, held_out = splits.stratified(
        np.arange(100) % 2, 20, groups=groups * 2 + np.arange(100) % 2
    )
    assert sorted([*train, *held_out]) == list(range(100))
    assert 16 <= len(held_out) <= 24  # 8 groups of 2 or 3
    both = [
        {(g, x % 2) for g, x in zip(groups[part], part, strict=True)} for part in (train, held_out)
    ]
    assert not both[0] & both[1]


# Moving MNIST --------------------------------------------------------------------------------


def test_digits_move_in_straight_lines_and_bounce():
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = moving_digits.positions(rng, 40, span=36)
        assert corners.min() >= 0 and corners.max() <= 36
        steps = np.hypot(*np.diff(corners, axis=0).T)
        assert steps.max() <= moving_digits.SPEED + 1.5
        assert np.abs(steps - moving_digits.SPEED).mean() < 0.8  # rounding and reflections


def test_a_clip_is_a_function_of_its_seed_and_half_size_is_its_mean():
    digits = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1), np.uint8)
    clip = moving_digits.clip(digits, (0, 5), 6)
    assert clip.shape == (64, 64, 6)
    assert np.array_equal(clip, moving_digits.clip(digits, (0, 5), 6))
    assert not np.array_equal(clip, moving_digits.clip(digits, (1, 5), 6))
    small = moving_digits.clip(digits, (0, 5), 6, side=32)
    mean = clip.reshape(32, 2, 32, 2, 6).mean((1, 3))
    assert np.abs(small - mean).max() <= 0.5
    one = moving_digits.clip(digits, (0, 5), 1, num_digits=1)
    assert 0.9 * 28 * 28 < np.count_nonzero(one) <= 28 * 28


@pytest.mark.slow
@needs("mnist")
def test_moving_mnist_has_one_digit_at_32_and_two_at_64():
    for size, digits in ((32, 1), (64, 2)):
        data = load_source(
            "moving_mnist", frames=5, image_size=size, data_dir=DATA_DIR, limit=50, batch_size=50
        )
        assert (data.image_shape, data.frames) == ((size, size, 5), 5)
        assert (data.source.num_train, data.source.num_val) == (50, 1000)
        [batch] = data.epoch_batches(0)
        ink = np.asarray(batch["image"], float).sum((1, 2)).mean() / size**2
        assert abs(ink / (digits * 33.3 * (28 / 64) ** 2) - 1) < 0.2  # MNIST has a mean of 33.3
