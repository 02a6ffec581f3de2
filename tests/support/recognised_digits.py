"""Share of generated digits that a classifier of scikit-learn recognises as what was asked for.

python tests/support/recognised_digits.py MODEL [NUM]  # a run or an export; 80 samples
"""

import pathlib
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC


def classifier(seed=0):
    """Returns (classifier of images of the 8x8 digits, its accuracy on held-out ones)."""
    digits = load_digits()
    train, test, labels, test_labels = train_test_split(
        digits.data / 16, digits.target, test_size=0.3, random_state=seed
    )
    model = SVC(C=10, gamma=0.05).fit(train, labels)
    return model, model.score(test, test_labels)


def recognised(images, labels):
    """Returns (accuracy on held-out digits, share of generated images that are their labels).

    Args:
        images: uint8 (N, 8, 8, 1).
        labels: (N,) ints.
    """
    model, accuracy = classifier()
    return accuracy, model.score(np.reshape(images, (len(images), -1)) / 255, labels)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
    import keras_diffusion as kd

    num = int(sys.argv[2]) if len(sys.argv) > 2 else 80
    labels = np.arange(num) % 10
    accuracy, share = recognised(kd.load(sys.argv[1]).generate(num, labels=labels), labels)
    print(f"recognised: {share:.1%} of {num} samples (held-out digits: {accuracy:.1%})")
