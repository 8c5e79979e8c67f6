"""Images and prompts for the ONNX graphs, as their clients send them."""

import numpy as np

SIZES = [(40, 64), (64, 40), (50, 50), (90, 130)]  # landscape, portrait, square, larger than the input
BOX = [8, 9, 30, 28]


def photo(size, seed=0):
    """(H, W, 3) uint8: smooth, since resizing of noise differs between libraries."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, (3, 1, 1))
    waves = np.sin(x / 7 + phase) + np.cos(y / 5 - phase)
    return (60 * waves + 128).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


def decoder_call(size, points, labels, mask=None, has_mask=0):
    """The inputs of the decoder besides the embedding, for points in pixels of an image of this size."""
    scale = 1024 / max(size)
    return {
        "point_coords": np.array(points, np.float32)[None] * np.float32(scale),
        "point_labels": np.array(labels, np.float32)[None],
        "mask_input": np.zeros((1, 1, 256, 256), np.float32) if mask is None else mask,
        "has_mask_input": np.array([has_mask], np.float32),
        "orig_im_size": np.array(size, np.float32),
    }
