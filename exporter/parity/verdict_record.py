"""The judgement on one tap of one case, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.parity.status import Status, Who
from exporter.parity.tolerance import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement on one tap of one case.

    Attributes:
        ratio: ONNX's distance to float64 over float32 PyTorch's, the larger of max and rms;
            ``None`` when PyTorch's is 0 or nothing was measured.
        strain: error over limit, the larger of max and rms: above 1 fails. ``None`` as above.
        limit: ``None`` when the verdict does not rest on a distance.
        weak: the limit is larger than half of the tap's own rms, so that almost anything would
            pass here: float32 itself carries no information at this tap, or the declared
            precision is very coarse.
        coarse: formats that the file holds there and that are coarser than what is declared.
    """

    name: str
    status: Status
    who: Who
    reason: str
    ratio: float | None = None
    strain: float | None = None
    limit: Limit | None = None
    weak: bool = False
    coarse: tuple[str, ...] = ()
