"""Mixtures taken apart again: up to which t is it the same digit?"""

import numpy as np

from keras_diffusion.diffusion import schedules
from studies.morphing.sampling import Way

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SHOWN = 10  # digits of which all pictures are kept
MIXED, DIRECT = "mixed", "direct"  # not restored; restored by a single prediction
BLIND = (DIRECT, "re-estimated")  # ways that are not told the garment
WAYS = (*BLIND, "held")


def restore(morpher, judge, digits, labels, garments, num_steps, folder):
    """Mixes digits with garments at every t of TIMES and restores them in all of WAYS.

    Args:
        morpher: `Morpher`.
        judge: `scoring.Judge`.
        digits, garments: held-out pictures, uint8 (N, H, W, C).
        labels: of the digits.
        num_steps: of the iterative ways.
        folder: where the first pictures are left: digits.npy, (SHOWN, H, W, C), and
            restored.npy, (1 + ways, times, SHOWN, H, W, C), the mixtures first.

    Returns:
        dict of `signal_rates`, a list over TIMES, and `ways`: for "mixed", the mixtures
        themselves, and for each of WAYS lists over TIMES of `right`, the share that the
        classifier takes for what it was, and `off`, root mean square, in grey levels.
    """
    ways = {way: Way(num_steps, update=way) for way in WAYS[1:]} | {DIRECT: Way(1)}
    x0, endpoint = morpher.encode(digits), morpher.encode(garments)
    found = {name: {"right": [], "off": []} for name in (MIXED, *WAYS)}
    kept = {name: [] for name in found}
    for t in TIMES:
        x = morpher.mixed(x0, endpoint, t)
        drawn = {name: morpher.pictures(x, ways[name], t, endpoint) for name in WAYS}
        for name, images in {MIXED: morpher.decode(x), **drawn}.items():
            right = judge.classes(images) == labels
            off = np.square(images.astype("float64") - digits).mean() ** 0.5
            found[name]["right"].append(float(right.mean()))
            found[name]["off"].append(float(off))
            kept[name].append(images[:SHOWN])
    np.save(folder / "digits.npy", digits[:SHOWN])
    np.save(folder / "restored.npy", np.stack([np.stack(each) for each in kept.values()]))
    rates = [float(schedules.rates(morpher.schedule, t)[0]) for t in TIMES]
    return {"signal_rates": rates, "ways": found}


def right_until(found, way, share):
    """Returns the last of TIMES up to which at least this share is right; 0: not even the first."""
    wrong = [i for i, right in enumerate(found["ways"][way]["right"]) if right < share]
    return (0.0, *TIMES)[wrong[0] if wrong else len(TIMES)]


def hard_time(found):
    """Returns the place in TIMES of the last up to which half of the direct guesses is right."""
    return TIMES.index(max(right_until(found, DIRECT, 0.5), TIMES[0]))
