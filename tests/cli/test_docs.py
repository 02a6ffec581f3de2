"""Commands and code of README.md and docs/guide.md: they are understood, and run."""

import os
import re
import shlex
import subprocess
import sys

import flag_tables
import pytest
from commands import ROOT

from keras_diffusion.cli import app, edit, evaluate, sample, train

PAGES = (ROOT / "README.md", ROOT / "docs/guide.md")
PARSERS = {
    "train.py": train.parser().parse_args,
    "sample.py": sample.parser().parse_args,
    "edit.py": edit.parser().parse_args,
    "evaluate.py": evaluate.parser().parse_args,
    "app.py": app.parser().parse_args,
}


def fenced(language):
    """The blocks of code in one language, of both pages."""
    pages = "\n".join(page.read_text() for page in PAGES)
    return re.findall(rf"```{language}\n(.*?)```", pages, flags=re.DOTALL)


def test_commands_are_understood(tmp_path, monkeypatch):
    for folder in ("other_images", "test_images"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0] for block in fenced("bash") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.strip()]
    scripts = [command[1:] for command in commands if command[0] == "python"]
    assert set(PARSERS) <= {script for script, *_ in scripts}
    for script, *arguments in scripts:
        if script in PARSERS:
            args = PARSERS[script](arguments)
            if script == "train.py":
                train.parse_options(args)
    targets = (ROOT / "Makefile").read_text()
    for command in commands:
        if command[0] == "make":
            assert f"\n{command[1]}:" in targets


def small(part, changes):
    """The block that contains `part`, at toy size: {text: its replacement}."""
    [code] = [block for block in fenced("python") if part in block]
    for large, tiny in changes.items():
        assert large in code, large
        code = code.replace(large, tiny)
    return code


@pytest.mark.slow
def test_python_code_runs(tmp_path):
    data, widths = '"digits", batch_size=64, limit=64', "widths=(8,), embedding_width=16"
    code = "\n".join((
        small("model.fit", {
            '"oxford_flowers102", image_size=64, batch_size=64': data,
            "unet((64, 64, 3), num_classes=102)": f"unet((8, 8, 1), num_classes=10, {widths})",
            "epochs=50": "epochs=1",
            "num_steps=20": "num_steps=2",
        }),
        "assert images.shape == (16, 8, 8, 1) and images.dtype == 'uint8'",
        "labels, known = [0, 1] * 8, [[1, 0] * 4] * 8",
        "small_images = images[:, :2, :2]",
        *[line for line in small("operators.mask", {}).splitlines()[:4] if line],
        "assert filled.shape == large.shape == images.shape",
        small("editing.invert", {}),
        "assert again.shape == threes.shape == images.shape and len(between) == 8",
        small("img2img", {"strength=0.6": "strength=0.6, num_steps=2"}),
        "assert changed.shape == images.shape and len(similar) == 4",
        "normal_images = images.repeat(2, axis=0)",
        small("anomaly_map", {}),
        "assert maps.shape == images.shape[:3] and scores.shape == (16,)",
        small("kd.Prompts", {
            "(prompts.num_tokens, prompts.length)":
                "(prompts.num_tokens, prompts.length, width=8, depth=1)",
            "(64, 64, 3), text=text": f"(8, 8, 1), text=text, {widths}",
            "guidance_scale=3.0": "guidance_scale=3.0, num_steps=2",
        }),
        "assert images.shape == (4, 8, 8, 1)",
        small("kd.Autoencoder", {
            "(32, 32, 3)": "(8, 8, 1), widths=(8,)",
            "epochs=5": "epochs=1",
            '"cifar10"': data,
            "codec.x_shape": f"codec.x_shape, {widths}",
        }),
        "assert model.generate(2, num_steps=1).shape == (2, 8, 8, 1)",
        small("saved_model.load", {"range(16)": "range(10)"}),
        "assert images.shape == (10, 8, 8, 1)",
    ))  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_tables_of_flags_are_those_of_the_parsers():
    page = flag_tables.PAGE.read_text()
    assert flag_tables.filled(page) == page, "run python tests/support/flag_tables.py"
