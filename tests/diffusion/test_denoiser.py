import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.process import mix, to_pair
from keras_diffusion.diffusion.samplers import ddim
from keras_diffusion.diffusion.schedules import cosine, logsnr, rates
from keras_diffusion.diffusion.time_grids import uniform_logsnr

NULL = 3
LABELS = np.array([0, 1, 2, 1], "int32")
CONDITION = {"label": LABELS}
NULLS = {"label": np.full(4, NULL, "int32")}
X = np.random.default_rng(0).normal(size=(4, 2, 3, 1)).astype("float32")
TIMES = np.array([0.1, 0.4, 0.6, 0.9], "float32")
every_type = pytest.mark.parametrize("prediction_type", ["eps", "x0", "v"])


class FakeNetwork:
    """A nonlinear function of all its inputs that records its batch sizes."""

    def __init__(self):
        self.batches = []

    def __call__(self, inputs, training):
        assert training is False
        label = inputs.get("label", np.zeros(inputs["x"].shape[0]))
        assert inputs["logsnr"].shape == label.shape == inputs["x"].shape[:1]
        self.batches.append(inputs["x"].shape[0])
        shift = 0.1 * inputs["logsnr"] + tf.cast(label, "float32")
        return tf.tanh(inputs["x"] + shift[:, None, None, None])

    def output(self, labels):
        inputs = {"x": X, "logsnr": logsnr(cosine, TIMES), "label": labels}
        return np.asarray(self(inputs, training=False))


def denoise(times=TIMES, prediction_type="v", network=None, scale=None, **options):
    """Returns (pair of the fake network's denoiser at X, batch sizes of its calls)."""
    network = network or FakeNetwork()
    if scale is not None:
        options.update(null=NULLS, guidance_scale=scale)
    denoiser = make_denoiser(network, cosine, prediction_type, condition=CONDITION, **options)
    return denoiser(X, times), getattr(network, "batches", None)


def level(times=TIMES):
    return [rate[:, None, None, None] for rate in rates(cosine, times)]


def assert_same(pair, expected, atol=1e-4):
    for part, other in zip(pair, expected, strict=True):
        np.testing.assert_allclose(part, other, atol=atol, rtol=1e-4)


@every_type
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, tf.constant(4.0)])
def test_guidance_extrapolates_from_null_to_conditional(prediction_type, scale):
    pair, batches = denoise(prediction_type=prediction_type, scale=scale)
    assert batches == [4 if scale == 1 else 8]
    null, conditional = (FakeNetwork().output(y) for y in (np.full(4, NULL), LABELS))
    output = null + scale * (conditional - null)
    assert_same(pair, to_pair(output, X, level(), prediction_type))
    np.testing.assert_allclose(mix(pair, level()), X, atol=1e-5)


@every_type
def test_without_guidance_one_call(prediction_type):
    pair, batches = denoise(prediction_type=prediction_type)
    assert batches == [4]
    assert_same(pair, to_pair(FakeNetwork().output(LABELS), X, level(), prediction_type))
    vector, _ = denoise(np.full(4, 0.3, "float32"), prediction_type)
    for time in (0.3, tf.constant(0.3)):
        assert_same(denoise(time, prediction_type)[0], vector)


@pytest.mark.parametrize(
    ("condition", "null"),
    [(None, None), ({"tokens": np.array([[1, 2], [1, 3], [1, 0], [1, 2]])}, {"tokens": [[1, 4]]})],
)
def test_the_network_gets_the_condition_and_its_null(condition, null):
    seen = []

    def network(inputs, training):
        seen.append(inputs)
        return inputs["x"]

    options = {}
    if condition:
        null = {"tokens": np.repeat(null["tokens"], 4, axis=0)}
        options = {"condition": condition, "null": null, "guidance_scale": 2.0}
    make_denoiser(network, cosine, "v", **options)(X, 0.5)
    [inputs] = seen
    assert sorted(inputs) == ["logsnr", *(condition or {}), "x"]
    if condition:
        expected = np.concatenate([condition["tokens"], null["tokens"]])
        np.testing.assert_array_equal(inputs["tokens"], expected)


@every_type
def test_clip_bounds_x0_and_keeps_the_pair(prediction_type):
    (x0, eps), _ = denoise(prediction_type=prediction_type, clip=0.2)
    (unclipped, _), _ = denoise(prediction_type=prediction_type)
    assert np.abs(unclipped).max() > 0.2
    np.testing.assert_allclose(x0, np.clip(unclipped, -0.2, 0.2), atol=1e-6)
    np.testing.assert_allclose(mix((x0, eps), level()), X, atol=1e-5)


# Guidance in an interval of times


@pytest.mark.parametrize("interval", [(0.2, 0.6), tf.constant([0.2, 0.6])])
@pytest.mark.parametrize(
    ("time", "inside"),
    [(0.0, False), (0.1, False), (0.2, True), (0.4, True), (0.6, True), (0.61, False), (1, False)],
)
def test_guidance_is_on_inside_of_the_interval_only(interval, time, inside):
    pair, batches = denoise(np.float32(time), scale=2.5, guidance_interval=interval)
    assert batches == [8 if inside else 4]
    assert_same(pair, denoise(time, scale=2.5 if inside else 1.0)[0])
    _, batches = denoise(np.float32(time), scale=1.0, guidance_interval=interval)
    assert batches == [4]


@pytest.mark.parametrize("options", [{}, {"guidance_rescale": 0.7}])
def test_each_image_is_guided_by_its_own_time(options):
    pair, batches = denoise(scale=2.5, guidance_interval=(0.4, 0.7), **options)
    assert batches == [8], "two of the four images are inside"
    full, _ = denoise(scale=2.5, guidance_interval=(0.0, 1.0), **options)
    conditional, _ = denoise(scale=1.0)
    inside = np.array([False, True, True, False])[:, None, None, None]
    for part, guided, other in zip(pair, full, conditional, strict=True):
        assert np.abs(guided - other).min(axis=(1, 2, 3)).max() > 1e-3
        np.testing.assert_allclose(part, np.where(inside, guided, other), atol=1e-6)
    pair, batches = denoise(scale=2.5, guidance_interval=(0.65, 0.85), **options)
    assert batches == [4], "no image is inside"
    assert_same(pair, conditional)


NUM_STEPS = 10
GRID = uniform_logsnr(cosine, NUM_STEPS)


def test_a_sampler_doubles_the_batch_only_inside_and_is_traced_once():
    rows = tf.Variable(0)  # images that the network has processed

    def network(inputs, training):
        rows.assign_add(tf.shape(inputs["x"])[0])
        return FakeNetwork()(inputs, training)

    @tf.function(input_signature=[tf.TensorSpec(()), tf.TensorSpec((2,))])
    def run(scale, interval):
        denoiser = make_denoiser(
            network, cosine, "v", condition=CONDITION, null=NULLS, guidance_scale=scale,
            guidance_interval=interval,
        )  # fmt: skip
        return ddim(denoiser, cosine, tf.constant(X), GRID)

    def sample(scale, interval):
        rows.assign(0)
        return run(tf.constant(scale), tf.constant(interval)).numpy(), int(rows)

    full, conditional = sample(2.5, (0.0, 1.0)), sample(1.0, (0.0, 1.0))
    assert full[1] == 8 * NUM_STEPS and conditional[1] == 4 * NUM_STEPS
    for interval in ((0.1, 0.8), (0.5, 1.0), (0.0, 0.3)):
        inside = int(np.sum((GRID[:-1] >= interval[0]) & (GRID[:-1] <= interval[1])))
        images, count = sample(2.5, interval)
        assert 0 < inside < NUM_STEPS and count == 4 * (NUM_STEPS + inside)
        assert np.abs(images - full[0]).max() > 0.01
    middle = float(GRID[3] + GRID[4]) / 2
    images, count = sample(2.5, (middle, middle))  # between two steps
    assert count == 4 * NUM_STEPS
    np.testing.assert_array_equal(images, conditional[0])
    assert run.experimental_get_tracing_count() == 1


# Rescaled guidance


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0, tf.constant(0.4)])
def test_rescale_restores_the_std_of_each_image(share):
    null, conditional = (FakeNetwork().output(y) for y in (np.full(4, NULL), LABELS))
    guided = null + 5 * (conditional - null)
    target, std = (output.std(axis=(1, 2, 3), keepdims=True) for output in (conditional, guided))
    output = share * guided * target / std + (1 - share) * guided  # equations 15 and 16
    assert_same(denoise(scale=5.0, guidance_rescale=share)[0], to_pair(output, X, level(), "v"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"condition": CONDITION, "guidance_interval": (0.1, 0.8)}, "guidance_interval"),
        ({"condition": CONDITION, "guidance_rescale": 0.5}, "guidance_rescale"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"guidance_scale": 2.0, "condition": CONDITION}, "guidance_scale"),
        ({"guidance_scale": 2.0, "null": NULLS}, "guidance_scale"),
    ],
)
def test_guidance_needs_a_scale_a_condition_and_a_null(options, name):
    with pytest.raises(ValueError, match=f"{name}: needs"):
        make_denoiser(FakeNetwork(), cosine, "v", **options)
