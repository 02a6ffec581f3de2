"""What the options of a run must fulfil."""

# Choices that a command line can check before TensorFlow is imported; the tests hold them
# against the tables that they name.
CHOICES = {
    "balance": ("none", "classes"),
    "schedule": ("linear", "cosine", "constant", "inverse_linear", "sigmoid"),
    "prediction_type": ("eps", "x0", "v"),
    "loss_weighting": ("uniform", "min_snr"),
    "network": ("unet", "convnext_unet", "cnn"),
    "sampler": ("ddpm", "ddim", "heun", "dpmpp_2m", "cold"),
    "precision": ("auto", "float32", "mixed_bfloat16"),
    "strategy": ("auto", "single", "mirrored", "multiworker", "tpu"),
}
GUIDANCE = ("guidance_scale", "guidance_interval", "guidance_rescale")  # as arguments.py has it
# What may be given anew when a run is resumed, as no weight depends on it: where the data lies, on
# what hardware the run goes on, how it is saved, and how pictures are drawn.
MOVABLE = (
    "data_dir", "folder", "image", "strategy", "accumulate", "checkpoint_minutes",
    "keep_checkpoints", "score_every", "sampler", "num_steps", *GUIDANCE,
)  # fmt: skip
SCORES = ("score_num", "score_extractor")  # options of --score-every
EXCLUSIVE = (("dataset", "folder", "image"), ("epochs", "minutes"), ("text", "unconditional"))
# The options that a network takes, with its own values for them. Others are refused, not ignored.
UNET_OPTIONS = {
    "widths": (64, 128, 256),
    "block_depth": 1,
    "attention": None,
    "dropout": 0.0,
    "embedding_width": 256,
    "remat": False,
}
NETWORK_OPTIONS = {
    "unet": UNET_OPTIONS,
    "convnext_unet": {
        **UNET_OPTIONS,
        "widths": (32, 64, 128),
        "kernel_size": 3,
        "expansion": 2,
    },
    "cnn": {"widths": (16, 32, 32, 16), "embedding_width": 128},
}
OF_NETWORKS = {name for options in NETWORK_OPTIONS.values() for name in options}
READERS = ("convnext_unet", "unet")  # networks that read prompts
OF_LABELS = ("label_dropout", *GUIDANCE)
TEXT_OPTIONS = ("text_width", "text_depth", "word_vectors")  # of what reads them
# Those of the autoencoder of a run on latents, and of its training.
CODEC_OPTIONS = (
    "codec_widths",
    "latent_channels",
    "edge_weight",
    "kl_weight",
    "codec_learning_rate",
    "codec_epochs",
    "codec_share",
)

# Why one of the two is refused.
LENGTHS_OF_CODECS = {
    "codec_epochs": "with --minutes give codec_share, the share of them.",
    "codec_share": "is of --minutes; with --epochs give codec_epochs.",
}


def unused(config):
    """Returns {option: why it is refused}, of options that presets may set and users then not."""
    name = "codec_epochs" if config.minutes else "codec_share"
    reasons = {name: LENGTHS_OF_CODECS[name]}
    if config.score_every is None:
        reasons.update(dict.fromkeys(SCORES, "is for scores; give --score-every."))
    if config.unconditional:
        reasons.update(dict.fromkeys(OF_LABELS, "is for labels; leave out --unconditional."))
    return reasons


# Types of options, in words.
KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: "a tuple such as (64, 64) or (False, True)",
    type(None): "None",
}


def in_words(kinds):
    """Returns types of options in words."""
    return " or ".join(KINDS[kind] for kind in kinds)


LARGEST_SIDE = 4096  # pixels
WIDEST = 2**14  # channels
LARGEST_INT = 2**31 - 1  # what TensorFlow's int32 holds


def _from(least, most):
    return lambda value: least <= value <= most, f"must be at least {least} and at most {most}"


def _above(least, most):
    return lambda value: least < value <= most, f"must be above {least} and at most {most}"


def _are_counts(numbers, most):
    return len(numbers) > 0 and all(type(n) is int and 1 <= n <= most for n in numbers)


def _are_numbers(values):
    return all(type(value) in (int, float) for value in values)


_SHARE = (lambda value: 0 <= value < 1, "must be in [0, 1)")

# What an option must fulfil, and that in words. Beyond the upper ends is a slip of the
# keyboard. nan fulfils none of them: no comparison with it is true.
RULES = {
    "image_size": (
        lambda size: len(size) == 2 and _are_counts(size, LARGEST_SIDE),
        f"must be two sides of 1 to {LARGEST_SIDE} pixels",
    ),
    "attention": (
        lambda levels: all(level in (0, 1) for level in levels),
        "must be True or False for each of the widths",
    ),
    "channels": (lambda value: value in (1, 3, 4), "must be 1, 3 or 4"),
    "limit": _from(1, LARGEST_INT),
    "widths": (
        lambda widths: _are_counts(widths, WIDEST),
        f"must be channels of each level, 1 to {WIDEST}, such as (32, 64)",
    ),
    "block_depth": _from(1, 100),
    "dropout": _SHARE,
    "embedding_width": _from(1, WIDEST),
    "kernel_size": (lambda side: 0 < side < 100 and side % 2 == 1, "must be odd and below 100"),
    "expansion": _from(1, 100),
    "text_width": _from(1, WIDEST),
    "text_depth": _from(0, 100),
    "codec_widths": (
        lambda widths: _are_counts(widths, WIDEST),
        f"must be channels of each level, 1 to {WIDEST}, such as (64, 128)",
    ),
    "latent_channels": _from(1, WIDEST),
    "edge_weight": _from(0, 1_000),
    "kl_weight": _from(0, 1_000),
    "codec_learning_rate": _above(0, 1),
    "codec_epochs": _from(1, LARGEST_INT),
    "codec_share": _above(0, 0.9),
    "ema_decay": _SHARE,
    "label_dropout": _SHARE,
    "epochs": _from(1, LARGEST_INT),
    "minutes": _above(0, 1_000_000),
    "batch_size": _from(1, LARGEST_INT),
    "accumulate": _from(1, LARGEST_INT),
    "learning_rate": _above(0, 1),
    "warmup": _SHARE,
    "weight_decay": _from(0, 1),
    "clip_norm": _above(0, 1_000_000),
    "seed": _from(0, LARGEST_INT),
    "checkpoint_minutes": _from(0, 1_000_000),
    "keep_checkpoints": _from(1, LARGEST_INT),
    "score_every": _from(1, LARGEST_INT),
    "score_num": _from(20, 1_000_000),
    "num_steps": _from(1, 1000),
    "guidance_scale": _from(0, 100),
    "guidance_interval": (
        lambda ends: len(ends) == 2 and _are_numbers(ends) and 0 <= ends[0] <= ends[1] <= 1,
        "must be two times, 0 <= low <= high <= 1, such as (0.1, 0.8)",
    ),
    "guidance_rescale": _from(0, 1),
}
RULES["crop_size"] = RULES["image_size"]
