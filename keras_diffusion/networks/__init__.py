"""Networks: functional builders, {"x", "logsnr"[, "label" or "tokens"]} -> prediction like x.

`encoder` and `decoder` are the two halves of an autoencoder; `LabelEmbedding` is for networks of
your own.
"""

from keras_diffusion.networks.autoencoder import decoder, encoder
from keras_diffusion.networks.cnn import cnn
from keras_diffusion.networks.convnext_unet import convnext_unet
from keras_diffusion.networks.layers import LabelEmbedding
from keras_diffusion.networks.text import TextEncoder
from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet, "convnext_unet": convnext_unet, "cnn": cnn}

__all__ = [
    "NETWORKS", "LabelEmbedding", "TextEncoder", "cnn", "convnext_unet", "decoder", "encoder",
    "unet",
]  # fmt: skip
