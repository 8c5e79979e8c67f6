"""Features of images on disk: each image passes through the part of the encoder that never changes only once."""

from sam_ft.cache.embedding_cache import EmbeddingCache, no_cache

__all__ = ["EmbeddingCache", "no_cache"]
