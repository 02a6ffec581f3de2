"""What `--remat` saves and what it costs, in training:

    python benchmarks/remat.py [OPTION=VALUE ...]

Options are those of `unet`, and batch, size, precision: `python benchmarks/remat.py batch=32
widths=(32,64) block_depth=4`. Each run is a process of its own: the peak is that of the whole
process, and `before` is what it had taken before the first step (TensorFlow, weights, images).
"""

import ast
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the package
STEPS = 5
DEFAULTS = {
    "batch": 64,
    "size": 64,
    "precision": "float32",
    "widths": (64, 128, 256),
    "block_depth": 2,
}


def peak():
    """Returns the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts in KiB


def measure(remat, *, batch, size, precision, **options):
    """Trains a few steps on noise and prints the figures as JSON."""
    import keras
    import numpy as np

    from keras_diffusion import DiffusionModel, networks

    keras.config.set_dtype_policy(precision)
    model = DiffusionModel(networks.unet((size, size, 3), remat=remat, **options))
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype="uint8")
    before = peak()
    model.train_on_batch(images)
    began = time.monotonic()
    for _ in range(STEPS):
        model.train_on_batch(images)
    seconds = time.monotonic() - began
    print(json.dumps({"before": before, "peak": peak(), "rate": STEPS * batch / seconds}))


def main(arguments):
    options = dict(DEFAULTS)
    for argument in arguments:
        name, _, value = argument.partition("=")
        options[name] = value if name == "precision" else ast.literal_eval(value)
    print(", ".join(f"{name} {value}" for name, value in options.items()) + "\n")
    print("| remat | before, MiB | peak, MiB | images/s |\n|---|---|---|---|", flush=True)
    for remat in (False, True):
        command = [sys.executable, __file__, "--measure", repr((remat, options))]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        row = json.loads(output.splitlines()[-1])
        print(f"| {remat} | {row['before']:.0f} | {row['peak']:.0f} | {row['rate']:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        remat, options = ast.literal_eval(sys.argv[2])
        measure(remat, **options)
    else:
        main(sys.argv[1:])
