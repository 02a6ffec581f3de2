"""A run on a single image: restoration after each epoch, and the figures at the end."""

import csv

import numpy as np
import pytest
from fixtures_runs import tiny_run
from PIL import Image

from keras_diffusion import build
from keras_diffusion.config.resolve import resolve
from keras_diffusion.saving.checkpoints import Progress
from keras_diffusion.training import single_image
from keras_diffusion.training.run import Run
from keras_diffusion.training.run_dir import write_history

OPTIONS = {
    "image": "flower", "image_size": (32, 48), "crop_size": (16, 16), "widths": (8,),
    "attention": (False,), "num_steps": 2, "batch_size": 4, "limit": 8, "epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("run"), resolve("one_image", OPTIONS)
    return Run(config, build.load_data(config), folder, tiny_run(folder).votes)


@pytest.fixture(scope="module")
def model(run):
    """Untrained, for crops; its EMA differs from its network."""
    model = build.model(run.config, run.data.image_shape, 0)
    weights = model.ema_network.get_weights()
    model.ema_network.set_weights([weight + 0.01 for weight in weights])
    return model


def test_the_ema_at_another_size(run, model):
    whole = build.resized(model, run.config, (32, 48, 3))
    assert (whole.image_shape, model.image_shape) == ((32, 48, 3), (16, 16, 3))
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    config = resolve("one_image", {**OPTIONS, "widths": (8, 8), "attention": None})
    with pytest.raises(ValueError, match="--image-size: .* multiples of 2"):
        build.resized(build.model(config, (16, 16, 3), 0), config, (32, 47, 3))


def test_restoration_and_figures_of_the_whole_image(run, model):
    progress = Progress(seconds=90.0)
    restoration = single_image.restoration_callback(run, model, progress)
    restoration.set_model(model)
    history = []
    for epoch in range(2):
        restoration.on_epoch_end(epoch, logs := {"loss": 1.0})
        history.append({"epoch": epoch + 1, **logs})
        progress.seconds += 60
    assert [row["minutes"] for row in history] == [1.5, 2.5]
    assert history[0]["psnr"] == history[1]["psnr"] > 5 and 0 < history[0]["ssim"] < 1

    write_history(history, run.dir / "history.csv")
    whole = build.resized(model, run.config, run.data.whole_image.shape)
    single_image.plot(run, whole, {"forward": np.zeros(3)})
    for name in ("reconstruction", "variations", "other_size", "quality"):
        with Image.open(run.dir / f"{name}.png") as image:
            assert image.size[0] > 200, name
    with open(run.dir / "reconstruction.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["t"] for row in table] == ["0.3", "0.5", "0.7", "0.9"]
    noised = [float(row["noised_psnr"]) for row in table]
    assert noised == sorted(noised, reverse=True) and 5 < noised[-1] < noised[0] < 20
    # The same weights: the evaluation after an epoch is that of the figures.
    assert float(table[1]["reconstructed_psnr"]) == pytest.approx(history[-1]["psnr"], abs=0.01)
    arrays = np.load(run.dir / "pictures.npz")
    assert {name: arrays[name].shape for name in arrays} == {
        "picture": (32, 48, 3), "forward": (3,), "noised": (4, 32, 48, 3),
        "reconstructed": (4, 32, 48, 3), "variations": (4, 4, 32, 48, 3), "wide": (2, 32, 72, 3),
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["picture"], run.data.whole_image)
