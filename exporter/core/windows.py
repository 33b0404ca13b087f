"""A stream as windows of one axis: what is new in each, and what each call is given of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One call of a stream, in steps of the axis that is cut.

        begin        start             stop         end
          | left context | what is new | right context |

    Before 0 and behind the end of the whole there are zeros.
    """

    begin: int
    start: int
    stop: int
    end: int

    @property
    def given(self) -> int:
        """Steps that the call gets."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """How the calls of a case were cut.

    Attributes:
        input, axis: what was cut, and along which of its axes.
        steps: of the whole.
        windows: one per call.
        whole: inputs of all calls together, as they were before.
        dropped: what does not fill a window was left out, on purpose.
    """

    input: str
    axis: int
    steps: int
    windows: tuple[Window, ...]
    whole: Mapping[str, np.ndarray]
    dropped: bool = False

    @property
    def filled(self) -> int:
        """Steps of zeros that stand behind the end in the last window."""
        return max(0, self.windows[-1].end - self.steps)
