"""Images edited by a model: `kd.editing`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_latents import tiny_autoencoder
from fixtures_models import tiny_model, tiny_network
from keras import layers, ops

from keras_diffusion import DiffusionModel, LatentCodec, editing, export_saved_model, operators
from keras_diffusion.saving import loading

SHAPE = (8, 8, 1)
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (5, *SHAPE), np.uint8)
TRUTH = rng.integers(0, 256, SHAPE, np.uint8)
KNOWN = rng.integers(0, 2, (5, *SHAPE))
LABELS = [0, 1, 2, 0, 1]


@pytest.fixture(scope="module")
def model():
    return tiny_model(SHAPE, num_classes=3, schedule="linear")


@pytest.fixture(scope="module")
def loaded(export):
    """(the model, its export) of the session."""
    return export[0], loading.load(export[1])


@pytest.fixture(scope="module")
def of_latents():
    autoencoder = tiny_autoencoder((16, 16, 3))
    codec = LatentCodec(autoencoder.encoder, autoencoder.decoder)
    return DiffusionModel(tiny_network(codec.x_shape), codec=codec)


def largest(one, other):
    return np.abs(one.astype(int) - other).max()


def changed(one, other):
    """Which images differ by more than rounding."""
    return (np.abs(one.astype(int) - other).max(axis=(1, 2, 3)) > 1).tolist()


def reduced(images):
    """uint8 images of half the size."""
    return np.rint(operators.downscale(2).apply(images.astype("float32"))).astype("uint8")


# Image to image -----------------------------------------------------------------------------


class KnowsTheImage(layers.Layer):
    """Predicts the v of one image, whatever its input."""

    def call(self, x, logsnr):
        signal, noise = (
            ops.sqrt(ops.sigmoid(sign * logsnr))[:, None, None, None] for sign in (1, -1)
        )
        return (signal * x - (TRUTH / 127.5 - 1)) / noise


@pytest.fixture(scope="module")
def knowing():
    inputs = {"x": keras.Input(SHAPE, name="x"), "logsnr": keras.Input((), name="logsnr")}
    return DiffusionModel(keras.Model(inputs, KnowsTheImage()(**inputs)))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun", "ddpm"])
def test_a_known_image_is_restored_from_any_time(knowing, sampler):
    for strength in (0.2, 1.0):
        images = editing.img2img(
            knowing, TRUTH[None], strength=strength, sampler=sampler, num_steps=5
        )
        assert largest(images[0], TRUTH) <= 2


def test_the_start_is_the_noised_image(model):
    options = {"strength": 0.4, "num_steps": 3, "seed": 7}
    frames = editing.img2img(model, IMAGES, num_frames=3, **options)
    assert frames.shape == (4, 5, *SHAPE)
    np.testing.assert_array_equal(frames[0], editing.noised(model, IMAGES, [0.4], seed=7)[0])
    assert largest(frames[-1], editing.img2img(model, IMAGES, **options)) <= 1


def test_strength(model):
    def change(strength):
        images = editing.img2img(model, IMAGES, strength=strength, num_steps=2, labels=LABELS)
        return np.abs(images.astype(int) - IMAGES).mean()

    assert 5 * change(0.01) < change(0.5)
    from_noise = model.generate(5, num_steps=2).astype(int)
    all_noise = editing.img2img(model, IMAGES, strength=1.0, num_steps=2, labels=LABELS)
    assert np.abs(all_noise - from_noise).mean() < 2  # signal_rate is 0.003 at t = 1
    with pytest.raises(ValueError, match="^strength: "):
        editing.img2img(model, IMAGES, strength=0)


def test_an_edited_image_depends_on_itself_the_seed_and_its_label(model):
    options = {"strength": 0.6, "num_steps": 2, "labels": [0, 1, 2, 0, 1]}
    images = editing.img2img(model, IMAGES, **options)
    assert largest(images, editing.img2img(model, IMAGES, batch_size=2, **options)) <= 1
    assert largest(images, editing.img2img(model, IMAGES / 255, **options)) <= 1
    assert all(changed(images, editing.img2img(model, IMAGES, seed=1, **options)))
    others = editing.img2img(model, IMAGES, **{**options, "labels": [0, 1, 2, 0, 2]})
    assert changed(images, others) == [False, False, False, False, True]


def test_variations_differ_in_their_noise(model):
    images = editing.variations(model, TRUTH, 3, strength=0.4, labels=1, num_steps=2)
    copies = np.stack([TRUTH] * 3)
    expected = editing.img2img(model, copies, strength=0.4, labels=[1] * 3, num_steps=2)
    np.testing.assert_array_equal(images, expected)
    assert all(changed(images[:2], images[1:]))


# Restoration --------------------------------------------------------------------------------


class Gaussian(layers.Layer):
    """The exact v of images with a constant mean and a known covariance."""

    def call(self, x, logsnr):
        flat, x0, signal, noise = self.parts(x, logsnr)
        v = (signal * flat - x0) / noise
        return ops.reshape(v @ VECTORS.T, (-1, *SHAPE))

    def parts(self, x, logsnr):
        signal, noise = (ops.sqrt(ops.sigmoid(sign * logsnr))[:, None] for sign in (1, -1))
        flat = ops.reshape(x, (-1, 64)) @ VECTORS
        x0 = flat * signal * VALUES / (signal**2 * VALUES + noise**2)
        return flat, x0, signal, noise


class GaussianX0(Gaussian):
    """x0, one grey level too high."""

    def call(self, x, logsnr):
        return ops.reshape(self.parts(x, logsnr)[1] @ VECTORS.T, (-1, *SHAPE)) + 2 / 255


ROWS, COLUMNS = np.divmod(np.arange(64), 8)
DISTANCES = (ROWS[:, None] - ROWS) ** 2 + (COLUMNS[:, None] - COLUMNS) ** 2
COVARIANCE = 0.06 * np.exp(-DISTANCES / 4) + 1e-3 * np.eye(64)  # std 0.25 of [-1, 1]
VALUES, VECTORS = (part.astype("float32") for part in np.linalg.eigh(COVARIANCE))


@pytest.fixture(scope="module")
def gaussian():
    inputs = {"x": keras.Input(SHAPE, name="x"), "logsnr": keras.Input((), name="logsnr")}
    return DiffusionModel(keras.Model(inputs, Gaussian()(**inputs)))


@pytest.mark.parametrize(("sampler", "num_steps"), [("dpmpp_2m", 20), ("ddpm", 50)])
@pytest.mark.parametrize("name", ["mask", "downscale"])
def test_restored_images_are_samples_of_the_posterior(gaussian, name, sampler, num_steps):
    operator = operators.mask(ROWS.reshape(8, 8) < 5) if name == "mask" else operators.downscale(2)
    truth = np.linalg.cholesky(COVARIANCE) @ np.random.default_rng(3).normal(size=64)
    images = np.repeat((truth.reshape(1, *SHAPE) + 1) / 2, 500, axis=0).astype("float32")
    measurement = np.asarray(operator.apply(images))
    options = {"sampler": sampler, "num_steps": num_steps, "batch_size": 500}
    restored = editing.restore(gaussian, measurement, operator, **options)
    x = restored.reshape(-1, 64) / 127.5 - 1
    rows = np.asarray(operator.apply(np.eye(64, dtype="float32").reshape(64, *SHAPE)))
    rows = rows.reshape(64, -1).T
    rows = rows[np.abs(rows).sum(1) > 0]
    gain = COVARIANCE @ rows.T @ np.linalg.inv(rows @ COVARIANCE @ rows.T)
    mean, covariance = gain @ (rows @ truth), COVARIANCE - gain @ rows @ COVARIANCE
    free = np.diag(covariance) > 0.002
    error = np.linalg.norm((x.mean(0) - mean)[free]) / np.linalg.norm(mean[free])
    assert error < 0.2, error
    assert x.var(0)[free].sum() / np.diag(covariance)[free].sum() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("method", editing.METHODS)
def test_known_pixels_are_unchanged_and_a_result_depends_on_its_image_alone(model, method):
    options = {"method": method, "num_steps": 3, "labels": LABELS, "guidance_scale": 2.0}
    restored = editing.restore(model, IMAGES, operators.mask(KNOWN[..., 0]), **options)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored * KNOWN, IMAGES * KNOWN)
    others = np.where(KNOWN, IMAGES, rng.integers(0, 256, IMAGES.shape)).astype("uint8")
    again = editing.restore(model, others / 255, operators.mask(KNOWN), batch_size=2, **options)
    assert largest(restored, again) <= 1
    other_seed = editing.restore(model, IMAGES, operators.mask(KNOWN), seed=1, **options)
    assert all(changed(restored, other_seed))


def test_an_enlarged_image_is_reduced_to_what_was_given(model):
    small = reduced(IMAGES)
    restored = editing.restore(model, small, operators.downscale(2), num_steps=3)
    assert largest(reduced(restored), small) <= 1
    noisy = editing.restore(model, small, operators.downscale(2), num_steps=3, noise=0.2)
    assert largest(reduced(noisy), small) > 2, "noise is not reproduced"


def test_clips_and_other_operators():
    model = tiny_model((8, 8, 4))
    clips = rng.integers(0, 256, (2, 8, 8, 4), np.uint8)
    restored = editing.restore(model, clips, operators.frames([0, 3], 4), num_steps=2)
    np.testing.assert_array_equal(restored[..., [0, 3]], clips[..., [0, 3]])
    assert largest(restored[..., 1], clips[..., 1]) > 5
    rows = operators.linear(lambda x: x[:, ::2], lambda y: tf.repeat(y, 2, 1) * STRIPES)
    restored = editing.restore(model, clips[:, ::2], rows, num_steps=2)
    np.testing.assert_array_equal(restored[:, ::2], clips[:, ::2])


STRIPES = (1 - np.arange(8) % 2).reshape(1, 8, 1, 1).astype("float32")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"measurement": IMAGES[:, :4]}, "^measurement: shape"),
        ({"measurement": IMAGES.astype(int)}, "^measurement: dtype"),
        ({"measurement": IMAGES / np.nan}, "^measurement: it contains NaN"),
        ({"measurement": IMAGES / 1.0}, "^measurement: .*outside"),
        ({"operator": operators.mask(KNOWN[:3])}, "^operator: .*3 rows"),
        ({"method": "dps"}, "method"),
        ({"sampler": "euler"}, "sampler"),
        ({"cg_steps": 0}, "^cg_steps"),
        ({"noise": -1}, "^noise"),
        ({"num_steps": 0}, "^num_steps"),
        ({"batch_size": 0}, "^batch_size"),
        ({"labels": [3, 4]}, "^labels"),
        ({"guidance_scale": 2.0}, "^guidance_scale"),
    ],
)
def test_what_cannot_be_restored(model, changes, match):
    options = {"measurement": IMAGES, "operator": operators.mask(KNOWN), **changes}
    with pytest.raises(ValueError, match=match):
        editing.restore(model, **options)


def test_latents_are_not_linear_in_the_pixels(of_latents):
    images = np.zeros((2, 16, 16, 3), "uint8")
    with pytest.raises(ValueError, match="^model: .*latents"):
        editing.restore(of_latents, images, operators.mask(np.ones((16, 16))))


# Inversion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", editing.DETERMINISTIC)
def test_an_inverted_image_is_sampled_again(gaussian, sampler):
    images, options = gaussian.generate(5), {"sampler": sampler, "num_steps": 50}
    noise = editing.invert(gaussian, images, **options)
    assert noise.shape == images.shape and noise.dtype == np.float32
    error = editing.from_noise(gaussian, noise, **options).astype(float) - images
    assert np.sqrt((error**2).mean()) < 255 * 10 ** (-35 / 20)  # a PSNR of 35 dB
    parts = editing.invert(gaussian, images, batch_size=2, **options)
    np.testing.assert_allclose(parts, noise, atol=1e-3)


def test_errors_of_a_network_that_predicts_x0_do_not_grow(gaussian):
    inputs = {"x": keras.Input(SHAPE, name="x"), "logsnr": keras.Input((), name="logsnr")}
    model = DiffusionModel(keras.Model(inputs, GaussianX0()(**inputs)), prediction_type="x0")
    images = gaussian.generate(50)
    noise = editing.invert(model, images)
    assert 0.9 < noise.std() < 1.1
    error = editing.from_noise(model, noise).astype(float) - images
    assert np.sqrt((error**2).mean()) < 4


def test_translation_is_inversion_under_another_condition(model):
    images = editing.translate(model, IMAGES, source=LABELS, target=2, guidance_scale=2.0)
    noise = editing.invert(model, IMAGES, labels=LABELS)
    expected = editing.from_noise(model, noise, labels=[2] * 5, guidance_scale=2.0)
    np.testing.assert_array_equal(images, expected)
    same = editing.translate(model, IMAGES, source=LABELS, target=LABELS)
    assert largest(same, images) > 5


def test_an_interpolation_starts_and_ends_at_its_ends(gaussian):
    image = gaussian.generate(1)[0]
    images = editing.interpolate(gaussian, image, 7, 3, num_steps=50)
    assert images.shape == (3, *SHAPE) and all(changed(images[:2], images[1:]))
    assert largest(images[0], image) < 10
    seeded = gaussian.generate(1, sampler="heun", num_steps=50, seed=7)
    assert largest(images[-1:], seeded) <= 1


def test_noise_is_interpolated_on_the_sphere():
    a, b = rng.normal(size=(2, 1000))
    norms = np.linalg.norm(editing._slerp(a, b, [0, 0.5, 1]), axis=1) / 1000**0.5
    np.testing.assert_allclose(norms, 1, atol=0.05)
    np.testing.assert_allclose(editing._slerp(a, a, [0.5])[0], a, rtol=1e-3)


def test_what_cannot_be_inverted(model):
    with pytest.raises(ValueError, match="^sampler: 'ddpm' cannot be reversed"):
        editing.invert(model, IMAGES, sampler="ddpm")
    with pytest.raises(ValueError, match="^noise: shape"):
        editing.from_noise(model, np.zeros((2, 4, 4, 1)))
    with pytest.raises(ValueError, match="^num: 1"):
        editing.interpolate(model, 0, 1, 1)
    for scale in (255, np.nan):
        with pytest.raises(ValueError, match=r"^images: NaN, or floats outside of \[0, 1\]"):
            editing.invert(model, IMAGES.astype("float32") * scale)


def test_labels_or_prompts(model):
    for edit in (editing.variations, editing.interpolate):
        arguments = (0, 1, 2) if edit is editing.interpolate else (IMAGES[0], 2)
        with pytest.raises(ValueError, match="^prompts: take the place of labels"):
            edit(model, *arguments, labels=1, prompts="a bee")


# Kinds of models ----------------------------------------------------------------------------


def test_an_export_edits_as_its_model_does(loaded):
    own, export = loaded
    guided = {"labels": LABELS, "guidance_scale": 2.0, "guidance_interval": (0.2, 0.8)}
    for edit in (
        lambda m: editing.restore(m, IMAGES, operators.mask(KNOWN), num_steps=2, **guided),
        lambda m: editing.img2img(m, IMAGES, sampler="heun", num_steps=2, **guided),
        lambda m: editing.translate(m, IMAGES, source=0, target=1, num_steps=2),
    ):
        assert largest(edit(own), edit(export)) <= 1


def test_an_export_of_latents_encodes_and_decodes(of_latents, tmp_path):
    options = {"samplers": ["ddim"], "sampler": "ddim"}
    path = export_saved_model(of_latents, tmp_path / "latents", **options)
    export, images = loading.load(path), rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    one, other = (editing.img2img(m, images, num_steps=2) for m in (of_latents, export))
    assert largest(one, other) <= 1
    assert editing.invert(export, images, num_steps=2).shape == (2, *of_latents.x_shape)
