"""What Keras' own methods accept, and the count of steps, of both models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_diffusion import Autoencoder, DiffusionModel, networks
from keras_diffusion.models import averages

SHAPE = (4, 4, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), np.uint8)
LABELS = np.arange(8) % 2
HALF = (np.arange(8) < 4).astype("float32")
BATCHES = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)


def network(num_classes=2):
    inputs = {"x": keras.Input(SHAPE, name="x"), "logsnr": keras.Input((), name="logsnr")}
    h = layers.Conv2D(2, 3, padding="same", name="first")(inputs["x"])
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        embed = networks.layers.LabelEmbedding(num_classes, 2, name="embed")(inputs["label"])
        h = h + layers.Reshape((1, 1, 2))(embed)
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="last")(h))


def model_of(num_classes=2, accumulated=None, cls=DiffusionModel, **options):
    keras.utils.set_random_seed(0)
    model = cls(network(num_classes), **options)
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulated)
    model.compile(optimizer, run_eagerly=True)
    return model


class Recorded(DiffusionModel):
    """Keeps the times of every step."""

    times = ()

    def _noised(self, batch, key):
        noised = super()._noised(batch, key)
        self.times = (*self.times, noised["t"].numpy().tobytes())
        return noised


def test_noise_and_average_follow_the_steps_of_the_model(tmp_path):
    model = model_of(accumulated=3, cls=Recorded, ema_decay=0.9)
    average = model.ema_network.get_weights()
    for step in range(1, 7):
        if step == 5:
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        model.train_on_batch(IMAGES, LABELS)
        decay = min(0.9, (1 + step) / (10 + step))
        weights = model.network.get_weights()
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    for one, other in zip(model.ema_network.get_weights(), average, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(set(model.times)) == 6 and int(model.step) == 6
    plain = model_of()
    plain.step.assign(6)
    plain.save(tmp_path / "model.keras")
    assert int(keras.models.load_model(tmp_path / "model.keras").step) == 6


def test_a_file_without_steps_gets_those_of_its_optimizer(tmp_path, monkeypatch):
    model = model_of()
    for _ in range(3):
        model.train_on_batch(IMAGES, LABELS)

    def save_without_step(self, store):
        store["0"] = np.int64(1)

    monkeypatch.setattr(DiffusionModel, "save_own_variables", save_without_step)
    model.save(tmp_path / "old.keras")
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert (int(loaded.step), int(loaded.skipped_steps)) == (3, 1)
    assert "load_own_variables" not in vars(loaded.optimizer)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_weights_multiply_the_loss_of_each_image(accumulate):
    def losses(*data, **options):
        model = model_of(label_dropout=0.0, accumulate=accumulate)
        loss = model.fit(*data, batch_size=8, shuffle=False, verbose=0, **options).history["loss"]
        return [*loss, *np.concatenate([w.ravel() for w in model.network.get_weights()])]

    plain, doubled = losses(IMAGES, LABELS), losses(IMAGES, LABELS, sample_weight=2 * HALF)
    assert losses(IMAGES, LABELS, sample_weight=np.ones(8)) == pytest.approx(plain, rel=1e-5)
    assert doubled[0] != pytest.approx(plain[0], rel=1e-3)
    as_dict = {"image": IMAGES, "label": LABELS, "sample_weight": 2 * HALF}
    assert losses(as_dict) == pytest.approx(doubled, rel=1e-5)
    by_class = losses(IMAGES, LABELS, class_weight={0: 3.0, 1: 0.5})
    weights = np.where(LABELS == 0, 3.0, 0.5)
    assert losses(IMAGES, LABELS, sample_weight=weights) == pytest.approx(by_class, rel=1e-5)


def test_weights_of_batches_and_of_evaluation():
    model = model_of()
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, HALF)).batch(8)
    weighted = model.evaluate(data, verbose=0, return_dict=True)
    assert weighted == model.evaluate(
        IMAGES, LABELS, sample_weight=HALF, verbose=0, return_dict=True
    )
    first = model.evaluate(IMAGES[:4], LABELS[:4], verbose=0, return_dict=True)
    assert weighted["loss"] == pytest.approx(first["loss"] / 2, rel=1e-4)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
    batches = ({"image": IMAGES, "label": LABELS} for _ in range(3))
    assert np.isfinite(model.fit(batches, steps_per_epoch=2, verbose=0).history["loss"]).all()


def autoencoder():
    options = {"widths": (4,), "latent_channels": 2}
    model = Autoencoder(networks.encoder(SHAPE, **options), networks.decoder(SHAPE, **options))
    model.compile("adam")
    return model


@pytest.mark.parametrize("make", [model_of, autoencoder])
def test_methods_that_do_not_apply_name_the_alternative(make, tmp_path):
    model = make()
    for argument, message in (
        (lambda: model.compile("adam", loss="mae"), "loss: "),
        (lambda: model.compile("adam", metrics=["mae"]), "metrics: "),
        (lambda: model.export(tmp_path / "out"), "kd.export_saved_model"),
        (lambda: model.save(tmp_path / "m.h5"), "keras"),
        (lambda: model.fit(IMAGES / 1.0, LABELS, verbose=0), "images: floats"),
        (lambda: model.fit(IMAGES[..., 0], LABELS, verbose=0), r"images: shape \(4, 4\)"),
        (lambda: model.fit(IMAGES, LABELS, class_weight={9: 1.0}), "class_weight"),
        (lambda: model.fit(IMAGES, LABELS, sample_weight=-HALF), "sample_weight"),
        (lambda: model.fit(IMAGES, LABELS, validation_steps=1), "validation_steps"),
        (lambda: model.fit(BATCHES, batch_size=2), "batch_size"),
        (
            lambda: model.fit(IMAGES, validation_data=(IMAGES, LABELS), validation_split=0.5),
            "validation_split",
        ),
        (lambda: model.quantize("int8"), "quantize"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            argument()
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "m.keras")
    assert not list(tmp_path.iterdir()) and int(model.step) == 0


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras, of weights that do not fit
def test_a_model_predicts_x0_and_keeps_a_file_that_is_not_to_be_replaced(tmp_path, monkeypatch):
    model = model_of()
    x0 = model.predict({"image": IMAGES, "label": LABELS}, verbose=0)
    assert x0.shape == IMAGES.shape and np.isfinite(x0).all()
    (tmp_path / "m.keras").write_text("mine")
    monkeypatch.setattr("builtins.input", lambda *_: "n")  # Keras asks
    model.save(tmp_path / "m.keras", overwrite=False)
    assert (tmp_path / "m.keras").read_text() == "mine"
    with pytest.raises(ValueError, match="labels: must be whole numbers"):
        model.generate(2, labels=[[1], [1, 2]])
    model.save_weights(tmp_path / "two.weights.h5")
    with pytest.raises(ValueError, match="load_weights: .*two.weights.h5"):
        model_of(3).load_weights(tmp_path / "two.weights.h5")


def test_frozen_and_unfrozen_networks_are_named():
    model = model_of()
    model.network.trainable = False
    with pytest.raises(ValueError, match="no weights to train"):
        model.fit(IMAGES, LABELS, verbose=0)
    model.network.get_layer("last").trainable = True
    model.network.trainable = True
    model.network.get_layer("first").trainable = False
    model.optimizer.build(model.network.trainable_variables)
    model.network.get_layer("first").trainable = True
    with pytest.raises(ValueError, match="optimizer: .*compile"):
        model.fit(IMAGES, LABELS, verbose=0)


def test_weights_are_paired_by_layer():
    one = network()
    assert len(averages.paired(one, keras.models.clone_model(one))) == len(one.weights)
    nested = keras.Model(one.input, one(one.input))
    assert len(averages.paired(nested, keras.models.clone_model(nested))) == len(one.weights)
    with pytest.raises(ValueError, match="averaged network"):
        averages.paired(one, network(num_classes=0))


def test_networks_that_do_not_fit_are_named():
    images = keras.Input(SHAPE)
    listed = keras.Model([images, keras.Input(())], layers.Conv2D(1, 3, padding="same")(images))
    keras.config.set_dtype_policy("float64")
    wide = network()
    keras.config.set_dtype_policy("float32")
    for other in (listed, keras.Sequential([layers.Conv2D(1, 3)]), wide):
        with pytest.raises(ValueError, match="network: "):
            DiffusionModel(other)


def test_layers_that_change_later():
    model = model_of()
    model.train_on_batch(IMAGES, LABELS)
    first, last = (model.network.get_layer(name) for name in ("first", "last"))
    first.trainable = False
    before, moved = first.get_weights()[0], last.get_weights()[0]
    model.train_on_batch(IMAGES, LABELS)
    assert (first.get_weights()[0] == before).all() and (last.get_weights()[0] != moved).any()
    last.enable_lora(1)
    with pytest.raises(ValueError, match="'last'.*enable_lora before"):
        model.train_on_batch(IMAGES, LABELS)
