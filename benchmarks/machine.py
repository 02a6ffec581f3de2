"""Description of a measurement's machine: processor, versions, date and revision. Reads only."""

import contextlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path

from keras_diffusion.runtime import processor
from keras_diffusion.runtime.git import git_revision
from keras_diffusion.runtime.processor import cores

PACKAGES = (
    "tensorflow", "keras", "torch", "denoising-diffusion-pytorch", "diffusers", "numpy"
)  # fmt: skip
# Instruction sets that decide the speed of matrix products.
INSTRUCTION_SETS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"
)  # fmt: skip
# Kinds of processors, the fastest first, {name of a folder of results: title}.
KINDS = {flag: title for title, flag in processor.INSTRUCTION_SETS.items()}
KINDS["avx2_imitated"] = "AVX2, imitated"
# Environment of all measurements. No GPU, as the other libraries are measured on the CPU; oneDNN is
# on for all of them, also where TensorFlow leaves it off.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"
}  # fmt: skip
# Limits oneDNN, PyTorch, MKL and XLA to AVX2; the rest of TensorFlow is one code for all.
IMITATION = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


def kind():
    """Returns the kind of this processor, or that which the environment makes it imitate."""
    flags = [flag for flag in processor.INSTRUCTION_SETS.values() if flag in processor.cpu_flags()]
    imitated = all(os.environ.get(name) == value for name, value in IMITATION.items())
    return "avx2_imitated" if imitated else (flags or [platform.machine()])[0]


def has_bfloat16():
    """bool: the processor multiplies in bfloat16."""
    return kind().endswith("_bf16")


def describe():
    """Returns a dict for JSON."""
    cpu = _cpu_info()
    flags = cpu.get("flags", "").split()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def versions():
    """Returns {package: version} of the installed packages that affect the figures."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def peak_mib():
    """Returns the peak memory of this process since its start or `reset_peak`, in MiB."""
    try:
        # Not getrusage, whose peak of a new process starts at the size of its parent.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, ValueError, IndexError):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def reset_peak():
    """Sets the peak of `peak_mib` to the present memory; no effect without /proc."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cpu_info():
    """Returns {name: value} of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory_gib():
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
