import json
from math import inf, nan

from sam_ft.utils.files import as_json


def test_nan_and_infinity_become_null_at_any_depth():
    values = {"a": nan, "b": {"c": [1.5, -inf, "nan"]}, "d": (inf, None, 2), "e": True}
    expected = {"a": None, "b": {"c": [1.5, None, "nan"]}, "d": [None, None, 2], "e": True}
    assert json.loads(as_json(values)) == expected
    assert "NaN" not in as_json(values, indent=2)
