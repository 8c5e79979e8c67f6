"""The prefix of an encoder as cached features depend on it: a digest, and the shapes of its maps."""

import hashlib

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sam_ft.cache.entry import FORMAT
from sam_ft.cache.index import PREPROCESSING
from sam_ft.models import Sam
from sam_ft.models.encoders.encoder import ImageEncoder


def prefix_digest(model: Sam, compute_dtype: torch.dtype) -> str:
    """A hash of the weights before the cut, the preprocessing, the formats and the kind of device."""
    encoder, digest = model.image_encoder, hashlib.blake2b(digest_size=10)
    kind = (
        FORMAT,
        PREPROCESSING,
        model.model_type,
        model.image_size,
        model.normalize,
        str(compute_dtype),
        model.device.type,
    )
    digest.update(repr((*kind, encoder.cut)).encode())
    # Names in order, so that the digest does not depend on that of the modules.
    for name, tensor in sorted(encoder.prefix_state().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Prefix(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.cut = encoder.cut  # now: tensors in the place of parameters do not learn

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.encoder.forward(images, 0, self.cut),)  # not __call__, which torch.compile may replace


@torch.no_grad()
def prefix_shapes(model: Sam) -> list[tuple[int, ...]]:
    """The shapes of the maps of one image at the cut, found without computing them (torch's device "meta")."""
    prefix = _Prefix(model.image_encoder)
    # Tensors with a shape and no memory: the call below costs nothing.
    state = {name: tensor.to("meta") for name, tensor in [*prefix.named_parameters(), *prefix.named_buffers()]}
    image = torch.empty(1, 3, model.image_size, model.image_size, device="meta")
    return [tuple(one.shape[1:]) for one in functional_call(prefix, state, (image,))]
