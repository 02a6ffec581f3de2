"""Training steps with AdamW and with Muon, in turns in one process:

python tests/support/optimizer_cost.py mnist --data-dir DIR
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras_diffusion as kd  # noqa: E402  before keras: it turns oneDNN on

import keras  # noqa: E402  isort: skip
import numpy as np  # noqa: E402

from keras_diffusion import build  # noqa: E402
from keras_diffusion.config.resolve import resolve  # noqa: E402

OPTIMIZERS = ("adamw", "muon")


def make_step(options):
    """Returns a function that takes a training step of a preset, and returns its seconds."""
    config = resolve(options["dataset"], options)
    data = build.load_data(config)
    model = build.model(config, data.image_shape, data.source.num_classes, None, None)
    batches = iter(data.training_batches())

    def step():
        began = time.perf_counter()
        model.train_on_batch(next(batches))
        return time.perf_counter() - began

    return step


def main():
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--data-dir")
    flags.add_argument("--rounds", type=int, default=30)
    args = flags.parse_args()
    keras.config.set_dtype_policy(kd.precision.policy("auto")[0])
    common = {"dataset": args.dataset, "data_dir": args.data_dir, "limit": 1280}
    steps = [make_step({**common, "optimizer": name}) for name in OPTIMIZERS]
    for step in steps:
        step(), step()  # traces and compiles
    seconds = np.array([[step() for step in steps] for _ in range(args.rounds)])
    low, middle, high = np.quantile(seconds[:, 1] / seconds[:, 0], (0.25, 0.5, 0.75))
    times = ", ".join(
        f"{name} {1000 * np.median(column):.0f} ms"
        for name, column in zip(OPTIMIZERS, seconds.T, strict=True)
    )
    print(f"{args.dataset}: {times}; Muon takes {middle:.3f} times as long ({low:.3f}-{high:.3f})")


if __name__ == "__main__":
    main()
