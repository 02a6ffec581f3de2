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
    """A nonlinear function of all its inputs, which remembers the sizes of its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, inputs, training):
        assert training is False
        label = inputs.get("label", np.zeros(inputs["x"].shape[0]))
        assert inputs["logsnr"].shape == label.shape == inputs["x"].shape[:1]
        self.batches.append(inputs["x"].shape[0])
        shift = 0.1 * inputs["logsnr"] + tf.cast(label, "float32")
        return tf.tanh(inputs["x"] + shift[:, None, None, None])

    def raw(self, labels, times=TIMES):
        return self({"x": X, "logsnr": logsnr(cosine, times), "label": labels}, training=False)


def level(times=TIMES):
    return [rate[:, None, None, None] for rate in rates(cosine, times)]


def check_pairs(got, expected):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


@every_type
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, tf.constant(4.0)])
def test_guidance_extrapolates_from_null_to_conditional(prediction_type, scale):
    network = FakeNetwork()
    guided = make_denoiser(
        network, cosine, prediction_type, condition=CONDITION, null=NULLS, guidance_scale=scale
    )(X, TIMES)
    assert network.batches == [4 if scale == 1 else 8]
    null, conditional = network.raw(np.full(4, NULL)), network.raw(LABELS)
    output = null + scale * (conditional - null)
    check_pairs(guided, to_pair(output, X, level(), prediction_type))
    np.testing.assert_allclose(mix(guided, level()), X, atol=1e-5)


@every_type
def test_without_guidance_one_call_of_the_batch(prediction_type):
    network = FakeNetwork()
    got = make_denoiser(network, cosine, prediction_type, condition=CONDITION)(X, TIMES)
    assert network.batches == [4]
    check_pairs(got, to_pair(network.raw(LABELS), X, level(), prediction_type))
    one = make_denoiser(
        network, cosine, prediction_type, condition=CONDITION, null=NULLS, guidance_scale=1.0
    )
    check_pairs(one(X, TIMES), got)


def test_without_labels_the_network_gets_none():
    seen = []

    def network(inputs, training):
        seen.append(sorted(inputs))
        return inputs["x"]

    make_denoiser(network, cosine, "eps")(X, 0.5)
    assert seen == [["logsnr", "x"]]


@every_type
def test_scalar_time_is_the_time_of_every_image(prediction_type):
    denoiser = make_denoiser(FakeNetwork(), cosine, prediction_type, condition=CONDITION)
    whole = denoiser(X, np.full(4, 0.3, "float32"))
    for time in (0.3, np.float32(0.3), tf.constant(0.3)):
        check_pairs(denoiser(X, time), whole)


@every_type
def test_clip_bounds_x0_and_keeps_the_pair(prediction_type):
    denoiser = make_denoiser(FakeNetwork(), cosine, prediction_type, condition=CONDITION, clip=0.2)
    x0, eps = denoiser(X, TIMES)
    free, _ = make_denoiser(FakeNetwork(), cosine, prediction_type, condition=CONDITION)(X, TIMES)
    assert np.abs(free).max() > 0.2
    np.testing.assert_allclose(x0, np.clip(free, -0.2, 0.2), atol=1e-6)
    np.testing.assert_allclose(mix((x0, eps), level()), X, atol=1e-5)


def test_guidance_scale_is_an_argument_of_the_graph():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def guided(scale):
        traces.append(1)
        return make_denoiser(
            FakeNetwork(), cosine, "v", condition=CONDITION, null=NULLS, guidance_scale=scale
        )(tf.constant(X), tf.constant(0.5))[0]

    low, middle, high = (guided(scale).numpy() for scale in (0.0, 1.0, 2.0))
    np.testing.assert_allclose(high - middle, middle - low, atol=1e-5)
    assert np.abs(high - low).max() > 0.01
    assert len(traces) == 1


# Guidance inside of an interval of times


def labelled(network, scale=2.5, interval=None):
    return make_denoiser(
        network,
        cosine,
        "v",
        condition=CONDITION,
        null=NULLS,
        guidance_scale=scale,
        guidance_interval=interval,
    )


@pytest.mark.parametrize("interval", [(0.2, 0.6), tf.constant([0.2, 0.6])])
@pytest.mark.parametrize(
    ("time", "rows"), [(0.1, 4), (0.2, 8), (0.4, 8), (0.6, 8), (0.61, 4), (1.0, 4), (0.0, 4)]
)
def test_outside_of_the_interval_one_plain_call(interval, time, rows):
    network = FakeNetwork()
    got = labelled(network, interval=interval)(X, np.float32(time))
    assert network.batches == [rows], "the bounds are inside"
    expected = labelled(FakeNetwork(), scale=2.5 if rows == 8 else 1.0)(X, time)
    check_pairs(got, expected)


@pytest.mark.parametrize("times", [TIMES, np.float32(0), np.float32(1)])
def test_the_whole_interval_is_full_guidance(times):
    network = FakeNetwork()
    got = labelled(network, interval=(0.0, 1.0))(X, times)
    assert network.batches == [8]
    for one, other in zip(got, labelled(FakeNetwork())(X, times), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_image_is_guided_by_its_own_time():
    network = FakeNetwork()
    got = labelled(network, interval=(0.4, 0.7))(X, TIMES)
    assert network.batches == [8], "doubled, as two of the images are inside"
    full, plain = labelled(FakeNetwork())(X, TIMES), labelled(FakeNetwork(), 1.0)(X, TIMES)
    inside = np.array([False, True, True, False])[:, None, None, None]
    for part, guided, conditional in zip(got, full, plain, strict=True):
        assert np.abs(guided - conditional).min(axis=(1, 2, 3)).max() > 1e-3
        np.testing.assert_allclose(part, np.where(inside, guided, conditional), atol=1e-6)
    network = FakeNetwork()
    got = labelled(network, interval=(0.65, 0.85))(X, TIMES)
    assert network.batches == [4], "none is inside"
    check_pairs(got, plain)


def test_guidance_scale_one_stays_plain_inside_of_the_interval():
    network = FakeNetwork()
    labelled(network, scale=1.0, interval=(0.0, 1.0))(X, TIMES)
    assert network.batches == [4]


@pytest.mark.parametrize("option", [{"guidance_interval": (0.1, 0.8)}, {"guidance_rescale": 0.5}])
def test_an_interval_and_a_rescale_need_guidance(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: needs a guidance_scale"):
        make_denoiser(FakeNetwork(), cosine, "v", condition=CONDITION, **option)


@pytest.mark.parametrize("given", [{}, {"condition": CONDITION}, {"null": NULLS}])
def test_guidance_needs_a_condition_and_its_null(given):
    with pytest.raises(ValueError, match="guidance_scale: needs a condition and a null"):
        make_denoiser(FakeNetwork(), cosine, "v", guidance_scale=2.0, **given)


# Rescaled guidance


def rescaled(share, interval=None):
    return make_denoiser(
        FakeNetwork(),
        cosine,
        "v",
        condition=CONDITION,
        null=NULLS,
        guidance_scale=5.0,
        guidance_interval=interval,
        guidance_rescale=share,
    )


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0, tf.constant(0.4)])
def test_rescaling_gives_back_the_contrast_of_each_image(share):
    network = FakeNetwork()
    null, conditional = (np.asarray(network.raw(each)) for each in (np.full(4, NULL), LABELS))
    guided = null + 5 * (conditional - null)
    wanted, now = (each.std(axis=(1, 2, 3), keepdims=True) for each in (conditional, guided))
    output = share * guided * wanted / now + (1 - share) * guided  # equations 15 and 16
    check_pairs(rescaled(share)(X, TIMES), to_pair(output, X, level(), "v"))


def test_rescaling_is_for_guided_images_alone():
    got, plain = rescaled(0.7, (0.4, 0.7))(X, TIMES), labelled(FakeNetwork(), 1.0)(X, TIMES)
    full = rescaled(0.7)(X, TIMES)
    inside = np.array([False, True, True, False])[:, None, None, None]
    for part, guided, conditional in zip(got, full, plain, strict=True):
        np.testing.assert_allclose(part, np.where(inside, guided, conditional), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rescaling_an_answer_of_zero_is_finite(share):
    denoiser = make_denoiser(
        lambda inputs, training: 0 * inputs["x"], cosine, "v", condition=CONDITION, null=NULLS,
        guidance_scale=2.0, guidance_rescale=share,
    )  # fmt: skip
    for part in denoiser(X, TIMES):
        assert np.isfinite(part).all()


def test_a_condition_is_whatever_the_network_takes():
    seen = []

    def network(inputs, training):
        seen.append(np.asarray(inputs["tokens"]))
        return inputs["x"]

    prompts = {"tokens": np.array([[1, 2], [1, 3], [1, 0], [1, 2]])}
    negative = {"tokens": np.array([[1, 4]] * 4)}
    make_denoiser(network, cosine, "v", condition=prompts, null=negative, guidance_scale=2.0)(
        X, 0.5
    )
    np.testing.assert_array_equal(*seen, np.concatenate([prompts["tokens"], negative["tokens"]]))


NUM_STEPS = 10
GRID = uniform_logsnr(cosine, NUM_STEPS)


@pytest.fixture(scope="module")
def counted():
    """ddim as one graph of (scale, interval), and how many images its network saw, a variable."""
    rows = tf.Variable(0)

    def network(inputs, training):
        rows.assign_add(tf.shape(inputs["x"])[0])
        return FakeNetwork()(inputs, training)

    @tf.function(input_signature=[tf.TensorSpec(()), tf.TensorSpec((2,))])
    def draw(scale, interval):
        return ddim(labelled(network, scale, interval), cosine, tf.constant(X), GRID)

    def drawn(scale, interval):
        rows.assign(0)
        return draw(tf.constant(scale), tf.constant(interval)).numpy(), int(rows)

    yield drawn
    assert draw.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.1, 0.8), (0.5, 1.0), (0.0, 0.3)])
def test_a_sampler_doubles_only_the_batches_inside(counted, interval):
    inside = int(np.sum((GRID[:-1] >= interval[0]) & (GRID[:-1] <= interval[1])))
    assert 0 < inside <= NUM_STEPS
    images, rows = counted(2.5, interval)
    assert rows == 4 * (NUM_STEPS + inside)
    full, _ = counted(2.5, (0.0, 1.0))
    assert (np.abs(images - full).max() > 0.01) == (inside < NUM_STEPS)


def test_between_two_steps_is_no_guidance(counted):
    middle = float(GRID[3] + GRID[4]) / 2
    images, rows = counted(2.5, (middle, middle))
    plain, rows_of_plain = counted(1.0, (0.0, 1.0))
    assert rows == rows_of_plain == 4 * NUM_STEPS
    np.testing.assert_array_equal(images, plain)
