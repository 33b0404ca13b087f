"""Which values two ONNX files have in common, when nothing but their numbers can be trusted.

    file A --float64, two sets of inputs--> values \\
                                                     match --> joins, each proved by numbers
    file B --float64, two sets of inputs--> values /

``evaluate`` computes every value of a file in float64, ``match`` finds values that agree,
``join`` decides which of these are one and the same, and ``explain`` says in words what stands
between two joined values on either side.
"""

from __future__ import annotations

from exporter.joining.join import join_graphs
from exporter.joining.joined import How, Join, Joined

__all__ = ["How", "Join", "Joined", "join_graphs"]
