"""The two-way transformer of the mask decoder (Segment Anything, Kirillov et al. 2023, appendix A).

Attention runs from the prompt tokens to the image and from the image to the tokens. The position encodings of both are
added to queries and keys at every attention, never to values.
"""

import torch
from torch import Tensor, nn

from sam_ft.models.layers import Mlp, attention, inner_products, mixtures


class TwoWayTransformer(nn.Module):
    """Two-way attention blocks, then a final attention from the tokens to the image."""

    def __init__(self, dim: int = 256, depth: int = 2, num_heads: int = 8, mlp_dim: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, num_heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = TokenToImage(dim, num_heads, inner_dim=dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor, num_outputs: int) -> tuple[Tensor, Tensor]:
        """Runs the tokens of each object and its own copy of the image through all blocks.

        image: (M, P, dim), P pixels of the embedding · image_pe: (1 or M, P, dim) · tokens: (M, T, dim)
        num_outputs: tokens to return, counted from the first
        → tokens (M, num_outputs, dim), image (M, P, dim)
        """
        token_pe = tokens  # prompt tokens are position encodings already
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        # No attention among tokens follows, so only those that the decoder reads are kept.
        tokens, token_pe = tokens[:, :num_outputs], token_pe[:, :num_outputs]
        # The paper's last attention from the tokens to the image, after all blocks.
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image


class TwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, an MLP on the tokens, image to tokens; each with a layer norm after.

    first: the block whose input tokens are the position encodings themselves, so it adds neither those nor a residual
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, num_heads, inner_dim=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = TokenToImage(dim, num_heads, inner_dim=dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, activation=nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = ImageToToken(dim, num_heads, inner_dim=dim // 2)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        # Step 1 of the paper: self-attention among the tokens.
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            query = tokens + token_pe
            tokens = tokens + self.self_attn(query, query, tokens)
        tokens = self.norm1(tokens)

        # Step 2: attention from the tokens to the image.
        image_key = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, image_key, image)
        tokens = self.norm2(tokens)
        # Step 3: the MLP on each token.
        tokens = self.norm3(tokens + self.mlp(tokens))

        # Step 4: attention from the pixels to the tokens. `image` has not changed, so `image_key` holds.
        image = image + self.cross_attn_image_to_token(image_key, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class Attention(nn.Module):
    """Multi-head attention whose heads share `inner_dim` channels, which may be fewer than `dim`."""

    def __init__(self, dim: int, num_heads: int, inner_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: (M, Q, dim) · key, value: (M, P, dim) → (M, Q, dim)"""
        heads = (
            self._split(self.q_proj(query)),
            self._split(self.k_proj(key)),
            self._split(self.v_proj(value)),
        )
        return self.out_proj(attention(*heads).transpose(1, 2).flatten(2))  # heads joined: (M, Q, inner_dim)

    def _split(self, x: Tensor) -> Tensor:
        """(M, Q, inner_dim) → (M, heads, Q, inner_dim / heads)"""
        return x.unflatten(2, (self.num_heads, x.shape[2] // self.num_heads)).transpose(1, 2)


class CrossAttention(Attention):
    """Attention between few tokens and many pixels that projects no pixel.

    A head with the projections (W, b) of token t and (U, c) of pixel x compares them by

        (W t + b) · (U x + c)  =  Uᵀ(W t + b) · x  +  (W t + b) · c

    so the pixels' projection is folded into the token. A box has 7 tokens × 8 heads = 56 vectors to compare with each
    of 4096 pixels, instead of 128 channels to compute for each. Likewise for values: an average of projections is the
    projection of the average. With many points the cost is about the same.
    """

    def _logits(self, tokens: Tensor, pixels: Tensor, of_tokens: nn.Linear, of_pixels: nn.Linear) -> Tensor:
        """tokens: (M, T, dim) · pixels: (M, P, dim) → (M, heads, T, P): with P last, a softmax over T is fast too"""
        projected = self._split(of_tokens(tokens))
        # The scale 1 / √(inner_dim / heads), on the few numbers of the tokens and not on the logits.
        projected = projected * projected.shape[3] ** -0.5
        folded = torch.einsum("mhtc,hcd->mhtd", projected, self._by_head(of_pixels.weight))  # Uᵀ(W t + b)
        # (W t + b) · c, one number for all pixels
        bias = torch.einsum("mhtc,hc->mht", projected, self._by_head(of_pixels.bias))
        return inner_products(folded.flatten(1, 2), pixels).unflatten(1, bias.shape[1:]) + bias[..., None]

    def _by_head(self, parameter: Tensor) -> Tensor:
        """(inner_dim, ...) → (heads, inner_dim / heads, ...)"""
        return parameter.unflatten(0, (self.num_heads, len(parameter) // self.num_heads))


class TokenToImage(CrossAttention):
    """Attention from the tokens to the pixels."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: (M, T, dim) tokens · key, value: (M, P, dim) pixels → (M, T, dim)"""
        # (M, heads, T, P): for each token and head, a distribution over the pixels.
        weights = self._logits(query, key, self.q_proj, self.k_proj).softmax(dim=3)
        # Averages of unprojected pixels, (M, heads, T, dim); the projection follows, once for each token and head.
        averages = (weights.flatten(1, 2) @ value).unflatten(1, weights.shape[1:3])
        heads = torch.einsum("mhtd,hcd->mthc", averages, self._by_head(self.v_proj.weight))
        # The weights of a head sum to 1, so the bias of the values passes through the average.
        return self.out_proj(heads.flatten(2) + self.v_proj.bias)


class ImageToToken(CrossAttention):
    """Attention from the pixels to the tokens."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: (M, P, dim) pixels · key, value: (M, T, dim) tokens → (M, P, dim)"""
        # (M, heads, T, P) again, but for each pixel and head a distribution over the tokens.
        weights = self._logits(key, query, self.k_proj, self.q_proj).softmax(dim=2)
        # v_proj and each head's columns of out_proj applied to the tokens: (M, heads, T, dim).
        values = torch.einsum("mhtc,hcd->mhtd", self._split(self.v_proj(value)), self._by_head(self.out_proj.weight.T))
        # A pixel's weights sum to 1 in each head, so each value carries its share of the bias: no pass over the pixels.
        values = values + self.out_proj.bias / self.num_heads
        return mixtures(weights.flatten(1, 2), values.flatten(1, 2))
