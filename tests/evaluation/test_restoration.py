import numpy as np
import pytest

from keras_diffusion.evaluation.restoration import compare

rng = np.random.default_rng(0)
PICTURES = rng.integers(60, 200, (3, 16, 20, 3), np.uint8)


def test_scores_are_those_of_the_definitions():
    worse = PICTURES.astype(int) + rng.integers(-20, 21, PICTURES.shape)
    scores = compare(worse.astype("uint8"), PICTURES)
    error = np.square(worse - PICTURES.astype(float)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(scores["psnr"], 10 * np.log10(255**2 / error), rtol=1e-4)
    assert (scores["ssim"] < 1).all()
    equal = compare(PICTURES, PICTURES)
    assert np.isinf(equal["psnr"]).all()
    np.testing.assert_allclose(equal["ssim"], 1, atol=1e-5)


def test_more_noise_is_worse_and_one_reference_serves_all():
    reference = PICTURES[0]
    noisy = [np.clip(reference + s * rng.standard_normal(reference.shape), 0, 255) for s in (5, 50)]
    scores = compare(np.stack(noisy).astype("uint8"), reference)
    for values in scores.values():
        assert values[0] > values[1]


@pytest.mark.parametrize(
    ("images", "references", "message"),
    [
        (PICTURES / 255, PICTURES, "images: dtype float64; give uint8"),
        (PICTURES, PICTURES[:2], "both must be"),
        (PICTURES[0], PICTURES[0], "both must be"),
    ],
)
def test_what_cannot_be_compared(images, references, message):
    with pytest.raises(ValueError, match=message):
        compare(images, references)
