"""Networks: functional builders, {"x", "logsnr"[, "label"]} -> prediction of the shape of x."""

from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet}

__all__ = ["NETWORKS", "unet"]
