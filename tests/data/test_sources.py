import dataclasses

import numpy as np
import pytest
from fixtures_data import DATA_DIR, class_folder, needs, save_picture
from PIL import Image

from keras_diffusion.data import folder, load, load_source, sources


def images_and_labels(dataset):
    examples = list(dataset.as_numpy_iterator())
    return [e["image"] for e in examples], [e["label"] for e in examples if "label" in e]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    source = sources.digits()
    images, labels = images_and_labels(source.train.concatenate(source.validation))
    assert (source.num_train, source.num_val) == (1438, 359)
    assert source.num_classes == 10
    assert np.max(images) == 255
    assert np.array_equal(np.concatenate(source.known_labels), labels)
    reference = load_digits()
    known = {(np.round(i * 255 / 16).astype(np.uint8).tobytes(), t)
             for i, t in zip(reference.images, reference.target, strict=True)}  # fmt: skip
    assert {(i.tobytes(), t) for i, t in zip(images, labels, strict=True)} == known


@needs("oxford_flowers102")
def test_flowers_are_split_again_over_all_images():
    source = sources.tfds("oxford_flowers102", DATA_DIR)
    assert source.train_split == "train[:80%]+validation[:80%]+test[:80%]"
    assert source.num_train + source.num_val == 8189
    assert source.num_train == round(0.8 * 1020) * 2 + round(0.8 * 6149)
    assert not source.table.missing("validation")
    seen = []
    for data, labels in (
        (source.train, source.train_labels),
        (source.validation, source.val_labels),
    ):
        batches = [(b["image"].tobytes(), b["label"]) for b in data.as_numpy_iterator()]
        assert np.array_equal([label for _, label in batches], labels)
        seen.append({hash(image) for image, _ in batches})
    # Two photos of the 8189 may be the same file; the halves must not share more than that.
    assert len(seen[0] | seen[1]) > 8180
    assert len(seen[0] & seen[1]) < 5


@needs("mnist")
def test_mnist_keeps_its_official_splits():
    source = sources.tfds("mnist", DATA_DIR)
    assert (source.train_split, source.val_split) == ("train", "test")
    assert (source.num_train, source.num_val) == (60000, 10000)
    assert source.image_shape == (28, 28, 1)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(source.train_labels).tolist() == counts
    assert source.class_names == tuple("0123456789")


@needs("mnist")
def test_given_splits():
    source = sources.tfds("mnist", DATA_DIR, "test[:1%]", "train[:50]+test[99%:]")
    assert (source.num_train, source.num_val) == (100, 150)
    images, labels = images_and_labels(source.train)
    assert len(images) == 100
    assert np.array_equal(labels, source.train_labels)


@needs("mnist")
@pytest.mark.parametrize(
    ("train_split", "val_split", "message"),
    [
        ("trian", "test", "'trian' of .* train, test"),
        ("train", "test[:x%]", r"'test\[:x%\]' of .* train, test"),
        ("train", "", "'' of .* train, test"),
        ("train", "test[:0]", "no images"),
        ("train", None, "both"),
    ],
)
def test_bad_splits(train_split, val_split, message):
    with pytest.raises(ValueError, match=message) as error:
        sources.tfds("mnist", DATA_DIR, train_split, val_split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mnits", "mnist"), ("cifar", "cifar10"), ("digit", "digits"), ("flowers", "flowers102")],
)
def test_unknown_name_gets_close_matches(name, hint):
    with pytest.raises(ValueError, match=f"unknown data set '{name}'; did you mean .*{hint}"):
        load(name)
    with pytest.raises(
        ValueError, match="^unknown data set 'qqqqqq'; the presets are digits, mnist"
    ):
        load("qqqqqq")


def test_data_set_without_images(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
    with pytest.raises(ValueError, match="'imdb_reviews' has no 8 bit image .*text"):
        load("imdb_reviews", data_dir=str(tmp_path))


def test_failed_download_says_what_else_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def refuse(self):
        raise ConnectionError("\nno route\nto host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    expected = "'cifar100' .*ConnectionError: no route.*--data-dir.*--folder"
    with pytest.raises(FileNotFoundError, match=expected) as error:
        load("cifar100", data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_folder_of_classes(tmp_path):
    class_folder(tmp_path, [10, 5, 1])
    save_picture(tmp_path / "b" / "deep" / "er.png", seed=999)
    source = sources.folder(tmp_path)
    assert source.class_names == ("a", "b", "c")
    assert (source.num_train, source.num_val) == (8 + 5 + 1, 2 + 1)
    assert source.image_shape == (8, 10, 3)
    images, labels = images_and_labels(source.train)
    assert np.array_equal(labels, source.train_labels)
    originals = {np.array(Image.open(p)).tobytes(): "abc".index(p.relative_to(tmp_path).parts[0])
                 for p in tmp_path.rglob("*.png")}  # fmt: skip
    assert [originals[image.tobytes()] for image in images] == labels


def test_folder_without_classes_has_no_labels(tmp_path):
    for i in range(10):
        save_picture(tmp_path / f"{i}.png", seed=i)
    train, validation = load(folder=tmp_path, batch_size=4)
    assert train.element_spec.keys() == {"image"}
    assert validation.element_spec.keys() == {"image", "index"}
    assert len(list(train)) == 2
    with pytest.raises(ValueError, match="needs labels"):
        load(folder=tmp_path, balance="classes")


def test_unreadable_files_are_named_and_skipped(tmp_path):
    class_folder(tmp_path, [4, 4])
    (tmp_path / "a" / "broken.jpg").write_bytes(b"this is no picture")
    save_picture(tmp_path / "b" / "cut.png", size=(64, 64))
    whole = (tmp_path / "b" / "cut.png").read_bytes()
    (tmp_path / "b" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "a" / ".hidden.png").write_text("")
    save_picture(tmp_path / "loose.png")
    data = load_source(folder=tmp_path)
    skipped = {text.partition(": ")[0].replace("\\", "/") for text in data.source.skipped}
    assert skipped == {"a/broken.jpg", "b/cut.png", "a/notes.txt", "loose.png"}
    assert "skipped 4 files" in data.summary
    assert "a/broken.jpg" in data.summary
    assert data.source.num_train + data.source.num_val == 8


@pytest.mark.parametrize("file", [None, "notes.txt", "empty.png"])
def test_folder_with_nothing_to_read(tmp_path, file):
    if file:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(ValueError, match="no readable picture") as error:
        load(folder=tmp_path)
    assert "\n" not in str(error.value)


def test_folder_that_is_missing_or_too_small(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(folder=tmp_path / "nowhere")
    save_picture(tmp_path / "one.png")
    with pytest.raises(ValueError, match="no two pictures"):
        load(folder=tmp_path)


def test_channels_are_those_that_all_files_need(tmp_path):
    gray = save_picture(tmp_path / "1.png", "L")
    save_picture(tmp_path / "2.png", "L", seed=2)
    assert folder.scan(tmp_path).image_shape == (8, 10, 1)
    assert np.array_equal(folder.decode(tmp_path / "1.png", 1)[..., 0], gray)
    color = save_picture(tmp_path / "3.bmp", "RGB")
    assert folder.scan(tmp_path).image_shape == (8, 10, 3)
    assert np.array_equal(folder.decode(tmp_path / "3.bmp", 4)[..., :3], color)
    assert np.all(folder.decode(tmp_path / "3.bmp", 4)[..., 3] == 255)
    clear = save_picture(tmp_path / "4.png", "RGBA", size=(9, 8))
    assert folder.scan(tmp_path).image_shape == (8, None, 4)
    assert np.array_equal(folder.decode(tmp_path / "4.png", 4), clear)


def test_an_alpha_that_hides_nothing_is_no_channel(tmp_path):
    for mode, channels in (("LA", 1), ("RGBA", 3)):
        picture = Image.fromarray(save_picture(tmp_path / mode / "1.png", "RGB"))
        picture.convert(mode).save(tmp_path / mode / "1.png")
        assert folder.scan(tmp_path / mode).image_shape == (8, 10, channels)
        expected = np.array(picture.convert(mode))[..., :channels]
        assert np.array_equal(folder.decode(tmp_path / mode / "1.png", channels), expected)


def test_palette_animation_depth_and_orientation(tmp_path):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "w.webp", lossless=True)
    frames[0].quantize(4).save(tmp_path / "p.png")
    for name, color in (("a.gif", [255, 0, 0]), ("w.webp", [0, 0, 255]), ("p.png", [255, 0, 0])):
        assert np.all(folder.decode(tmp_path / name, 3) == color), name
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2700
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(folder.decode(tmp_path / "deep.png", 1)[..., 0], deep >> 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the picture is to be turned
    frames[0].save(tmp_path / "turned.jpg", exif=exif)
    assert folder.decode(tmp_path / "turned.jpg", 3).shape == (6, 4, 3)
    assert folder.scan(tmp_path).image_shape == (None, None, 3)


def test_withheld_labels_are_refused():
    held_back = np.zeros(4, np.int64), np.full(2, -1)
    source = dataclasses.replace(sources.digits(), labels=lambda: held_back, val_split="secret")
    with pytest.raises(ValueError, match="split 'secret' of 'digits' withholds its labels"):
        _ = source.known_labels
    assert source.unlabelled().labels is None
