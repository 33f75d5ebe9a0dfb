"""Comparison of byte strings that lie in one array."""

import numpy as np
from jaxtyping import Bool, Int64, UInt8


def equal_to_previous(
    content: UInt8[np.ndarray, " size"], starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Return which strings equal the string before them. The first one does not.

    Args:
        content: the bytes of all strings.
        starts, lengths: of the strings in it.
    """
    equal = np.zeros(len(starts), bool)
    equal[1:] = lengths[1:] == lengths[:-1]
    candidates = np.flatnonzero(equal)
    for position in range(int(lengths.max(initial=0))):
        candidates = candidates[lengths[candidates] > position]
        same = content[starts[candidates] + position] == content[starts[candidates - 1] + position]
        equal[candidates[~same]] = False
        candidates = candidates[same]
    return equal
