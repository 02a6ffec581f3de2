"""What the processor can do, and the settings that TensorFlow reads when it is imported."""

import logging
import os
import platform
import sys
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
    "SSE41": ("avx", "amx"),
    "AVX": ("avx2", "avx512", "amx"),
    "AVX2": ("avx512", "amx"),
    "AVX2_VNNI": ("avx512", "amx"),
    "AVX512_CORE": ("avx512_bf16", "amx"),
    "AVX512_CORE_VNNI": ("avx512_bf16", "amx"),
    "AVX512_CORE_BF16": ("amx",),
    "AVX512_CORE_FP16": ("amx",),
}
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def set_defaults():
    """Turns oneDNN on, unless the environment says otherwise, before TensorFlow is imported.

    TensorFlow leaves it off on x86 without AVX512-VNNI, where it trains 1.4 to 1.5 times as fast
    (docs/performance.md). If it is too late for that, a line says so.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(ONEDNN, "1")
    elif ONEDNN not in os.environ and not onednn_is_on():
        logging.getLogger(__name__).warning(
            "keras_diffusion: oneDNN is off, as TensorFlow was imported before keras_diffusion; "
            "import keras_diffusion first, to train 1.4 to 1.5 times as fast."
        )


def onednn_is_on():
    """bool: TensorFlow uses oneDNN, by the environment and by its own default."""
    value = os.environ.get(ONEDNN, "").lower()
    if value:
        return value not in ("0", "false")
    return not cpu_flags() or "avx512_vnni" in cpu_flags()


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
    title, count = names[0] if names else platform.machine(), cores()
    onednn = "on" if onednn_is_on() else "off"
    return f"{title}, {count} core{'s'[: count != 1]}, oneDNN {onednn}"
