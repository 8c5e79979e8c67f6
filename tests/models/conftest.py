"""Weights for the tests of files of weights."""

import pytest
import torch

from tests.support.tiny import tiny_sam


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture(scope="module")
def _weights():
    return tiny_sam().state_dict()


@pytest.fixture
def weights(_weights):
    """The tiny model's, for each test to alter."""
    return {name: tensor.clone() for name, tensor in _weights.items()}
