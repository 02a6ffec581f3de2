"""Similarity of images to their references: PSNR and SSIM."""

import numpy as np
import tensorflow as tf


def compare(images, references):
    """Compares images with their references, one by one.

    Args:
        images: uint8 (N, H, W, C), H and W at least 11 pixels.
        references: uint8, the same shape; or (H, W, C), one for all.

    Returns:
        dict of arrays (N,): "psnr", peak signal-to-noise ratio in dB, infinite if equal;
        "ssim", structural similarity, 1 if equal (Wang et al. 2004,
        doi:10.1109/TIP.2003.819861).

    Raises:
        ValueError: another dtype or shape.
    """
    images = np.asarray(images)
    references = np.asarray(references)
    if references.ndim == images.ndim - 1:
        references = np.broadcast_to(references, images.shape)
    for name, array in (("images", images), ("references", references)):
        if array.dtype != np.uint8:
            raise ValueError(f"{name}: dtype {array.dtype}; give uint8.")
    if images.shape != references.shape or images.ndim != 4:
        raise ValueError(
            f"images: shape {images.shape} against {references.shape}; both must be (N, H, W, C)."
        )
    return {
        "psnr": tf.image.psnr(images, references, max_val=255).numpy(),
        "ssim": tf.image.ssim(images, references, max_val=255).numpy(),
    }
