"""The command `bench.py`."""

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
from test_reports import STARTUP, TRAINING

from benchmarks import bench, machine, pages, runs, subjects, training


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What `bench.main` sets is restored at the end of a test."""
    for name in machine.ENVIRONMENT | machine.IMITATION:
        monkeypatch.setenv(name, "")  # also restores a variable that did not exist
        monkeypatch.delenv(name)


def test_the_report_names_the_machine_of_each_section(tmp_path, capsys):
    options = runs.Options(results=tmp_path / "results")
    for name, result in (("training", TRAINING), ("startup", STARTUP)):
        options.save(name, result, 61.0)
    arguments = ["--only", "report", "--out", str(tmp_path)]
    assert bench.main(arguments) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Results") and "## Training, MNIST 28x28, batch 128 (" in text
    assert "## Sampling" not in text and "/tmp" not in text
    record = json.loads((tmp_path / "results" / machine.kind() / "startup.json").read_text())
    record["machine"].update(cpu="Another", instruction_sets=["a set"])
    (tmp_path / "results" / "another").mkdir()
    (tmp_path / "results" / "another" / "startup.json").write_text(json.dumps(record))
    assert bench.main(arguments) == 0
    lines = (tmp_path / "RESULTS.md").read_text().splitlines()
    assert ", Another (a set), " in lines[-1] and "## Start-up (another)" in lines
    assert f"## Start-up ({machine.KINDS.get(machine.kind(), machine.kind())})" in lines


def test_a_broken_section_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    sections = {"gone": ("not_written", {}), "training": ("training", {})}
    monkeypatch.setattr(bench, "SECTIONS", sections)
    monkeypatch.setattr(training, "run", lambda options: TRAINING)
    assert bench.main(["--out", str(tmp_path)]) == 1
    assert "gone: ModuleNotFoundError" in capsys.readouterr().err
    assert "## Training" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rounds", "0"],
                                       ["--minutes", "x"], ["--out", "file"]])  # fmt: skip
def test_rejected_arguments(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert arguments[0] in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_imitation(tmp_path, monkeypatch):
    flags, read_text = ["avx2", "avx512f", "avx512_bf16"], Path.read_text

    def read(path, *args, **kwargs):
        if str(path) == "/proc/cpuinfo":
            return f"flags : {' '.join(flags)}\n"
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    assert machine.kind() == "avx512_bf16" and machine.has_bfloat16()
    variants = {"ours": ("default", "float32"), "ddp": subjects.TORCH_VARIANTS}
    assert len(subjects.rows(variants, tiny=False)) == 8
    seen = {}
    monkeypatch.setattr(bench, "measure", lambda name, options: seen.update(kind=machine.kind()))
    monkeypatch.setattr(bench, "write_report", lambda options, out: None)
    assert bench.main(["--imitate-avx2", "--only", "roofline", "--out", str(tmp_path)]) == 0
    assert seen == {"kind": "avx2_imitated"} and not machine.has_bfloat16()
    assert machine.describe()["instruction_sets"] == flags  # of the processor itself
    rows = [(row["subject"], row["variant"]) for row in subjects.rows(variants, tiny=False)]
    peer = [("ddp", "float32" + layout) for layout in ("", ", channels last", ", compiled")]
    assert rows == [("ours", "default"), *peer]


def test_a_page_without_its_marks_is_rejected(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("no table here")
    with pytest.raises(ValueError, match="0 places"):
        pages.write({}, page)


# Toy sizes ----------------------------------------------------------------------------------------


def is_missing(subject):
    packages = {"ddp": "denoising_diffusion_pytorch", "diffusers_unet": "diffusers"}
    return subject in packages and importlib.util.find_spec(packages[subject]) is None


def in_this_process(function, timeout=None, /, **arguments):
    """`runs.in_fresh_process` without a process, which would load TensorFlow again."""
    module, _, name = function.rpartition(".")
    if is_missing(arguments.get("subject")):
        raise runs.RunFailed("not installed")
    call = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    result = call(**json.loads(json.dumps(arguments)))
    return json.loads(json.dumps({"peak_mib": 1.0, **result}))


@pytest.mark.slow
@pytest.mark.parametrize("section", bench.SECTIONS)
def test_a_section_at_toy_size(section, tmp_path, monkeypatch):
    if section == "quality_mnist" and is_missing("ddp"):
        pytest.skip("the peer is not installed; benchmarks/requirements.txt has it")
    monkeypatch.setattr(runs, "in_fresh_process", in_this_process)
    arguments = ["--tiny", "--only", section, "--out", str(tmp_path)]
    assert bench.main(arguments) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "these figures mean nothing" in text and "\n## " in text and "/tmp" not in text
    failed = [line for line in text.splitlines() if "not installed" in line]
    assert all("pytorch" in line or "diffusers" in line for line in failed)
    if section.startswith("quality"):
        image = tmp_path / "images" / f"{section}_{machine.kind()}.png"
        assert image.stat().st_size > 10_000
        assert ("float32, our optimizer, last weights" in text) == (section == "quality_flowers")
        monkeypatch.setattr(runs, "in_fresh_process", unexpected_training)
        assert bench.main(arguments) == 0  # every stage but scoring and plotting is in the cache


def unexpected_training(function, timeout=None, /, **arguments):
    assert not function.endswith(("train_peer", "sample_peer"))
    return in_this_process(function, **arguments)


@pytest.mark.slow
def test_the_networks_are_of_equal_size():
    sizes = {  # of networks that need torch
        "mnist": {"ddp": 3_434_017, "diffusers_unet": 3_418_689},
        "flowers": {"ddp": 1_986_435, "diffusers_unet": 1_992_147, "keras_ddim": 1_950_627},
    }
    for task, others in sizes.items():
        ours = subjects.make("ours", task, "float32").facts()["parameters"]
        for name, expected in others.items():
            assert abs(ours / expected - 1) < 0.05, (task, name)
            if not is_missing(name):
                facts = subjects.make(name, task, "float32").facts()
                assert facts["parameters"] == expected and facts["flops"] > 1e8


def test_unknown_variants_are_rejected():
    with pytest.raises(ValueError, match="no variant 'float8'"):
        subjects.make("keras_ddim", "mnist", "float8")
