"""Plants faults in a copy of the checkout, one at a time, and reports which test catches each.

    python tests/planted_faults.py [NAME ...] [--near]

A fault replaces one or two lines of the product. The tests next to it run first, then the whole
fast tier, both until the first failure. --near runs only the first. The exit code is 1 if more than
one fault is not caught. It takes about ten minutes if the tests next to a fault catch it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "--tb=no"]
FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+(?: \S+\])?)", re.M)


class Fault(NamedTuple):
    """A fault: in `file`, `old` (exactly one place) becomes `new`; `tests` are run first."""

    name: str
    file: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault("sign of v's target", "diffusion/process.py",
        "return signal_rate * eps - noise_rate * x0",
        "return signal_rate * eps + noise_rate * x0",
        "tests/diffusion/test_process.py"),
    Fault("EMA never moves", "models/diffusion_model.py",
        "average.assign(average + (1 - decay) * (weight - average))",
        "average.assign(average)",
        "tests/models/test_diffusion_model.py::test_the_ema_is_that_of_the_formula"),
    Fault("EMA without warm-up", "models/diffusion_model.py",
        "decay = tf.minimum(self.ema_decay, (1 + step) / (10 + step))",
        "decay = tf.constant(self.ema_decay)",
        "tests/models/test_diffusion_model.py::test_the_ema_is_that_of_the_formula"),
    Fault("guidance outside of the interval", "diffusion/denoiser.py",
        "ops.greater_equal(times, interval[0]), ops.less_equal(times, interval[1])",
        "ops.less(times, interval[0]), ops.less_equal(times, interval[1])",
        "tests/diffusion/test_denoiser.py"),
    Fault("x0 not clipped", "diffusion/process.py",
        "return pair_from_x0(ops.clip(pair[0], -clip, clip), x_t, level)",
        "return pair",
        "tests/diffusion/test_process.py"),
    Fault("wrong time in Heun's second call", "diffusion/samplers.py",
        "x0_end, _ = denoiser(mix((x0, eps), level_s), times[i + 1])",
        "x0_end, _ = denoiser(mix((x0, eps), level_s), times[i])",
        "tests/diffusion/test_samplers.py"),
    Fault("equal noise on two replicas", "runtime/randomness.py",
        "if replicas == 1 else sample(replicas * count)[rank * count :][:count]",
        "",
        "tests/runtime/test_replicas.py"),
    Fault("resumed one batch late", "data/pipeline.py",
        ".skip(first_step)",
        ".skip(first_step + 1 if first_step else 0)",
        "tests/training/test_fit.py"),
    Fault("no label dropout", "models/diffusion_model.py",
        "dropped = uniform < self.label_dropout",
        "dropped = uniform < 0",
        "tests/models/test_diffusion_model.py::test_label_dropout_replaces_its_share_of_labels"),
    Fault("file renamed before it is flushed", "runtime/files.py",
        "        flush(part)\n        os.replace(part, path)\n",
        "        os.replace(part, path)\n        flush(path)\n",
        "tests/runtime/test_files.py"),
    Fault("rejected flag still creates the run folder", "training/run.py",
        "    build.check_size(config)\n    data =",
        "    run_dir.mkdir(parents=True)\n    build.check_size(config)\n    data =",
        "tests/cli/test_bad_input.py"),
    Fault("validation images in training", "data/splits.py",
        "return order[~in_validation[order]], order[in_validation[order]]",
        "return order, order[in_validation[order]]",
        "tests/data/test_splits.py"),
    Fault("labels not shuffled with their images", "data/pipeline.py",
        "return {name: tf.gather(values, rows) for name, values in block.items()}",
        'return {**block, "image": tf.gather(block["image"], rows)}',
        "tests/data/test_pipeline.py"),
    Fault("balance ignored", "data/pipeline.py",
        'labels = arrays["label"] if balance else None',
        "labels = None",
        "tests/data/test_training_data.py"),
    Fault("cosine not divided by its value at 0", "diffusion/schedules.py",
        "(ops.cos(angle(t)) / math.cos(angle(0.0))) ** 2",
        "ops.cos(angle(t)) ** 2",
        "tests/diffusion/test_schedules.py"),
    Fault("min-SNR inverted", "diffusion/process.py",
        "x0_weight = ops.minimum(snr, gamma)",
        "x0_weight = ops.maximum(snr, gamma)",
        "tests/diffusion/test_process.py"),
    Fault("gradients not clipped", "build.py",
        "global_clipnorm=config.clip_norm",
        "global_clipnorm=None",
        "tests/test_build.py"),
    Fault("no learning-rate warmup", "training/callbacks.py",
        "return max((progress - self._warmup_start) / self.warmup, 0.01)",
        "return 1.0",
        "tests/training/test_callbacks.py"),
    Fault("raw weights in samples and exports", "sampling/graphs.py",
        "lambda inputs: model.ema_network(inputs, training=False)",
        "lambda inputs: model.network(inputs, training=False)",
        "tests/models/test_diffusion_model.py::test_evaluation_and_samples_use_the_ema_and_change_no_weights"),
    Fault("negative prompt ignored", "sampling/graphs.py",
        'options.update(condition={"tokens": tokens}, null={"tokens": negative_tokens})',
        'options.update(condition={"tokens": tokens}, null={"tokens": tf.zeros_like(tokens)})',
        "tests/models/test_prompted_model.py"),
    Fault("same noise in every step of DDPM", "sampling/graphs.py",
        "lambda i: image_noise(seed, indices, shape, i + 1)",
        "lambda i: image_noise(seed, indices, shape, 1)",
        "tests/sampling/test_generate.py::test_ddpm_adds_other_noise_in_every_step"),
    Fault("seed ignored by the noise", "runtime/randomness.py",
        "key = tf.random.fold_in(tf.stack([seed, index]), stream)",
        "key = tf.random.fold_in(tf.stack([0, index]), stream)",
        "tests/runtime/test_randomness.py"),
    Fault("latents not divided by their standard deviation", "models/codecs.py",
        "scale = 1 / np.maximum(latents.std(axis=(0, 1, 2), dtype=\"float64\"), 1e-6)",
        "scale = np.ones(latents.shape[-1])",
        "tests/models/test_latent_codec.py"),
    Fault("FID without the covariances' overlap", "evaluation/distances.py",
        "overlap = np.linalg.svd(first.root @ second.root, compute_uv=False).sum()",
        "overlap = np.trace(first.root @ second.root)",
        "tests/evaluation/test_distances.py"),
    Fault("grid filled column by column", "plotting/images.py",
        "row, column = divmod(index, columns)",
        "column, row = divmod(index, rows)",
        "tests/plotting/test_images.py"),
]  # fmt: skip


def copy_checkout(folder):
    """Copies the tracked and new files of the checkout."""
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(folder, arguments):
    """Returns (first failed test or None, output) of pytest in a copy."""
    data = os.environ.get("KERAS_DIFFUSION_DATA", str(ROOT / ".." / "shared" / "tfds"))
    environment = {**os.environ, "KERAS_DIFFUSION_DATA": data, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*PYTEST, "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None, done.stdout
    failed = FIRST_FAILURE.search(done.stdout)
    if done.returncode != 1 or not failed:
        sys.exit(f"pytest {arguments} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return failed[1], done.stdout


def plant(fault, folder, near):
    """Returns the test that catches the fault, or None."""
    path = folder / "keras_diffusion" / fault.file
    text = path.read_text()
    assert text.count(fault.old) == 1, f"{fault.name}: {text.count(fault.old)} places, not one"
    path.write_text(text.replace(fault.old, fault.new))
    try:
        caught, _ = run(folder, fault.tests.split())
        if not caught and not near:
            caught, _ = run(folder, ["-n", "2", "--dist", "worksteal"])
        return caught
    finally:
        path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="words of a fault; default: all")
    parser.add_argument("--near", action="store_true", help="run only the tests next to the fault")
    arguments = parser.parse_args()
    faults = [f for f in FAULTS if not arguments.names or any(n in f.name for n in arguments.names)]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        folder = Path(folder)
        copy_checkout(folder)
        tests = sorted({word for fault in faults for word in fault.tests.split()})
        failed, output = run(folder, tests)
        if failed:
            sys.exit(f"without a fault {failed} fails:\n{output[-2000:]}")
        for number, fault in enumerate(faults, 1):
            began = time.monotonic()
            caught = plant(fault, folder, arguments.near)
            missed += caught is None
            seconds = time.monotonic() - began
            print(
                f"{number:2} {fault.name:48} {seconds:4.0f} s  {caught or 'NOT CAUGHT'}", flush=True
            )
    print(f"{len(faults) - missed} of {len(faults)} faults caught")
    sys.exit(missed > 1)


if __name__ == "__main__":
    main()
