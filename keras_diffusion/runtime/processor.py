"""What the processor can do, and the settings that TensorFlow reads when it is imported."""

import os
import platform
from pathlib import Path

# Instruction sets that matter for convolutions and matrix products, the best first.
INSTRUCTION_SETS = {
    "AMX": "amx_bf16",
    "AVX-512 with bfloat16": "avx512_bf16",
    "AVX-512": "avx512f",
    "AVX2": "avx2",
}
# Value of ONEDNN_MAX_CPU_ISA, which limits oneDNN: beginnings of the flags that it excludes.
EXCLUDED = {
    "AVX2": ("avx512", "amx"),
    "AVX512_CORE": ("avx512_bf16", "amx"),
    "AVX512_CORE_BF16": ("amx",),
}


def set_defaults():
    """Turns oneDNN on, unless the environment says otherwise, before TensorFlow is imported.

    TensorFlow leaves it off on x86 without AVX512-VNNI, where it trains 1.4 to 1.5 times as fast
    (docs/performance.md).
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def cpu_flags():
    """Returns the flags of the processor that oneDNN may use; empty where they are not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    excluded = EXCLUDED.get(os.environ.get("ONEDNN_MAX_CPU_ISA"), ())
    return [flag for flag in flags if not flag.startswith(excluded)]


def cores():
    """Returns the number of processor cores that this process may use, which `taskset` limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def describe():
    """Returns the processor in words, such as "AVX2, 2 cores, oneDNN on"."""
    names = [name for name, flag in INSTRUCTION_SETS.items() if flag in cpu_flags()]
    onednn = "off" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" else "on"
    return f"{names[0] if names else platform.machine()}, {cores()} cores, oneDNN {onednn}"
