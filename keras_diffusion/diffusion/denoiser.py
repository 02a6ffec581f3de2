"""The seam between networks and samplers: `denoiser(x_t, t) -> (x0, eps)`."""

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
    """Returns a function from noisy images and a time to the pair (x0, eps).

    Guidance mixes raw outputs, null + guidance_scale * (conditional - null): eps, x0 and v
    are linear in each other, so it means the same in every space (Ho & Salimans 2022,
    arXiv:2207.12598). Both halves run as one batch of twice the size. Inside of an interval
    of times alone, guidance costs less and keeps more diversity (Kynkaanniemi et al. 2024,
    arXiv:2404.07724).

    Args:
        network: called with {"x": (B, H, W, C), "logsnr": (B,)} and what is in `condition`.
        schedule: t -> alpha_bar.
        prediction_type: what the network predicts, "eps", "x0" or "v".
        condition: None, or dict of what else the network is told: "label" (B,) int32, or "tokens"
            (B, L) int32 of prompts.
        null: the same of what guidance leads away from: the null class, or the empty prompts or
            negative ones; needed for guidance.
        guidance_scale: None (off), or a float or scalar tensor; 1 is plain conditional
            sampling, at half the work per step, 0 unconditional.
        guidance_interval: None (guidance at all times), or (low, high), floats or a tensor (2,):
            images with low <= t <= high are guided, the others plainly conditional. A batch
            without any to guide is half the work.
        guidance_rescale: None (off), or a float or scalar tensor in [0, 1]: how far the guided
            output of each image gets back the standard deviation that it has without guidance,
            which high scales raise (Lin et al. 2023, arXiv:2305.08891, equations 15 and 16).
        clip: None, or the bound for |x0|; 1 for pixels.

    Returns:
        denoiser(x_t, t), `t` a scalar or (B,); both parts of its pair are (B, H, W, C).

    Raises:
        ValueError: guidance without condition and null; an interval or a rescale without
            guidance_scale.
    """
    if guidance_scale is not None and (not condition or not null):
        raise ValueError("guidance_scale: needs a condition and its null.")
    for name, given in (("interval", guidance_interval), ("rescale", guidance_rescale)):
        if given is not None and guidance_scale is None:
            raise ValueError(f"guidance_{name}: needs a guidance_scale.")

    def predict(x_t, times):
        inputs = {"x": x_t, "logsnr": schedules.logsnr(schedule, times), **(condition or {})}

        def plain():
            return network(inputs, training=False)

        def guided():
            others = {**inputs, **null}
            both = {name: ops.concatenate([inputs[name], others[name]]) for name in inputs}
            conditional, unconditional = ops.split(network(both, training=False), 2)
            mixed = unconditional + guidance_scale * (conditional - unconditional)
            if guidance_rescale is not None:
                mixed = _rescaled(mixed, conditional, guidance_rescale)
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


def _rescaled(mixed, plain, share):
    """Brings the standard deviation of each image nearer to that without guidance."""
    now, wanted = (ops.std(output, axis=(1, 2, 3), keepdims=True) for output in (mixed, plain))
    ratio = wanted / ops.maximum(now, 1e-6)  # a network that was never trained answers 0
    return mixed * (1 + share * (ratio - 1))


def _are_within(interval, times):
    """Whether each of the times is in an interval, bounds included; None: all of them are."""
    if interval is None:
        return ops.ones_like(times, dtype="bool")
    return ops.logical_and(
        ops.greater_equal(times, interval[0]), ops.less_equal(times, interval[1])
    )
