"""Networks: functional builders, {"x", "logsnr"[, "label"]} -> prediction of the shape of x.

`encoder` and `decoder` are the two halves of an autoencoder.
"""

from keras_diffusion.networks.autoencoder import decoder, encoder
from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet}

__all__ = ["NETWORKS", "decoder", "encoder", "unet"]
