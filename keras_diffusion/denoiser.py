"""The seam between networks and samplers: `denoiser(x_t, t) -> (x0, eps)`."""

from keras import ops

from keras_diffusion import process, schedules


def make_denoiser(
    network,
    schedule,
    prediction_type,
    *,
    labels=None,
    null_label=None,
    guidance_scale=None,
    guidance_interval=None,
    clip=None,
):
    """Returns a function from noisy images and a time to the pair (x0, eps).

    Guidance mixes raw outputs, null + guidance_scale * (conditional - null): eps, x0 and v
    are linear in each other, so it means the same in every space (Ho & Salimans 2022,
    arXiv:2207.12598). Both halves run as one batch of twice the size. Inside of an interval
    of times alone, guidance costs less and keeps more diversity (Kynkaanniemi et al. 2024,
    arXiv:2404.07724).

    Args:
        network: called with {"x": (B, H, W, C), "logsnr": (B,)} and, if `labels` are given,
            "label": (B,).
        schedule: t -> alpha_bar.
        prediction_type: what the network predicts, "eps", "x0" or "v".
        labels: (B,) int32 in [0, num_classes], or None for a network without labels.
        null_label: the label that means "no class", num_classes; needed for guidance.
        guidance_scale: None (off), or a float or scalar tensor; 1 is plain conditional
            sampling, at half the work per step, 0 unconditional.
        guidance_interval: None (guidance at all times), or (low, high), floats or a tensor (2,):
            images with low <= t <= high are guided, the others plainly conditional. A batch
            without any to guide is half the work.
        clip: None, or the bound for |x0|; 1 for pixels.

    Returns:
        denoiser(x_t, t), `t` a scalar or (B,); both parts of its pair are (B, H, W, C).

    Raises:
        ValueError: guidance without labels or without a null label; an interval without
            guidance_scale.
    """
    if guidance_scale is not None and (labels is None or null_label is None):
        raise ValueError("guidance_scale: needs labels and a null_label.")
    if guidance_interval is not None and guidance_scale is None:
        raise ValueError("guidance_interval: needs a guidance_scale.")

    def predict(x_t, times):
        inputs = {"x": x_t, "logsnr": schedules.logsnr(schedule, times)}
        if labels is not None:
            inputs["label"] = labels

        def plain():
            return network(inputs, training=False)

        def guided():
            both = {name: ops.concatenate([value, value]) for name, value in inputs.items()}
            both["label"] = ops.concatenate([labels, ops.full_like(labels, null_label)])
            conditional, null = ops.split(network(both, training=False), 2)
            mixed = null + guidance_scale * (conditional - null)
            return ops.where(inside[:, None, None, None], mixed, conditional)

        if guidance_scale is None:
            return plain()
        inside = _are_within(guidance_interval, times)
        needed = ops.logical_and(ops.not_equal(guidance_scale, 1.0), ops.any(inside))
        return ops.cond(needed, guided, plain)

    def denoiser(x_t, t):
        times = ops.broadcast_to(t, (ops.shape(x_t)[0],))
        level = [rate[:, None, None, None] for rate in schedules.rates(schedule, times)]
        return process.to_pair(predict(x_t, times), x_t, level, prediction_type, clip)

    return denoiser


def _are_within(interval, times):
    """Whether each of the times is in an interval, bounds included; None: all of them are."""
    if interval is None:
        return ops.ones_like(times, dtype="bool")
    return ops.logical_and(
        ops.greater_equal(times, interval[0]), ops.less_equal(times, interval[1])
    )
