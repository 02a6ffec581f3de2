"""Denoisers: the interface between networks and samplers, `denoiser(x_t, t) -> (x0, eps)`."""

from keras import ops

from keras_diffusion.diffusion import process, schedules


def make_denoiser(
    network,
    schedule,
    prediction_type,
    *,
    condition=None,
    null=None,
    guidance_scale=None,
    guidance_interval=None,
    guidance_rescale=None,
    clip=None,
):
    """Returns the denoiser of a network, with classifier-free guidance.

        guided = null + guidance_scale (conditional - null)

    eps, x0 and v are linear in each other, so guidance of the raw output is the same for every
    prediction type. Both outputs come from one batch of twice the size.

    Args:
        network: {"x": (B, H, W, C), "logsnr": (B,), **condition} -> (B, H, W, C).
        schedule: t -> alpha_bar.
        prediction_type: output of the network, "eps", "x0" or "v".
        condition: dict of the conditioning input, "label" (B,) int32 or "tokens" (B, L) int32;
            None: unconditional.
        null: like `condition`, the null class, or empty or negative prompts; for guidance.
        guidance_scale: float or scalar tensor; 1: conditional, at half the cost; 0: unconditional;
            None: no guidance.
        guidance_interval: (low, high), floats or a tensor (2,). Images with low <= t <= high are
            guided. A batch without such images takes half the time. None: always.
        guidance_rescale: float or scalar tensor in [0, 1]. Moves the standard deviation of each
            guided output towards that of the conditional one. None: no rescaling.
        clip: bound of |x0|, 1 for pixels; None: no bound.

    Returns:
        denoiser: (x_t, t) -> (x0, eps), `t` a scalar or (B,), the others (B, H, W, C).

    Raises:
        ValueError: guidance without condition and null; interval or rescale without scale.

    Reference: Ho & Salimans 2022, arXiv:2207.12598; Kynkaanniemi et al. 2024, arXiv:2404.07724
        (interval); Lin et al. 2023, arXiv:2305.08891, equations 15 and 16 (rescale).
    """
    if guidance_scale is not None and (not condition or not null):
        raise ValueError("guidance_scale: needs a condition and a null.")
    for name, value in (("interval", guidance_interval), ("rescale", guidance_rescale)):
        if value is not None and guidance_scale is None:
            raise ValueError(f"guidance_{name}: needs a guidance_scale.")

    def predict(x_t, times):
        inputs = {"x": x_t, "logsnr": schedules.logsnr(schedule, times), **(condition or {})}

        def unguided():
            return network(inputs, training=False)

        def guided():
            null_inputs = {**inputs, **null}
            both = {name: ops.concatenate([inputs[name], null_inputs[name]]) for name in inputs}
            conditional, unconditional = ops.split(network(both, training=False), 2)
            output = unconditional + guidance_scale * (conditional - unconditional)
            if guidance_rescale is not None:
                output = _rescale(output, conditional, guidance_rescale)
            return ops.where(inside[:, None, None, None], output, conditional)

        if guidance_scale is None:
            return unguided()
        inside = _is_inside(guidance_interval, times)
        needed = ops.logical_and(ops.not_equal(guidance_scale, 1.0), ops.any(inside))
        return ops.cond(needed, guided, unguided)

    def denoiser(x_t, t):
        times = ops.broadcast_to(t, (ops.shape(x_t)[0],))
        level = [rate[:, None, None, None] for rate in schedules.rates(schedule, times)]
        return process.to_pair(predict(x_t, times), x_t, level, prediction_type, clip)

    return denoiser


def _rescale(guided, conditional, share):
    """Moves the standard deviation of each guided output towards the conditional one's."""
    std, target = (ops.std(v, axis=(1, 2, 3), keepdims=True) for v in (guided, conditional))
    ratio = target / ops.maximum(std, 1e-6)  # 0 / 0 for an untrained network
    return guided * (1 + share * (ratio - 1))


def _is_inside(interval, times):
    """Returns bool (B,), whether each time is in [low, high]; all of them without interval."""
    if interval is None:
        return ops.ones_like(times, dtype="bool")
    return ops.logical_and(
        ops.greater_equal(times, interval[0]), ops.less_equal(times, interval[1])
    )
