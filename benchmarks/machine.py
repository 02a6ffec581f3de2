"""What a measurement was made on: machine, versions, date, state of the code. Reads, only."""

import contextlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path

from keras_diffusion.runtime.git import git_revision

PACKAGES = (
    "tensorflow", "keras", "torch", "denoising-diffusion-pytorch", "diffusers", "numpy"
)  # fmt: skip
# Instruction sets that decide how fast matrices are multiplied.
INSTRUCTION_SETS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"
)  # fmt: skip


def describe():
    """Returns what RESULTS.md says above its tables, as JSON allows."""
    info = _cpu_info()
    flags = info.get("flags", "").split()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "git_revision": git_revision(),
    }


def cores():
    """Returns how many processors this process may use, which `taskset` can make fewer."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count()


def versions():
    """Returns {package: version} of those that decide what is measured."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def peak_mib():
    """Returns the most memory that this process has held since its program began, in MiB."""
    try:
        # Not getrusage: what it tells of a new process begins with the size of its parent.
        with open("/proc/self/status") as file:
            [line] = [line for line in file if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def forget_peak():
    """Lets `peak_mib` begin again with what is held now; does nothing where there is no /proc."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cpu_info():
    """{name: value} of the first processor."""
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


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
