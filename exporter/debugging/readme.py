"""The finding as Markdown: README.md of a bundle, and the text of an upstream bug report."""

from __future__ import annotations

from collections.abc import Sequence

from exporter import __version__
from exporter.debugging.diagnose import Diagnosis
from exporter.debugging.finding import Finding
from exporter.debugging.isolate import ops_of
from exporter.debugging.pair import Pair
from exporter.debugging.variations import VariationResult
from exporter.graph.index import GraphIndex
from exporter.judge.layer_results import JudgedTap
from exporter.parity.status import Who
from exporter.report.safe_text import code, figure, markdown, short_op

_MOST_ROWS = 60
FUSED = "in the next"


def render_readme(pair: Pair, diagnosis: Diagnosis, no_torch: str, left_out: int) -> str:
    """README.md of a bundle."""
    parts = [
        f"# {code(diagnosis.layer.name or 'the root module')}",
        headline(diagnosis),
        _findings(diagnosis.findings),
        "## Run it",
        "```\npip install numpy onnx onnxruntime safetensors\npython repro.py\n```",
        "`repro.py` feeds `inputs.safetensors` (float32 PyTorch's values in front of every op) to"
        " `layer.onnx` and compares with `expected.safetensors` (the same ops in float64). It exits"
        " 1 while a difference exists, 0 when there is none. `python repro.py disable` runs it"
        " without graph optimisations.",
        _torch(no_torch),
        f"{left_out} ops that pass were left out to keep the folder small." if left_out else "",
        "## Op by op",
        table(pair.actual, diagnosis.held.rows),
        "\n".join(f"- {remark}" for remark in diagnosis.remarks),
        "## Variations",
        matrix(diagnosis),
        "## Made with",
        _environment(pair),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_issue(pair: Pair, diagnosis: Diagnosis) -> str:
    """Markdown to paste into an upstream tracker; the bundle is to be attached."""
    first = diagnosis.findings[0] if diagnosis.findings else None
    title = f"{first.node or first.op}: {first.clauses[0]}" if first else headline(diagnosis)
    parts = [
        f"# {markdown(title)}",
        "### Describe the issue",
        _findings(diagnosis.findings) or headline(diagnosis),
        "### To reproduce",
        "Unpack the attached folder and run:",
        "```\npip install numpy onnx onnxruntime safetensors\npython repro.py\n```",
        "It exits 1 and prints the differences: `layer.onnx` is the layer alone,"
        " `expected.safetensors` holds float64 results on the same inputs.",
        "### Which variations agree",
        matrix(diagnosis),
        "<details><summary>Op by op</summary>\n\n"
        + table(pair.actual, diagnosis.held.rows)
        + "\n\n</details>",
        "### Environment",
        _environment(pair),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(diagnosis: Diagnosis) -> str:
    """One sentence."""
    if not diagnosis.findings:
        return "Nothing is wrong with this layer."
    number = len(diagnosis.findings)
    return f"{number} finding{'s' if number > 1 else ''}."


def _findings(findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"- {markdown(finding.text)}")
        place = [
            f"layer {code(finding.layer)}" if finding.layer else "",
            f"op {code(finding.op)}" if finding.op else "",
            f"tap {code(finding.tap)}" if finding.tap else "",
            f"source {code(finding.source)}" if finding.source else "",
        ]
        lines.append(f"  - {', '.join(item for item in place if item) or 'the whole file'}")
    return "\n".join(lines)


def table(graph: GraphIndex, rows: Sequence[JudgedTap]) -> str:
    """Op by op, in topological order."""
    lines = [
        "| tap | op | ONNX | shape | dtype | local error | limit | verdict | wrong | source |",
        "|---|---|---|---|---|--:|--:|---|---|---|",
    ]
    lines += [
        "| " + " | ".join(markdown(cell) for cell in cells(graph, row)) + " |"
        for row in rows[:_MOST_ROWS]
    ]
    if len(rows) > _MOST_ROWS:
        lines.append(f"| {len(rows) - _MOST_ROWS} more | | | | | | | | | |")
    return "\n".join(lines)


def cells(graph: GraphIndex, row: JudgedTap) -> tuple[str, ...]:
    """One row of the table as texts."""
    tap = row.planned.tap
    if row.local is None:
        fate = f"{row.planned.fate}" + (f" into {row.planned.into}" if row.planned.into else "")
        return (tap.name, short_op(tap.op), fate, "", "", "", "", "", "", tap.source)
    m, v = row.local.measurement, row.local.verdict
    distance = m.actual or m.direct
    error = figure(distance.max_abs) if distance else ""
    if m.kind == "discrete":
        error = f"{m.mismatches} differ"
    limit = v.limit.max_abs if v.limit else 0.0 if m.kind == "discrete" else None
    shape = m.shape_expected
    dtype = m.dtype_expected or ""
    if m.dtype_actual and m.dtype_actual != m.dtype_expected:
        dtype = f"{m.dtype_expected} -> {m.dtype_actual}"
    shown = "x".join(map(str, shape)) if shape else "scalar" if shape == () else ""
    if m.shape_actual is not None and m.shape_actual != shape:
        shown += f" -> {'x'.join(map(str, m.shape_actual)) or 'scalar'}"
    ops = ops_of(graph, row)
    onnx_ops = "constant" if row.planned.constant else " ".join(ops[-3:])
    if len(ops) > 3:
        onnx_ops = f"... {onnx_ops}"
    who = "" if v.who is Who.BOTH_WITHIN_ROUNDING else v.who.value
    return (
        tap.name,
        short_op(tap.op),
        onnx_ops,
        shown,
        dtype,
        error,
        "" if limit is None else figure(limit),
        v.status.value,
        who,
        tap.source,
    )


def matrix(diagnosis: Diagnosis) -> str:
    """Which variations agree with float64."""
    if not diagnosis.matrix:
        return ""
    lines = ["| variation | each op | as one |", "|---|---|---|"]
    for v in diagnosis.matrix:
        row = (v.name, outcome(v.separate), outcome(v.together))
        lines.append("| " + " | ".join(markdown(cell) for cell in row) + " |")
    return "\n".join(lines)


def outcome(result: VariationResult) -> str:
    """One cell of the matrix: agrees or not, and the worst error over its limit."""
    if result.agrees is None:
        return result.why
    if result.agrees:
        if result.why:
            return result.why
        return "agrees" if result.strain is None else f"agrees ({result.strain:.2g} x limit)"
    if result.strain is not None:
        return f"WRONG ({result.strain:.3g} x limit at {result.tap})"
    return f"WRONG ({result.why[:80]})"


def _torch(no_torch: str) -> str:
    if no_torch:
        return f"There is no `torch_layer.pt2`: {markdown(no_torch)}."
    return (
        "`torch_layer.pt2` is the same layer in PyTorch (`torch.export.load`): its inputs are what"
        " enters the layer, its outputs what leaves it."
    )


def _environment(pair: Pair) -> str:
    record = pair.report.environment
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return (
        f"export-verify {__version__}; Python {record.python}, {record.platform}; {versions}; CPU:"
        f" {' '.join(record.cpu_flags)}; case {code(pair.case.name)}"
    )
