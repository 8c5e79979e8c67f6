"""Exact percentiles of more values than fit into memory."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def percentiles_in_passes(
    read: Callable[[], Iterable[NDArray]], dtype: np.dtype, count: int, percents: Sequence[float]
) -> list[float]:
    """`np.percentile` of all values, bit for bit, in one pass for each 16 bits of a value.

    read: gives all values in parts, anew at each call; none of them is NaN · dtype, count: of the values

    The passes count the values by their next 16 bits and follow the percentiles' own ones (a radix selection).
    """
    places = np.true_divide(percents, 100) * (count - 1)
    below = np.floor(places).astype(np.int64)
    # Between two neighbors in the sorted values, which are found by their ranks.
    ranks = np.concatenate([below, np.minimum(below + 1, count - 1)])
    low, high = np.split(_values_of_ranks(read, dtype, ranks), 2)
    fractions = places - below
    return [float(np.quantile(np.array(pair), part)) for *pair, part in zip(low, high, fractions, strict=True)]


def _values_of_ranks(read: Callable[[], Iterable[NDArray]], dtype: np.dtype, ranks: NDArray[np.int64]) -> NDArray:
    """The values at these places of the sorted values, counted from 0."""
    bits = 8 * dtype.itemsize
    digit = min(16, bits)
    prefixes, left = [0] * len(ranks), ranks.tolist()
    for shift in range(bits - digit, -1, -digit):
        counts = {prefix: np.zeros(2**digit, np.int64) for prefix in prefixes}
        for values in read():
            keys = _sortable(values.astype(dtype, copy=False)).ravel()
            for prefix, of_prefix in counts.items():
                # The digits before this one; in the first pass there are none.
                own = keys if shift + digit == bits else keys[keys >> keys.dtype.type(shift + digit) == prefix]
                digits = own >> keys.dtype.type(shift) & keys.dtype.type(2**digit - 1)
                of_prefix += np.bincount(digits.astype(np.int64), minlength=2**digit)
        for number, prefix in enumerate(prefixes):
            summed = np.cumsum(counts[prefix])
            found = int(np.searchsorted(summed, left[number], side="right"))
            left[number] -= int(summed[found - 1]) if found else 0
            prefixes[number] = prefix << digit | found
    return _from_sortable(np.array(prefixes, f"u{dtype.itemsize}"), dtype)


def _sortable(values: NDArray) -> NDArray[np.unsignedinteger]:
    """Unsigned numbers in the order of the values."""
    unsigned = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    if values.dtype.kind == "u":
        return unsigned
    sign = unsigned.dtype.type(1 << (8 * values.itemsize - 1))
    if values.dtype.kind == "i":
        return unsigned ^ sign
    return np.where(unsigned & sign, ~unsigned, unsigned | sign)  # negative floats grow with their bits


def _from_sortable(keys: NDArray[np.unsignedinteger], dtype: np.dtype) -> NDArray:
    """The inverse of `_sortable`."""
    sign = keys.dtype.type(1 << (8 * keys.itemsize - 1))
    if dtype.kind == "f":
        keys = np.where(keys & sign, keys ^ sign, ~keys)
    elif dtype.kind == "i":
        keys = keys ^ sign
    return keys.view(dtype)
