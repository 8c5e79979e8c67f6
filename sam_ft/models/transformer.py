"""The two-way transformer of the mask decoder (Segment Anything, Kirillov et al. 2023, appendix A).

Prompt tokens look at the image and the image looks back at the tokens. The positions of both are added anew
to queries and keys at every attention, never to values.
"""

from torch import Tensor, nn

from sam_ft.models.layers import Mlp, attention


class TwoWayTransformer(nn.Module):
    """Two-way attention blocks, then one last look of the tokens at the image."""

    def __init__(self, dim: int = 256, depth: int = 2, num_heads: int = 8, mlp_dim: int = 2048) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, num_heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, num_heads, inner_dim=dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the tokens of each object against its own copy of the image.

        image: (M, P, dim), P pixels of the embedding · image_pe: (1 or M, P, dim) · tokens: (M, T, dim)
        → tokens (M, T, dim), image (M, P, dim)
        """
        token_pe = tokens  # a prompt token already says where it is
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image


class TwoWayBlock(nn.Module):
    """Tokens to tokens, tokens to image, an MLP on the tokens, image to tokens; each with a layer norm after.

    first: the block that sees the tokens unchanged, so that there is no position left to add, nor a residual
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, num_heads, inner_dim=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, inner_dim=dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, activation=nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, inner_dim=dim // 2)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)

        placed_image = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, placed_image, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))

        image = image + self.cross_attn_image_to_token(placed_image, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class Attention(nn.Module):
    """Multi-head attention whose heads may share fewer channels (`inner_dim`) than come in and go out."""

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
        return self.out_proj(attention(*heads).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(M, Q, inner_dim) → (M, heads, Q, inner_dim / heads)"""
        return x.unflatten(2, (self.num_heads, x.shape[2] // self.num_heads)).transpose(1, 2)
