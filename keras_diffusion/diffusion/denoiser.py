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

    def predict(x_t, times, condition):
        inputs = {"x": x_t, "logsnr": schedules.logsnr(schedule, times), **condition}
        return network(inputs, training=False)

    return guided_denoiser(
        predict,
        schedule,
        prediction_type,
        condition=condition or {},
        null=null,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        clip=clip,
    )


def guided_denoiser(
    predict,
    schedule,
    prediction_type,
    *,
    condition,
    null,
    guidance_scale=None,
    guidance_interval=None,
    guidance_rescale=None,
    clip=None,
    with_gradient=False,
):
    """Returns the denoiser of a function (x_t, times, condition) -> output.

    Args:
        predict: x_t (B, H, W, C), times (B,) and a dict like `condition` to the output of a
            network.
        with_gradient: computes both halves always. The gradient of a conditional in the graph
            takes TensorFlow seconds to trace.
        schedule, prediction_type, condition, null, guidance_scale, guidance_interval,
            guidance_rescale, clip: see `make_denoiser`.
    """

    def output_of(x_t, times):
        def unguided():
            return predict(x_t, times, condition)

        def guided():
            both = {name: ops.concatenate([condition[name], null[name]]) for name in condition}
            twice = ops.concatenate([x_t, x_t]), ops.concatenate([times, times])
            conditional, unconditional = ops.split(predict(*twice, both), 2)
            output = unconditional + guidance_scale * (conditional - unconditional)
            if guidance_rescale is not None:
                output = _rescale(output, conditional, guidance_rescale)
            return ops.where(inside[:, None, None, None], output, conditional)

        if guidance_scale is None:
            return unguided()
        inside = _is_inside(guidance_interval, times)
        if with_gradient:
            return guided()
        needed = ops.logical_and(ops.not_equal(guidance_scale, 1.0), ops.any(inside))
        return ops.cond(needed, guided, unguided)

    def denoiser(x_t, t):
        times = ops.broadcast_to(t, (ops.shape(x_t)[0],))
        level = schedules.image_rates(schedule, times, x_t)
        return process.to_pair(output_of(x_t, times), x_t, level, prediction_type, clip)

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
