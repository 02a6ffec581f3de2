"""Dtype policy: bfloat16 where the hardware has fast bfloat16 arithmetic."""

import tensorflow as tf

from keras_diffusion.runtime.processor import cpu_flags

CPU_BFLOAT16 = ("avx512_bf16", "amx_bf16")  # of `cpu_flags`


def policy(name):
    """Returns (dtype policy, reason) of a name: "auto" or a Keras dtype policy."""
    if name != "auto":
        return name, "given"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0, 0)
        )
        if capability >= (8, 0):
            return "mixed_bfloat16", f"the GPU has compute capability {capability[0]}"
        return "float32", "the GPU has no bfloat16"
    flags = [name for name in CPU_BFLOAT16 if name in cpu_flags()]
    if flags:
        return "mixed_bfloat16", f"the processor has {' and '.join(flags)}"
    return "float32", "the processor has no bfloat16"
