import pytest

from sam_ft.adapt import Freeze
from sam_ft.utils.errors import ConfigError
from tests.support.tiny import tiny_sam


@pytest.mark.parametrize("train", ["mask_decoder.*", [], [1], None])
def test_what_to_train_must_be_a_list_of_patterns(train):
    with pytest.raises(ValueError, match=r"^train=.*; expected a list of patterns such as"):
        Freeze(train)


@pytest.mark.parametrize("freeze", ["mask_decoder.*", [1], None])
def test_exceptions_must_be_a_list_of_patterns(freeze):
    with pytest.raises(ValueError, match=r"^freeze=.*; expected a list of patterns such as"):
        Freeze(["*"], freeze)


def test_exceptions_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"^adapt\.freeze=\['\*'\] leaves nothing to train"):
        Freeze(["*"], ["*"])(tiny_sam())
