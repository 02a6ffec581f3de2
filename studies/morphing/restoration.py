"""Restoration of mixtures: up to which t is the digit still recognised?"""

import numpy as np

from keras_diffusion.diffusion import schedules
from studies.morphing.sampling import Method

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SHOWN = 10  # digits of which all images are kept
MIXED, DIRECT = "mixed", "direct"  # not restored; restored by a single prediction
BLIND = (DIRECT, "re-estimated")  # methods that do not know the garment
WAYS = (*BLIND, "held")


def restore(morpher, scorer, digits, labels, garments, num_steps, folder):
    """Mixes digits with garments at every t of TIMES and restores them in all WAYS.

    Args:
        morpher: `Morpher`.
        scorer: `scoring.Scorer`.
        digits, garments: held-out images, uint8 (N, H, W, C).
        labels: of the digits.
        num_steps: of the iterative methods.
        folder: for the first images: digits.npy, (SHOWN, H, W, C), and restored.npy,
            (1 + ways, times, SHOWN, H, W, C), the mixtures first.

    Returns:
        dict of `signal_rates`, a list over TIMES, and `ways`: for "mixed", the mixtures
        themselves, and for each of WAYS lists over TIMES of `right`, the accuracy of the
        classifier, and `off`, the RMS error in grey levels.
    """
    methods = {way: Method(num_steps, update=way) for way in WAYS[1:]} | {DIRECT: Method(1)}
    x0, endpoint = morpher.encode(digits), morpher.encode(garments)
    ways = {name: {"right": [], "off": []} for name in (MIXED, *WAYS)}
    kept = {name: [] for name in ways}
    for t in TIMES:
        x = morpher.mix(x0, endpoint, t)
        restored = {name: morpher.generate(x, methods[name], t, endpoint) for name in WAYS}
        for name, images in {MIXED: morpher.decode(x), **restored}.items():
            right = scorer.classes(images) == labels
            off = np.square(images.astype("float64") - digits).mean() ** 0.5
            ways[name]["right"].append(float(right.mean()))
            ways[name]["off"].append(float(off))
            kept[name].append(images[:SHOWN])
    np.save(folder / "digits.npy", digits[:SHOWN])
    np.save(folder / "restored.npy", np.stack([np.stack(each) for each in kept.values()]))
    rates = [float(schedules.rates(morpher.schedule, t)[0]) for t in TIMES]
    return {"signal_rates": rates, "ways": ways}


def right_until(restored, way, accuracy):
    """Returns the last of TIMES up to which the accuracy is reached; 0: not even at the first."""
    wrong = [i for i, right in enumerate(restored["ways"][way]["right"]) if right < accuracy]
    return (0.0, *TIMES)[wrong[0] if wrong else len(TIMES)]


def hard_time(restored):
    """Returns the index in TIMES up to which direct predictions have an accuracy of 50%."""
    return TIMES.index(max(right_until(restored, DIRECT, 0.5), TIMES[0]))
