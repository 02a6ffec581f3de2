"""Clips of digits that move and bounce: Moving MNIST (Srivastava et al. 2015, arXiv:1502.04681).

Digits of 28x28 pixels move along straight lines in frames of 64x64, at 3.6 pixels per frame in a
random direction, and are reflected at the borders; where digits overlap, the brighter pixel is
seen. Frames of 32x32 are these at half the resolution.
"""

import numpy as np

SIDE = 64  # pixels, that the digits move in
SPEED = 3.6  # pixels per frame: a tenth of the range of a digit
TRAIN_CLIPS, VALIDATION_CLIPS = 20_000, 1_000


def positions(rng, num_frames, span):
    """Corners of a digit in each frame.

    Args:
        rng: np.random.Generator.
        num_frames: int, K.
        span: int, the largest corner.

    Returns:
        int array (K, 2), top and left, within [0, span].
    """
    start, angle = rng.uniform(0, span, 2), rng.uniform(0, 2 * np.pi)
    velocity = SPEED * np.array([np.sin(angle), np.cos(angle)])
    straight = start + np.arange(num_frames)[:, None] * velocity
    return np.round(span - np.abs(straight % (2 * span) - span)).astype(int)  # reflected


def clip(digits, seed, num_frames, side=SIDE, num_digits=2):
    """Makes a clip.

    Args:
        digits: uint8 array (N, h, w, 1), from which digits are chosen.
        seed: sequence of ints; the clip is a function of it.
        num_frames: int, K.
        side: 64 or 32, pixels.
        num_digits: int, in the clip.

    Returns:
        uint8 array (side, side, K).
    """
    rng = np.random.default_rng(seed)
    frames = np.zeros((num_frames, SIDE, SIDE), np.uint8)
    for digit in digits[rng.integers(len(digits), size=num_digits), ..., 0]:
        height, width = digit.shape
        for frame, (top, left) in zip(
            frames, positions(rng, num_frames, SIDE - height), strict=True
        ):
            part = frame[top : top + height, left : left + width]
            np.maximum(part, digit, out=part)
    if side != SIDE:
        step = SIDE // side
        parts = [frames[:, i::step, j::step] for i in range(step) for j in range(step)]
        frames = (np.sum(parts, axis=0, dtype=np.uint16) / step**2).round().astype(np.uint8)
    return np.moveaxis(frames, 0, -1)
