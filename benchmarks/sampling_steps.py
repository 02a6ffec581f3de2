"""How the time of sampling grows with the steps, for one export:

    python benchmarks/sampling_steps.py saved_models/NAME

Prints seconds for 1 to 1000 steps (median of three; one run from 250 steps on) and seconds per
step. One traced endpoint serves all: the first call is made, and timed, apart.
"""

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf  # noqa: E402  after its logging is set

NUM_IMAGES = 16
STEPS = (1, 5, 20, 50, 250, 1000)


def main(path):
    began = time.monotonic()
    model = tf.saved_model.load(path)
    print(f"loading: {time.monotonic() - began:.1f} s")
    with open(os.path.join(path, "assets.extra", "config.json")) as file:
        config = json.load(file)
    extra = []
    if config["num_classes"]:
        labels = tf.range(NUM_IMAGES) % config["num_classes"]
        names = ("guidance_scale", "guidance_interval", "guidance_rescale")[: config["format"]]
        extra = [labels, *(tf.constant(config[name], tf.float32) for name in names)]

    def seconds(num_steps):
        began = time.monotonic()
        model.generate_dpmpp_2m(
            tf.constant(0), tf.range(NUM_IMAGES), tf.constant(num_steps), *extra
        ).numpy()
        return time.monotonic() - began

    print(f"first call, 1 step: {seconds(1):.2f} s")
    print(f"{NUM_IMAGES} images of {'x'.join(map(str, config['image_shape']))}\n")
    print("| steps | seconds | ms per step |\n|---|---|---|")
    for steps in STEPS:
        median = statistics.median(seconds(steps) for _ in range(3 if steps < 250 else 1))
        print(f"| {steps} | {median:.2f} | {1000 * median / steps:.1f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/sampling_steps.py saved_models/NAME")
    main(sys.argv[1])
