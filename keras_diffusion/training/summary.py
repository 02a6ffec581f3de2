"""What a run prints about itself: shares of a batch, costs, and the files it has written."""

import tensorflow as tf

from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.runtime import distribution
from keras_diffusion.saving import checkpoints


def print_batches(run):
    """Prints how a batch is shared out over the replicas.

    Raises:
        ValueError: it cannot be shared out evenly.
    """
    strategy, accumulate = run.votes.strategy, run.config.accumulate
    try:
        share = distribution.images_per_replica(strategy, run.batch_size, accumulate)
    except ValueError as error:
        raise ValueError(f"--batch-size: {error}") from error
    replicas = strategy.num_replicas_in_sync
    if run.data.repeats > 1:
        print(f"an epoch shows every training image {run.data.repeats} times")
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    default = strategy is tf.distribute.get_strategy()
    name = "single" if default else type(strategy).__name__
    print(f"strategy: {name}, {replicas} x {share} images{parts} in each batch", flush=True)


def print_costs(run, model):
    """Prints the estimated costs of the networks, and what XLA compiles."""
    if run.config.latent:
        encoder = estimate_costs(model.codec.encoder, 1)
        decoder = estimate_costs(model.codec.decoder, 1)
        height, width, channels = model.x_shape
        print(
            f"codec: {(encoder['parameters'] + decoder['parameters']) / 1e6:.2f} M parameters, "
            f"latents {height}x{width}x{channels}, {encoder['flops'] / 1e9:.3f} GFLOP per image "
            f"to encode, {decoder['flops'] / 1e9:.3f} to decode"
        )
    at_once = run.batch_size // run.votes.strategy.num_replicas_in_sync // run.config.accumulate
    network = estimate_costs(model.network, at_once)
    print(
        f"network: {network['parameters'] / 1e6:.2f} M parameters, "
        f"{network['flops'] / 1e9:.2f} GFLOP per image forward, "
        f"about {network['memory'] / 2**30:.1f} GiB to train {at_once} images at once"
    )
    whole = model.jit_compile  # Keras decides: only on a single GPU
    print(f"XLA: {'the whole training step' if whole else 'element-wise chains'}", flush=True)


def print_results(run, export_dir, progress):
    """Prints the paths of what a finished run has written."""
    best = checkpoints.best_of(run.dir / "checkpoints", progress)
    by = best and next(name for name in progress.best if name != "batches")
    lines = [
        "",
        "done",
        f"  previews      {run.dir}/samples/",
        f"  losses        {run.dir}/loss.png, {run.dir}/health.png, {run.dir}/history.csv",
        f"  processes     {run.dir}/forward.png, {run.dir}/backward.png",
    ]
    if run.data.whole_image is not None:
        names = "reconstruction.png, variations.png, other_size.png, quality.png"
        lines.append(f"  the image     {run.dir}/{names}")
    lines += [
        f"  checkpoints   {run.dir}/checkpoints/"
        + (f", best by {by}: {best.name}" if best else ""),
        f"  SavedModel    {export_dir}",
        f"  TensorBoard   {run.dir}/logs",
    ]
    print("\n".join(lines))
