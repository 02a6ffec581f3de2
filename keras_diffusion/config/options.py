"""Every option of a training run, with its default, rule, help and flag."""

import dataclasses

from keras_diffusion.config import guidance
from keras_diffusion.config.fields import LARGEST_INT, argument, check, option

LARGEST_SIDE = 4096  # pixels
WIDEST = 2**14  # channels
MOST_FRAMES = 256
MAX_STEPS = 1000  # of a sampler
UNETS = ("convnext_unet", "unet")
NETWORKS = (*UNETS, "cnn")
EXTRACTORS = ("classifier", "inception")  # of features, besides the path of a Keras model
# Where the defaults of a network differ from those of `Config`.
NETWORK_DEFAULTS = {
    "unet": {},
    "convnext_unet": {"widths": (32, 64, 128)},
    "cnn": {"widths": (16, 32, 32, 16), "embedding_width": 128},
}
# Peak learning rates that suit an optimizer, unless a preset knows better.
LEARNING_RATES = {"adamw": 1.5e-3, "muon": 0.01}
# Of each of these, only one may be given.
EXCLUSIVE = (("dataset", "folder", "image"), ("epochs", "minutes"))


def _size(text):
    """Parses 64, 48x64 (height x width) or (48, 64): (height, width)."""
    sides = text.lower().strip("()[] ").replace(",", "x").split("x")
    height, width = sides if len(sides) > 1 else sides * 2
    return int(height), int(width)


def _are_counts(values, most):
    return len(values) > 0 and all(type(n) is int and 1 <= n <= most for n in values)


_IS_SIZE = (
    lambda size: len(size) == 2 and _are_counts(size, LARGEST_SIDE),
    f"must be a size such as 64 or 48x64, of 1 to {LARGEST_SIDE} pixels",
)
_ARE_WIDTHS = (
    lambda widths: _are_counts(widths, WIDEST),
    f"must be channels of each level, 1 to {WIDEST}, such as (32, 64)",
)
_ARE_SWITCHES = (
    lambda levels: all(level in (0, 1) for level in levels),
    "must be True or False for each of the widths",
)
_IS_KERNEL = (lambda side: 0 < side < 100 and side % 2 == 1, "must be odd and below 100")


@dataclasses.dataclass(frozen=True)
class Config:
    """The options of a run; presets/ holds those of known data sets.

    Raises:
        ValueError: a value that its option does not take, on one line that names the option.
    """

    # fmt: off
    # Data
    dataset: str = option("digits", flag=True, metavar="NAME",
        help="digits, mnist, fashion_mnist, cifar10, oxford_flowers102, moving_mnist (clips), or "
        "another data set of images in TensorFlow Datasets")
    folder: str | None = option(None, flag=True, metavar="DIR", movable=True, path=(),
        help="train on your own images in this folder; sub-folders are classes")
    image: str | None = option(None, flag=True, metavar="FILE", const="flower", movable=True,
        path=("flower", "china"),
        help="train on a single image: a file, or flower (without FILE) or china, the photos of "
        "scikit-learn")
    data_dir: str | None = option(None, flag=True, metavar="DIR", movable=True, path=(),
        help="folder of TensorFlow Datasets; default: ~/tensorflow_datasets")
    image_size: tuple | None = option(None, flag=True, metavar="N or HxW", parse=_size,
        check=_IS_SIZE,
        help="size in pixels that images are resized and cropped to; with --image, the box that "
        "the image is scaled to fit into; default: as they are")
    crop_size: tuple | None = option(None, flag=True, metavar="N or HxW", parse=_size,
        check=_IS_SIZE, needs="image",
        help="size in pixels of the random crops; default: three quarters of each side")
    channels: int | None = option(None, flag=True, choices=(1, 3, 4),
        help="grayscale, RGB or RGBA; default: that of the images")
    frames: int = option(1, flag=True, metavar="K", at_least=1, at_most=MOST_FRAMES, unless="image",
        help="train on clips of K frames: with --folder, animated GIF, WebP and PNG files, and "
        "sub-folders of numbered frames; default: 1, images, but for moving_mnist 8 or 10")
    train_split: str | None = option(None, flag=True, metavar="SPLIT",
        help="training images, a slicing string of TensorFlow Datasets such as train[:90%]; "
        "default: the official split; of oxford_flowers102, and where there is a single split, 80% "
        "of each")
    val_split: str | None = option(None, flag=True, metavar="SPLIT",
        help="validation images, such as train[90%:]; default: the official validation split, else "
        "test; where the training has 80%, the other 20%")
    balance: str = option("none", flag=True, choices=("none", "classes"),
        help="classes: train on every class equally often")
    horizontal_flip: bool | None = option(None, flag=True,
        help="train on mirrored images, too; default: on for oxford_flowers102, tf_flowers, "
        "cifar10 and fashion_mnist")
    limit: int | None = option(None, flag=True, at_least=1, at_most=LARGEST_INT,
        help="use only the first N training images")
    unconditional: bool = option(False, flag=True, help="ignore the labels")
    text: bool = option(False, flag=True, networks=UNETS, unless="unconditional",
        help="condition on prompts made from the class names, instead of on labels")

    # Network
    network: str = option("unet", flag=True, choices=NETWORKS,
        help="architecture of the diffusion network")
    widths: tuple = option((64, 128, 256), networks=NETWORKS, check=_ARE_WIDTHS,
        help="channels of each level, full resolution first")
    block_depth: int = option(1, networks=UNETS, at_least=1, at_most=100,
        help="residual blocks of each level, down and up")
    attention: tuple | None = option(None, networks=UNETS, check=_ARE_SWITCHES,
        help="whether each level has self-attention; default: the last one has")
    dropout: float = option(0.0, networks=UNETS, at_least=0, below=1,
        help="dropout rate in the blocks")
    embedding_width: int = option(256, networks=NETWORKS, at_least=1, at_most=WIDEST,
        help="features of the embedding of noise level and label")
    kernel_size: int = option(3, networks=("convnext_unet",), check=_IS_KERNEL,
        help="side of the depthwise convolutions")
    expansion: int = option(2, networks=("convnext_unet",), at_least=1, at_most=100,
        help="factor by which a ConvNeXt block widens its channels")
    remat: bool = option(False, flag=True, networks=UNETS,
        help="recompute blocks in the backward pass (gradient checkpointing): less memory, more "
        "time")
    text_width: int = option(128, needs="text", at_least=1, at_most=WIDEST,
        help="features of a word")
    text_depth: int = option(2, needs="text", at_least=0, at_most=100,
        help="transformer blocks of the text encoder")
    word_vectors: str | None = option(None, needs="text",
        help="text model of KerasHub whose word vectors initialise the words")

    # Latents: stage one of a run trains the autoencoder, unless `codec` names a trained one
    latent: bool = option(False, flag=True, unless="image",
        help="diffusion on the latents of an autoencoder, which is trained first")
    codec: str | None = option(None, flag=True, metavar="PATH", needs="latent", path=(),
        help="reuse a trained autoencoder: a run on latents, its codec/ folder or the .keras file")
    codec_widths: tuple = option((64,), needs="latent", unless="codec", check=_ARE_WIDTHS,
        help="channels of each level of the autoencoder, half resolution first")
    latent_channels: int = option(4, needs="latent", unless="codec", at_least=1, at_most=WIDEST,
        help="channels of latents")
    edge_weight: float = option(0.5, needs="latent", unless="codec", at_least=0, at_most=1_000,
        help="weight of the edge term in the loss of the autoencoder")
    kl_weight: float = option(1e-3, needs="latent", unless="codec", at_least=0, at_most=1_000,
        help="weight of the KL term in the loss of the autoencoder")
    codec_learning_rate: float = option(2e-3, needs="latent", unless="codec", above=0, at_most=1,
        help="peak learning rate of the autoencoder")
    codec_epochs: int = option(20, needs="latent", unless="codec", at_least=1, at_most=LARGEST_INT,
        help="most epochs of the autoencoder; with --minutes, codec_share is the limit")
    codec_share: float = option(0.3, needs="latent", unless="codec", above=0, at_most=0.9,
        help="largest share of --minutes for the autoencoder")

    # Diffusion
    start_from: str | None = option(None, flag=True, metavar="PATH", path=(),
        help="initialise with the averaged weights of a run or a .keras file: the same network, "
        "other images or classes")
    schedule: str = option("cosine", flag=True, choices=("linear", "cosine", "constant",
        "inverse_linear", "sigmoid"),
        help="noise schedule")
    prediction_type: str = option("v", flag=True, choices=("eps", "x0", "v"),
        help="output of the network")
    loss_weighting: str = option("uniform", flag=True, choices=("uniform", "min_snr"),
        help="weights of the noise levels in the loss")
    ema_decay: float = option(0.999, at_least=0, below=1,
        help="decay of the averaged weights (EMA) at each step")
    label_dropout: float = option(0.1, at_least=0, below=1, unless="unconditional",
        help="share of the labels that are dropped in training, for guidance")

    # Training
    epochs: int = option(50, flag=True, at_least=1, at_most=LARGEST_INT,
        help="passes over the training images")
    minutes: float | None = option(None, flag=True, above=0, at_most=1_000_000,
        help="train for this time, instead of --epochs. The learning rate falls until the end, so "
        "a run cannot be extended: use --start-from")
    repeats: int | None = option(None, at_least=1, at_most=1_000_000,
        help="passes over the training images in each epoch; default: 1, or with fewer images than "
        "a batch has as many as fill 8 batches")
    batch_size: int = option(64, flag=True, at_least=1, at_most=LARGEST_INT,
        help="images in a batch, over all devices")
    accumulate: int = option(1, flag=True, at_least=1, at_most=LARGEST_INT, movable=True,
        help="compute the gradient of a batch in N parts, to save memory; the same training but "
        "for rounding and dropout")
    strategy: str = option("auto", flag=True, movable=True, choices=("auto", "single", "mirrored",
        "multiworker", "tpu"),
        help="tf.distribute strategy, see docs/scaling.md; auto: one device, all GPUs, or the "
        "machines in TF_CONFIG")
    optimizer: str = option("muon", flag=True, choices=("adamw", "muon"),
        help="muon makes the updates of matrices and convolutions orthogonal, with AdamW for all "
        "other weights")
    learning_rate: float = option(0.01, flag=True, above=0, at_most=1,
        help="peak learning rate; linear warm-up, then half a cosine to 1% of it; with "
        "--optimizer adamw 0.0015 unless given")
    warmup: float = option(0.03, at_least=0, below=1, help="share of the training for warm-up")
    weight_decay: float = option(1e-4, at_least=0, at_most=1, help="weight decay")
    clip_norm: float = option(1.0, above=0, at_most=1_000_000,
        help="largest norm of the gradient of all weights")
    precision: str = option("auto", flag=True, choices=("auto", "float32", "mixed_bfloat16"),
        help="auto: mixed_bfloat16 where the hardware supports it")
    export_precision: str = option("auto", choices=("auto", "float32"), movable=True,
        help="precision of the export; auto: that of the training; float32 runs at full speed on "
        "every processor")
    seed: int = option(0, flag=True, at_least=0, at_most=LARGEST_INT,
        help="seed of initial weights, noise and the order of images")
    deterministic: bool = option(False, flag=True,
        help="use only operations whose results are the same bits in every run")
    checkpoint_minutes: float = option(10.0, flag=True, at_least=0, at_most=1_000_000, movable=True,
        help="minutes between checkpoints within an epoch; the end of an epoch is saved, too, "
        "unless that takes more than 5% of the time")
    keep_checkpoints: int = option(2, at_least=1, at_most=LARGEST_INT, movable=True,
        help="number of last checkpoints that are kept, besides the best one")
    score_every: int | None = option(None, flag=True, at_least=1, at_most=LARGEST_INT, movable=True,
        help="score new samples every N epochs; the best checkpoint is then that of the lowest "
        "FID instead of the lowest validation loss")
    score_num: int = option(1000, needs="score_every", at_least=20, at_most=1_000_000,
        help="number of samples to score")
    score_extractor: str = option("classifier", needs="score_every",
        path=EXTRACTORS,
        help="feature extractor: classifier, inception, or the path of a Keras model")

    # Samples: previews, and the defaults of the export
    sampler: str = option("dpmpp_2m", choices=("ddpm", "ddim", "heun", "dpmpp_2m", "cold"),
        movable=True,
        help="sampler of previews, and default of the export")
    num_steps: int = option(20, at_least=1, at_most=MAX_STEPS, movable=True,
        help="sampler steps of previews, and default of the export")
    guidance_scale: float = option(2.0, check=guidance.RULES["guidance_scale"],
        unless="unconditional", movable=True,
        help="scale of classifier-free guidance of previews, and default of the export; 1: off")
    guidance_interval: tuple = option((0.0, 1.0), check=guidance.RULES["guidance_interval"],
        unless="unconditional", movable=True,
        help="times between which guidance is on, 0 (clean) to 1 (noise)")
    guidance_rescale: float = option(0.0, check=guidance.RULES["guidance_rescale"],
        unless="unconditional", movable=True,
        help="share of the contrast added by guidance that is removed again")

    # fmt: on

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check(field, getattr(self, field.name))
        if self.attention is not None and len(self.attention) != len(self.widths):
            raise ValueError(
                f"--set attention: {self.attention} must have one value for each width."
            )
        if self.frames > 1:
            for name in ("latent", "score_every"):
                if getattr(self, name):
                    raise ValueError(f"{named(name)}: is not for clips (--frames). Leave it out.")
            if self.channels == 4:
                raise ValueError("--channels: must be 1 or 3 for clips (--frames).")

    @property
    def network_options(self):
        """{option: value} of the arguments that the builder of the network takes."""
        return {
            name: getattr(self, name)
            for name, field in OPTIONS.items()
            if self.network in field.metadata["networks"] and name != "text"
        }

    def without_effect(self):
        """Returns {option: reason} of the options that have no effect, given all others."""
        reasons = {}
        if self.minutes:
            reasons["codec_epochs"] = (
                "has no effect with --minutes. Give --set codec_share instead."
            )
        else:
            reasons["codec_share"] = (
                "has no effect without --minutes. Give --set codec_epochs instead."
            )
        for name, field in OPTIONS.items():
            needs, unless = field.metadata["needs"], field.metadata["unless"]
            networks = field.metadata["networks"]
            if needs and not getattr(self, needs):
                reasons[name] = f"has no effect without {named(needs)}. Give both or none."
            elif unless and getattr(self, unless):
                reasons[name] = f"cannot be combined with {named(unless)}. Give only one of them."
            elif networks and self.network not in networks:
                choices = " or ".join(networks)
                reasons[name] = f"has no effect on {self.network!r}. Choose --network {choices}."
        return reasons


OPTIONS = {field.name: field for field in dataclasses.fields(Config)}


def named(name):
    """Returns `fields.argument` of the option of a name in `OPTIONS`."""
    return argument(OPTIONS[name])


def from_json(saved):
    """Returns the options in a config.json as arguments of `Config`.

    Options that are newer than the file get what it was made with.
    """
    saved = {"repeats": 1, "optimizer": "adamw", **saved}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
