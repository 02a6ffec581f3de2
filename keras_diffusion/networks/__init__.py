"""Networks: functional builders, {"x", "logsnr"[, "label"]} -> prediction of the shape of x."""

from keras_diffusion.networks.cnn import cnn
from keras_diffusion.networks.convnext_unet import convnext_unet
from keras_diffusion.networks.unet import unet

NETWORKS = {"unet": unet, "convnext_unet": convnext_unet, "cnn": cnn}

__all__ = ["NETWORKS", "cnn", "convnext_unet", "unet"]
