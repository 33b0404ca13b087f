"""Values that a file holds in another shape, with their elements in the same order.

A simplifier that finds ``view -> tanh -> view`` may drop both views: the value is then the same,
its name as well, and its shape is not.

    PyTorch  [3, 50, 48]     the file  [150, 48]        axes 0 and 1 are one

Only shapes that follow from merging or splitting neighbouring axes (axes of one element count as
none) are taken for that. ``[2, 3]`` and ``[3, 2]`` have as many elements and are no such pair: one
of them is more likely the other's transpose. Whether the elements really are in the same order is
for numbers to say, with the same limits as for every other value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def merges_or_splits(expected: Sequence[int], stored_shape: Sequence[int]) -> bool:
    """True when ``stored_shape`` is ``expected`` with neighbouring axes merged or split, or both.

    Walks both shapes at once; a group of axes ends where both products agree, and has one axis
    on at least one of the sides. Equal shapes are a pair; shapes without elements are not.
    """
    if 0 in expected or 0 in stored_shape or math.prod(expected) != math.prod(stored_shape):
        return False
    left = [size for size in expected if size != 1]
    right = [size for size in stored_shape if size != 1]
    while left and right:
        a, b = left.pop(0), right.pop(0)
        taken_left = taken_right = 1
        while a != b:
            if a < b:
                a *= left.pop(0)
                taken_left += 1
            else:
                b *= right.pop(0)
                taken_right += 1
        if min(taken_left, taken_right) > 1:
            return False
    return not left and not right
