"""The compiled loop behind ``linear_change``; importing this file loads numba.

torch needs five passes over the inputs for what one pass finds: two arrays widened, subtracted,
rounded, and the largest magnitude of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from exporter.parity.compiled_loops import MAGNITUDE, bits, compiled, from_bits

_WIDE, _PLAIN = types.float64[::1], types.float32[::1]
_FOUND = types.UniTuple(types.float64, 2)


@compiled([_FOUND(_WIDE, _PLAIN, _PLAIN), _FOUND(_WIDE, _WIDE, _PLAIN)])
def subtract(free: Any, local: Any, change: Any) -> Any:
    """Fill ``change`` with ``free - local``, rounded once; the largest magnitudes of it and local.

    NaN where either holds one: its bits are above those of every number.
    """
    largest = size = np.int64(0)
    for i in range(free.size):
        value = np.float64(local[i])
        difference = np.float32(free[i] - value)
        change[i] = difference
        largest = max(largest, bits(np.float64(difference)) & MAGNITUDE)
        size = max(size, bits(value) & MAGNITUDE)
    return from_bits(largest), from_bits(size)
