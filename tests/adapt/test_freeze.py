import pytest

from sam_ft.adapt import Freeze
from sam_ft.utils.errors import ConfigError
from tests.support.tiny import tiny_sam


@pytest.mark.parametrize("train", ["mask_decoder.*", [], [1], None])
def test_what_to_train_must_be_a_list_of_patterns(messages, train):
    with messages.raises(ValueError, "train="):
        Freeze(train)


@pytest.mark.parametrize("freeze", ["mask_decoder.*", [1], None])
def test_exceptions_must_be_a_list_of_patterns(messages, freeze):
    with messages.raises(ValueError, "freeze="):
        Freeze(["*"], freeze)


def test_exceptions_that_leave_nothing_are_refused(messages):
    with messages.raises(ConfigError, "adapt.freeze=['*'] "):
        Freeze(["*"], ["*"])(tiny_sam())
