"""Networks: functions that build a functional `keras.Model`.

Denoising networks map {"x", "logsnr"[, "label" or "tokens"]} to a prediction of the shape of x.
`encoder` and `decoder` are the networks of an autoencoder. `LabelEmbedding` and `TextEncoder` are
layers for your own networks.
"""

from keras_diffusion.networks.autoencoder import decoder, encoder
from keras_diffusion.networks.cnn import cnn
from keras_diffusion.networks.convnext_unet import convnext_unet
from keras_diffusion.networks.layers import LabelEmbedding
from keras_diffusion.networks.text_encoder import TextEncoder
from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet, "convnext_unet": convnext_unet, "cnn": cnn}

__all__ = [
    "NETWORKS", "LabelEmbedding", "TextEncoder", "cnn", "convnext_unet", "decoder", "encoder",
    "unet",
]  # fmt: skip
