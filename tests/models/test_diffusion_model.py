"""Training and evaluation against formulas in numpy; averaging, label dropout, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_models import IMAGES, LABELS, SHAPE, tiny_model, tiny_network

from keras_diffusion import DiffusionModel, Muon
from keras_diffusion.diffusion import schedules
from keras_diffusion.models.diffusion_model import in_float32
from keras_diffusion.models.metrics import BANDS
from keras_diffusion.networks import unet
from keras_diffusion.runtime.randomness import step_key

# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
every_type = pytest.mark.parametrize("prediction_type", ["eps", "x0", "v"])


@pytest.fixture(scope="module")
def unlabelled():
    return tiny_model()


def losses_of(model, steps, *data):
    return [float(model.train_on_batch(*data, return_dict=True)["loss"]) for _ in range(steps)]


def evaluate(model, *data, **options):
    results = model.evaluate(*data, verbose=0, return_dict=True, **options)
    return {name: value for name, value in results.items() if name != "raw_excess"}


# Training


@every_type
@pytest.mark.parametrize("loss_weighting", ["uniform", "min_snr"])
def test_metrics_are_those_of_the_formulas(prediction_type, loss_weighting):
    model = tiny_model(
        num_classes=2, prediction_type=prediction_type, loss_weighting=loss_weighting, eagerly=True
    )
    seen = {}
    predict = model._predict

    def spy(network, noised, training):
        output = predict(network, noised, training)
        if not seen:  # the raw weights are measured after the EMA weights
            seen.update(network=network, training=training, output=output.numpy())
            seen.update({name: noised[name].numpy() for name in ("x_t", "t", "label")})
        return output

    model._predict = spy
    results = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    assert seen["network"] is model.ema_network and seen["training"] is False
    np.testing.assert_array_equal(seen["label"], LABELS)

    t = seen["t"].astype("float64")
    assert len(t) == 16
    np.testing.assert_allclose((t - t[0]) % 1, np.arange(16) * (5**0.5 - 1) / 2 % 1, atol=1e-6)
    signal, noise = (np.asarray(r, "float64") for r in schedules.rates(schedules.cosine, seen["t"]))
    a, s = signal[:, None, None, None], noise[:, None, None, None]
    x0 = IMAGES / 127.5 - 1
    eps = (seen["x_t"] - a * x0) / s
    assert abs(eps[t > 0.1].mean()) < 0.2
    assert eps[t > 0.1].std() == pytest.approx(1, abs=0.15)
    target = {"eps": eps, "x0": x0, "v": a * eps - s * x0}[prediction_type]
    error = ((seen["output"] - target) ** 2).mean(axis=(1, 2, 3))
    snr = signal**2 / noise**2
    capped = np.minimum(snr, 5)
    weights = {"eps": capped / snr, "x0": capped, "v": capped / (snr + 1)}[prediction_type]
    if loss_weighting == "uniform":
        weights = np.ones(16)
    assert results["loss"] == pytest.approx((weights * error).mean(), rel=1e-3)
    zero_loss = (weights * (target**2).mean(axis=(1, 2, 3))).mean()
    assert results["zero_loss"] == pytest.approx(zero_loss, rel=1e-3)

    v_error = error / {"eps": signal**2, "x0": noise**2, "v": 1}[prediction_type]
    assert results["v_error"] == pytest.approx(v_error.mean(), rel=1e-3)
    assert results["eps_error"] == pytest.approx((signal**2 * v_error).mean(), rel=1e-3)
    assert results["x0_error"] == pytest.approx((noise**2 * v_error).mean(), rel=1e-3)
    for band, low in zip(BANDS, (0, 0.25, 0.5, 0.75), strict=True):
        inside = (t >= low) & (t < low + 0.25)
        expected = (weights * error)[inside].mean()
        assert results[f"loss_{band}"] == pytest.approx(expected, rel=1e-3)


@every_type
def test_a_step_applies_the_clipped_gradient_of_the_weighted_loss(prediction_type):
    optimizer = keras.optimizers.SGD(0.5, global_clipnorm=0.01)
    options = {"prediction_type": prediction_type, "loss_weighting": "min_snr", "seed": 3}
    model = tiny_model(num_classes=2, optimizer=optimizer, **options)
    batch = {"image": tf.constant(IMAGES), "label": tf.constant(LABELS, tf.int32)}
    noised = model._noised(batch, step_key(3, tf.constant(0)))
    signal, noise = (np.asarray(r) for r in schedules.rates(schedules.cosine, noised["t"]))
    snr = signal**2 / noise**2
    weights = np.minimum(snr, 5) / {"eps": snr, "x0": 1, "v": snr + 1}[prediction_type]
    inputs = {"x": noised["x_t"], "logsnr": tf.math.log(snr), "label": noised["label"]}
    with tf.GradientTape() as tape:
        error = (model.network(inputs) - noised["target"]) ** 2
        loss = tf.reduce_mean(weights * tf.reduce_mean(error, axis=(1, 2, 3)))
    before = [v.numpy() for v in model.network.trainable_variables]
    gradients = [
        tf.convert_to_tensor(g) for g in tape.gradient(loss, model.network.trainable_variables)
    ]
    norm = float(tf.linalg.global_norm(gradients))
    assert norm > 0.01
    results = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    assert results["loss"] == pytest.approx(float(loss), rel=1e-3)
    assert results["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    variables = model.network.trainable_variables
    for old, new, gradient in zip(before, variables, gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.5 * 0.01 / norm * gradient, atol=1e-5)


@pytest.mark.slow
def test_a_unet_overfits_a_batch():
    images = np.zeros((2, 8, 8, 1), np.uint8)  # a bar on the left, a bar on the right
    images[0, :, :4] = images[1, :, 4:] = 255
    keras.utils.set_random_seed(0)
    network = unet((8, 8, 1), widths=(16,), attention=(False,), embedding_width=32)
    model = DiffusionModel(network, ema_decay=0.9)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 500)))
    batch, many = (np.tile(images, (count, 1, 1, 1)) for count in (8, 128))
    before = evaluate(model, many, batch_size=256)["loss"]
    assert before == pytest.approx(1, abs=0.1)  # the output is zero
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(500), verbose=0)
    after = evaluate(model, many, batch_size=256)["loss"]
    assert after < 0.17 * before  # 0.13 to 0.14 with other seeds
    samples = model.generate(16, num_steps=10).astype(float)
    distances = np.abs(samples[:, None] - images[None].astype(float)).mean(axis=(2, 3, 4))
    assert np.median(distances.min(axis=1)) < 30, "of 255"


def test_noise_depends_on_seed_and_step():
    # The learning rate is 0: only noise and times can change the loss.
    first, again, other = (
        losses_of(tiny_model(seed=seed, optimizer=keras.optimizers.SGD(0.0)), 3, IMAGES)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert len({round(loss, 5) for loss in (*first, *other)}) == 6


def test_fit_takes_numpy_arrays():
    model = tiny_model(num_classes=2)
    # 12 images to train on; the last batch has 4
    history = model.fit(IMAGES, LABELS, batch_size=8, epochs=2, validation_split=0.25, verbose=0)
    assert set(history.history) >= {"loss", "val_loss", "eps_error", "loss_t0-25"}
    assert np.isfinite([history.history["loss"], history.history["val_loss"]]).all()
    assert int(model.optimizer.iterations) == 4


def test_mixed_bfloat16_trains_float32_variables():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = tiny_model()
    keras.config.set_dtype_policy("float32")
    assert model.network.get_layer("out").compute_dtype == "bfloat16"
    assert np.isfinite(losses_of(model, 3, IMAGES)).all()
    variables = model.weights + model.optimizer.variables
    assert {v.dtype for v in variables} <= {"float32", "int32", "int64", "uint32"}
    few, many = (model.generate(8, num_steps=2, batch_size=size) for size in (3, 8))
    assert few.dtype == np.uint8 and few.std() > 10
    assert np.abs(few.astype(int) - many.astype(int)).max() <= 4


def test_mixed_float16_is_rejected():
    with pytest.raises(ValueError, match="use mixed_bfloat16 or float32"):
        tiny_model(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "other"}, "cosine"),
        ({"prediction_type": "other"}, "eps"),
        ({"loss_weighting": "other"}, "min_snr"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"label_dropout": -0.1}, "label_dropout"),
        ({"accumulate": 0}, "accumulate: 0"),
        ({"seed": 2**32}, "seed: 4294967296"),  # would be that of seed 0
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionModel(tiny_network(), **options)


# Evaluation


def test_evaluation_of_an_image_depends_on_its_index_only(unlabelled):
    def at(indices, batch_size):
        data = {"image": IMAGES[indices], "index": indices}
        return evaluate(unlabelled, data, batch_size=batch_size)

    whole = at(np.arange(10), 10)
    assert len(whole) == 5 + len(BANDS)
    assert at(np.arange(10), 4) == pytest.approx(whole, rel=1e-5)  # 4 + 4 + 2
    assert at(np.random.default_rng(0).permutation(10), 3) == pytest.approx(whole, rel=1e-5)
    single = [at(np.array([i]), 1)["loss"] for i in range(10)]
    assert whole["loss"] == pytest.approx(np.mean(single), rel=1e-5)
    moved = evaluate(unlabelled, {"image": IMAGES[:10], "index": np.arange(1, 11)})
    assert moved["loss"] != pytest.approx(whole["loss"], rel=1e-4)


def test_the_index_is_by_default_the_position_in_the_batch(unlabelled):
    for batch_size in (16, 8):
        numbered = {"image": IMAGES, "index": np.arange(16) % batch_size}
        expected = evaluate(unlabelled, numbered, batch_size=batch_size)
        assert evaluate(unlabelled, IMAGES, batch_size=batch_size) == pytest.approx(expected)


def test_an_unlabelled_network_ignores_labels(unlabelled):
    assert evaluate(unlabelled, IMAGES, LABELS + 99) == evaluate(unlabelled, IMAGES)


# Averaging


@pytest.mark.parametrize("ema_decay", [0.999, 0.2, 0.0])
def test_the_ema_is_that_of_the_formula(ema_decay):
    model = tiny_model(ema_decay=ema_decay, eagerly=True)
    average = [w.copy() for w in model.network.get_weights()]
    for step in (1, 2, 3):
        model.train_on_batch(IMAGES)
        decay = min(ema_decay, (1 + step) / (10 + step))
        weights = model.network.get_weights()
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        for weight, expected in zip(model.ema_network.get_weights(), average, strict=True):
            np.testing.assert_allclose(weight, expected, atol=1e-6)
    assert not model.ema_network.trainable_variables
    assert len(model.trainable_variables) == len(model.network.trainable_variables)


def test_evaluation_and_samples_use_the_ema_and_change_no_weights():
    model = tiny_model()
    before = [w.copy() for w in model.get_weights()]
    loss, samples = evaluate(model, IMAGES), model.generate(2, num_steps=2)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    model.network.set_weights([w + 1 for w in model.network.get_weights()])
    assert evaluate(model, IMAGES) == loss
    np.testing.assert_array_equal(model.generate(2, num_steps=2), samples)
    model.ema_network.set_weights([w + 0.1 for w in model.ema_network.get_weights()])
    assert evaluate(model, IMAGES) != loss
    assert (model.generate(2, num_steps=2) != samples).any(), "the graph has frozen weights"


# Labels


def test_label_dropout_replaces_its_share_of_labels():
    model = tiny_model(num_classes=2, label_dropout=0.2)
    batch = {"image": tf.zeros((4000, *SHAPE), tf.uint8), "label": tf.ones(4000, tf.int32)}
    labels = model._noised(batch, tf.constant([1, 2]))["label"].numpy()
    assert set(labels) == {1, 2}
    assert (labels == 2).mean() == pytest.approx(0.2, abs=0.03)
    few = {name: values[:64] for name, values in batch.items()}
    assert set(model._noised_by_index(few)["label"].numpy()) == {1}, "not in evaluation"


def test_an_endpoint_replaces_the_noise():
    model = tiny_model(prediction_type="eps")
    model.ema_network.set_weights([0 * w for w in model.ema_network.get_weights()])
    # The output is zero: the loss is the mean square of the endpoint.
    half = {"image": IMAGES, "endpoint": np.full(IMAGES.shape, 0.75, "float32")}
    assert evaluate(model, half)["loss"] == pytest.approx(0.25)
    white = {"image": IMAGES, "endpoint": np.full(IMAGES.shape, 255, "uint8")}
    assert evaluate(model, white)["loss"] == pytest.approx(1)
    assert evaluate(model, IMAGES)["loss"] == pytest.approx(1, abs=0.3)


# Saving


def test_a_loaded_model_is_the_same_and_continues_alike(tmp_path):
    options = {"num_classes": 2, "ema_decay": 0.9, "label_dropout": 0.2, "seed": 4}
    model = tiny_model(**options, optimizer=Muon(2e-3, global_clipnorm=1.0))
    losses_of(model, 3, IMAGES, LABELS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for values in (lambda m: m.weights, lambda m: m.optimizer.variables):
        for one, other in zip(values(loaded), values(model), strict=True):
            np.testing.assert_array_equal(one, other)
    for name in ("ema_decay", "label_dropout", "seed"):
        assert loaded.get_config()[name] == options[name]
    for data in ((IMAGES, LABELS), {"image": IMAGES, "label": LABELS}):
        x0 = model(data)
        assert x0.shape == IMAGES.shape and np.isfinite(x0).all()
        np.testing.assert_array_equal(loaded(data), x0)
    losses = losses_of(model, 2, IMAGES, LABELS)
    assert losses[0] != losses[1]
    assert losses_of(loaded, 2, IMAGES, LABELS) == losses
    assert int(loaded.optimizer.iterations) == 5


def test_a_copy_in_float32_has_the_weights_and_computes_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model(num_classes=2)
    finally:
        keras.config.set_dtype_policy(policy)
    copy = in_float32(model)
    assert "bfloat16" in {layer.compute_dtype for layer in model._flatten_layers()}
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    for one, other in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    difference = copy.generate(4, num_steps=2).astype(int) - model.generate(4, num_steps=2)
    assert 0 < np.abs(difference).max() < 10
