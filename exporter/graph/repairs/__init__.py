"""Repairs for patterns that a trace cannot follow, one file each; all of them are listed here.

A module with a pattern of these is captured as if it had been written otherwise, and proved to
compute the same (``proof``). ``capture: {repairs: {NAME: false}}`` in a YAML leaves one out.
"""

from __future__ import annotations

from exporter.graph.repairs.cif import REPAIR as CIF
from exporter.graph.repairs.complex_pairs import REPAIR as COMPLEX_PAIRS
from exporter.graph.repairs.equal_parts import REPAIR as EQUAL_PARTS
from exporter.graph.repairs.frame import Repair
from exporter.graph.repairs.grouped_products import REPAIR as GROUPED_PRODUCTS
from exporter.graph.repairs.length_regulator import REPAIR as LENGTH_REGULATOR
from exporter.graph.repairs.loops import REPAIR as LOOPS
from exporter.graph.repairs.packed_sequence import REPAIR as PACKED_SEQUENCE
from exporter.graph.repairs.padding_branches import REPAIR as PADDING_BRANCHES
from exporter.graph.repairs.pooled_rows import REPAIR as POOLED_ROWS
from exporter.graph.repairs.python_sizes import REPAIR as PYTHON_SIZES
from exporter.graph.repairs.same_padding import REPAIR as SAME_PADDING
from exporter.graph.repairs.scripted import REPAIR as SCRIPTED
from exporter.graph.repairs.size_numbers import REPAIR as SIZE_NUMBERS
from exporter.graph.repairs.tried_calls import REPAIR as TRIED_CALLS
from exporter.graph.repairs.window_lengths import REPAIR as WINDOW_LENGTHS

REPAIRS: dict[str, Repair] = {
    repair.name: repair
    for repair in (
        PYTHON_SIZES,
        PACKED_SEQUENCE,
        SIZE_NUMBERS,
        TRIED_CALLS,
        LENGTH_REGULATOR,
        CIF,
        LOOPS,
        EQUAL_PARTS,
        GROUPED_PRODUCTS,
        SCRIPTED,
        COMPLEX_PAIRS,
        PADDING_BRANCHES,
        SAME_PADDING,
        POOLED_ROWS,
        WINDOW_LENGTHS,
    )
}
