"""An embedding cache of a tiny model, with an encoder that counts its images."""

import threading

import torch

from sam_ft.cache import EmbeddingCache
from sam_ft.data.datasets import EvaluationSet
from sam_ft.task import PromptedSegmentation
from sam_ft.utils import distributed
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam

COUNTS = [2, 1, 3]
ENTRY_BYTES = 256 * 16 * 4 + 256  # that the cache counts for one embedding of the tiny model in float32


def files(home):
    """The entries of a cache in `home`."""
    return sorted(home.glob("embeddings/*/*.safetensors"))


class Known(Blobs):
    """Blobs with fingerprints, as files have them."""

    def fingerprint(self, index):
        return f"image {index} with {self.counts[index]}"


class Cached:
    """A cache in SAM_FT_HOME as one run opens it, an evaluation set of `split`, and the encoder of its task."""

    def __init__(self, split=None, seed=0, dtype="float32", **options):
        self.task = PromptedSegmentation(tiny_sam(seed).requires_grad_(False))
        self.cache = EmbeddingCache(dtype, **options)
        self.cache.open(self.task.model, torch.float32)
        self.task.features_dtype = self.cache.features_dtype
        self.dataset = EvaluationSet(Blobs(COUNTS) if split is None else split, 64, self.cache.read)
        self.encoded = 0

    def encode(self, images, sizes, extremes=None):
        self.encoded += len(images)
        return self.task.prefix(images, sizes, extremes)

    def fill(self, views=None, dataset=None, per_pass=2):
        dataset = dataset or self.dataset
        self.cache.fill(dataset, self.dataset.all_views if views is None else views, self.encode, per_pass, 0, "test")
        return self

    def path(self, image, view=0):
        return self.cache._folder._path(self.dataset.keys[image, view])

    def fresh(self, images):
        """The embeddings of some images without a cache."""
        return self.task.encode(EvaluationSet(self.dataset.split, 64).batch(images)).embedding


class Ranks:
    """Threads in place of processes: `run` calls a function once for each rank, and fails if one waits for ever."""

    def __init__(self, monkeypatch, count=2):
        self.count = count
        self.local = threading.local()
        self.barrier = threading.Barrier(count, timeout=30)
        self.shares = [None] * count
        monkeypatch.setattr(distributed, "rank", lambda: getattr(self.local, "rank", 0))
        monkeypatch.setattr(distributed, "world_size", lambda: count)
        monkeypatch.setattr(distributed, "all_gather", self.all_gather)

    def all_gather(self, items):
        self.shares[self.local.rank] = list(items)
        self.barrier.wait()
        gathered = [item for share in self.shares for item in share]
        self.barrier.wait()
        return gathered

    def run(self, function):
        """→ what the function returned on each rank"""
        results = [None] * self.count

        def work(rank):
            self.local.rank = rank
            try:
                results[rank] = function(rank)
            except BaseException as error:
                self.barrier.abort()
                results[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results
