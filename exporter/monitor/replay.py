"""Is this still the certified system? Golden inputs, run where requests are served, and judged.

No statistics: a case is the same, within rounding, ambiguous or moved, as ``golden check`` says it,
with the first layer that moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.core.tensors import Arrays
from exporter.execution.deployment import Deployment
from exporter.execution.ort_session import ORT_VERSION
from exporter.golden.judge_file import judge_file
from exporter.golden.outcome import CheckOutcome
from exporter.graph.certificate import Checked, check_certificate
from exporter.graph.onnx_file import open_graph
from exporter.monitor.recorded import Recorded

NOT_CERTIFIED = "none"
"""What stands for the seal of a file that has no certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Of a file: the digest that its certificate ends with, and what has changed since."""

    text: str
    intact: bool
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One replay.

    Attributes:
        outcome: as of ``golden check``.
        seal: of the file as it lies on the disk now.
        provider: of onnxruntime, as the session that served the cases says it.
        runtime: onnxruntime's version.
    """

    outcome: CheckOutcome
    seal: Seal
    provider: str
    runtime: str

    @property
    def exit_code(self) -> int:
        """As of ``golden check``; a seal that is broken is never a pass.

        Nor is one that is gone where PyTorch vouches for the golden: the file that passed had one.
        """
        if self.seal.changes or (self.outcome.vouched and not self.seal.intact):
            return max(1, self.outcome.exit_code)
        return self.outcome.exit_code

    @property
    def strain(self) -> float | None:
        """Largest error over its limit, of all layers of all cases; None where none was taken."""
        strains = [case.strain for case in self.outcome.cases if case.strain is not None]
        return max(strains, default=None)


def replay(
    recorded: Recorded,
    onnx: Path,
    deployment: Deployment,
    *,
    provider: str,
    outputs_of: Callable[[Arrays], Mapping[str, np.ndarray]] | None = None,
) -> Replayed:
    """Run the recorded cases and judge them.

    Args:
        deployment: of the service. provider: what its session says that it runs on.
        outputs_of: the service itself; by default the file is opened for this.

    Raises:
        ArtifactError: the file cannot be read.
    """
    seal = seal_of(onnx)
    outcome = judge_file(
        recorded.golden,
        recorded.asked,
        recorded.cases,
        open_graph(onnx),
        onnx,
        deployment,
        CheckOutcome(
            pipeline=recorded.golden.pipeline, golden=str(recorded.folder), onnx=str(onnx)
        ),
        outputs_of=outputs_of,
    )
    return Replayed(outcome=outcome, seal=seal, provider=provider, runtime=ORT_VERSION)


def seal_of(onnx: Path) -> Seal:
    """Hold a file against its certificate; the whole file is read."""
    checked: Checked = check_certificate(onnx)
    text = (checked.certificate or {}).get("seal", NOT_CERTIFIED)
    return Seal(text=text, intact=checked.intact, changes=checked.changes)
