"""How far a file may be from the float32 PyTorch values that a golden holds.

A run judges ONNX against float64. A golden holds float32 PyTorch, so what PyTorch itself costs
is added (triangle inequality):

    |onnx - float32|  <=  |onnx - float64| + |float32 - float64|  <=  limit + PyTorch's own error

Whatever passes in a run passes here.
"""

from __future__ import annotations

from exporter.parity.measurement import Measurement
from exporter.parity.tolerance import Policy, limit


def direct_limits(measurement: Measurement, policy: Policy, layer: str) -> tuple[float, float]:
    """Largest (maximum, rms) of the difference to float32 PyTorch; zeros for discrete taps.

    Args:
        measurement: of PyTorch against its own free float64 run.
        policy: the pipeline's.
        layer: module path, for overrides that name a layer.
    """
    if measurement.kind != "float":
        return 0.0, 0.0
    allowed = limit(measurement, policy, layer=layer)
    own = measurement.reference
    return (
        allowed.max_abs + ((own.max_abs if own else None) or 0.0),
        allowed.rms + ((own.rms if own else None) or 0.0),
    )
