"""Networks: functional builders, {"x", "logsnr"[, "label"]} -> prediction of the shape of x."""

from keras_diffusion.networks.convnext_unet import convnext_unet
from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet, "convnext_unet": convnext_unet}

__all__ = ["NETWORKS", "convnext_unet", "unet"]
