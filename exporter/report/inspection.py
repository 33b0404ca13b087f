"""What ``export-verify inspect`` prints of an ONNX file. Decides nothing.

Every text comes from the file and is shown with its control characters spelled out, cut where it
is long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from exporter.report.safe_text import shorten, size

if TYPE_CHECKING:
    from exporter.execution.kernels import Support
    from exporter.graph.anatomy import Anatomy
    from exporter.graph.traps import Sprung

INTACT, CHANGED, NONE = "intact", "changed", "no certificate"
_MOST = 40
_MOST_OPS = 12
_VALUE = 300
_MOST_JSON = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One input or output as the file declares it; a symbolic axis is a name, ``?`` without one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    choices: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is to be told of a file.

    Attributes:
        state: ``INTACT``, ``CHANGED`` or ``NONE``.
        changes: in words, what is not as it was certified.
        certificate: its entries; ``None`` when there is none.
        weights_intact: whether the initialisers have the certified digest; ``None`` when there is
            nothing to hold them against.
        report: whether the report.json beside the file is the certified one; "" when there is
            none or no certificate.
        producer: who made it, as it says.
        anatomy: nodes and weights by operator and type; traps: of the catalogue; support: per
            provider, which operators have kernels.
        metadata: what else the file says of itself.
    """

    path: str
    state: str
    changes: tuple[str, ...]
    certificate: Mapping[str, str] | None
    weights_intact: bool | None
    report: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: Mapping[str, int]
    ir_version: int
    nodes: int
    initializers: int
    weights_sha256: str
    bytes: int
    weight_bytes: int
    external: tuple[str, ...]
    producer: str
    anatomy: Anatomy
    traps: tuple[Sprung, ...]
    support: tuple[Support, ...]
    metadata: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """The certificate's verdict, as long as it holds for this file; else ``""``."""
        if self.certificate is None or self.state != INTACT:
            return ""
        return self.certificate.get("verdict", "")


def inspection_json(inspection: Inspection, signed: Any = None) -> str:
    """All of it, for programs.

    Args:
        signed: what came of checking a signature, a dataclass; None when nobody asked.
    """
    data = {"verdict": inspection.verdict, **asdict(inspection)}
    if signed is not None:
        data["signature"] = asdict(signed)
    return json.dumps(data, indent=1, allow_nan=False)


def inspection_lines(inspection: Inspection) -> list[str]:
    """The same for a person; the first line says what there is to know."""
    made_of = [*anatomy_lines(inspection), *trap_lines(inspection), *support_lines(inspection)]
    return [
        *_head(inspection),
        *_values(inspection),
        *made_of,
        *_certificate(inspection),
        *_metadata(inspection),
    ]


def anatomy_lines(inspection: Inspection) -> Iterator[str]:
    """Nodes and weights, by operator and by type."""
    anatomy = inspection.anatomy
    yield "operators"
    for row in anatomy.ops[:_MOST_OPS]:
        name = row.op if not row.domain else f"{row.domain}::{row.op}"
        inside = f", {row.inside:,} of them in branches" if row.inside else ""
        weights = f"  weights {size(row.bytes)}" if row.bytes else ""
        yield f"  {shorten(name, 60)}  {row.nodes:,}{inside}{weights}"
    if len(anatomy.ops) > _MOST_OPS:
        rest = anatomy.ops[_MOST_OPS:]
        yield f"  ... and {sum(row.nodes for row in rest):,} nodes of {len(rest)} others"
    yield "weights"
    for row in anatomy.weights:
        yield f"  {row.dtype:<9} {row.elements:,} in {row.tensors:,} tensors, {size(row.bytes)}"
    if anatomy.unread:
        yield f"  not read by any node: {anatomy.unread:,}, {size(anatomy.unread_bytes)}"
    yield from (f"  {shorten(text, _VALUE)}" for text in anatomy.formats)
    for title, names in (
        ("custom operators, which need a library", anatomy.custom),
        ("operators of onnxruntime's own", anatomy.contrib),
        ("functions of the file", anatomy.functions),
    ):
        if names:
            yield f"{title}: {shorten(', '.join(names[:_MOST]), 2 * _VALUE)}"


def trap_lines(inspection: Inspection) -> Iterator[str]:
    """Known traps, or that none is known."""
    yield "known traps" if inspection.traps else "known traps: none of the catalogue"
    for trap in inspection.traps:
        names = shorten(", ".join(trap.nodes[:3]), 120)
        more = f" and {len(trap.nodes) - 3:,} more" if len(trap.nodes) > 3 else ""
        yield f"  {trap.says}"
        yield f"    at {names}{more}"


def support_lines(inspection: Inspection) -> Iterator[str]:
    """Which operators and types have kernels, per provider."""
    if inspection.support:
        yield "kernels of this onnxruntime"
    for support in inspection.support:
        if support.why:
            yield f"  {support.provider}: not known ({shorten(support.why, _VALUE)})"
            continue
        missing = dict(support.missing or {})
        listed = ", ".join(f"{name} x {n}" for name, n in list(missing.items())[:_MOST_OPS])
        lacking = sum(missing.values())
        said = f"none for {lacking:,}: {listed}" if missing else "all have one"
        out = support.written_out
        apart = f"; written out of others: {', '.join(out[:_MOST_OPS])}" if out else ""
        loose = f"; the types of {support.untyped:,} are not known" if support.untyped else ""
        text = shorten(said, 2 * _VALUE)
        yield f"  {support.provider}: {support.nodes:,} nodes, {text}{apart}{loose}"


def signature_line(good: bool, signer: str, detail: str) -> str:
    """What came of checking a signature, on one line."""
    if not good:
        return f"  NOT SIGNED: {shorten(detail, 2 * _VALUE)}"
    return f"  signed by {shorten(signer, _VALUE)}: {shorten(detail, 2 * _VALUE)}"


def _head(inspection: Inspection) -> Iterator[str]:
    path = shorten(inspection.path, 400)
    if inspection.state == CHANGED:
        yield f"{path}: CHANGED after it was certified; its verdict does not count any more"
        yield from (
            f"  changed: {shorten(line, 2 * _VALUE)}" for line in inspection.changes[:_MOST]
        )
        yield "  run or verify the file again, or take the one that was certified"
    elif inspection.state == NONE:
        yield f"{path}: not certified, the file holds no certificate"
        yield "  'export-verify run' certifies what it ships; 'verify' judges any file"
    else:
        verdict = shorten(inspection.verdict.upper(), 40)
        yield f"{path}: certified {verdict}, and unchanged since"
        yield f"  {shorten((inspection.certificate or {}).get('headline', ''), 2 * _VALUE)}"
    opsets = ", ".join(f"{shorten(d, 60)} {v}" for d, v in list(inspection.opsets.items())[:_MOST])
    made = f"; made by {shorten(inspection.producer, 120)}" if inspection.producer else ""
    yield f"  opset {opsets}; IR version {inspection.ir_version}{made}"
    yield (
        f"  {inspection.nodes:,} nodes{_inside(inspection)}, {inspection.initializers:,}"
        f" initialisers of {size(inspection.weight_bytes)}, {size(inspection.bytes)} in all"
    )
    if inspection.external:
        names = ", ".join(shorten(name, 100) for name in inspection.external[:_MOST])
        yield f"  weights lie beside it in {names}"


def _inside(inspection: Inspection) -> str:
    inside = sum(row.inside for row in inspection.anatomy.ops)
    return f" and {inside:,} more in branches" if inside else ""


def _values(inspection: Inspection) -> Iterator[str]:
    for title, values in (("inputs", inspection.inputs), ("outputs", inspection.outputs)):
        yield title
        names = [shorten(value.name, 60) for value in values[:_MOST]]
        width = max(map(len, names), default=0)
        for name, value in zip(names, values, strict=False):
            shape = ", ".join(shorten(size, 40) for size in value.shape[:_MOST])
            yield f"  {name:<{width}}  {value.dtype:<7}  [{shape}]{_choices(value)}"
        if len(values) > _MOST:
            yield f"  ... and {len(values) - _MOST:,} more"
    dynamic = _dynamic(inspection)
    yield "dynamic axes"
    for axis, places in list(dynamic.items())[:_MOST]:
        yield f"  {shorten(axis, 60)}: {shorten(', '.join(places), _VALUE)}"
    if not dynamic:
        yield "  none: every size is fixed"


def _choices(value: Value) -> str:
    if not value.choices:
        return ""
    names = [f"{shorten(k, 30)}={v}" for k, v in list(value.choices.items())[:_MOST]]
    return f"  one of {', '.join(names)}"


def _dynamic(inspection: Inspection) -> dict[str, list[str]]:
    """Symbolic axis -> where it stands."""
    places: dict[str, list[str]] = {}
    for value in (*inspection.inputs, *inspection.outputs):
        for axis, extent in enumerate(value.shape):
            if isinstance(extent, str):
                places.setdefault(extent, []).append(f"{value.name} axis {axis}")
    return places


def _certificate(inspection: Inspection) -> Iterator[str]:
    certificate = inspection.certificate
    if certificate is None:
        return
    stale = "" if inspection.state == INTACT else " (of the file as it was, not as it is)"
    yield f"certificate{stale}"
    weights = "as certified" if inspection.weights_intact else "NOT those that were certified"
    rows = [
        ("verdict", f"{certificate.get('verdict', '?')}: {certificate.get('headline', '')}"),
        (
            "pipeline",
            f"{certificate.get('pipeline', '?')}, digest {certificate.get('pipeline_digest', '?')}",
        ),
        (
            "weights",
            f"{certificate.get('weights', '?')}, digest {certificate.get('weights_digest', '?')}",
        ),
        ("initialisers", f"sha256 {inspection.weights_sha256}: {weights}"),
        ("golden", f"{certificate.get('golden', '?')} ({certificate.get('golden_state', '?')})"),
        ("limits", _limits(certificate.get("limits", ""))),
        ("values inside", _counts(certificate.get("taps", ""))),
        ("links", _counts(certificate.get("links", ""))),
        ("contracts", _counts(certificate.get("contracts", "")) or "none declared"),
        ("cases", ", ".join(map(str, _listed(certificate.get("cases", ""))))),
        (
            "report",
            f"{certificate.get('report_digest', '?')}"
            f"{inspection.report and '; '}{inspection.report}",
        ),
        ("content", f"sha256 {certificate.get('content_sha256', '?')}"),
        ("made by", _made_by(certificate)),
    ]
    for label, text in rows:
        yield f"  {label:<13} {shorten(text, _VALUE)}"
    for line in _listed(certificate.get("not_checked", ""))[:_MOST]:
        yield f"  {'not checked':<13} {shorten(line, _VALUE)}"


def _listed(text: str) -> list[Any]:
    """A list that a certificate holds; whoever wrote the file may have put anything there."""
    content = _json(text)
    return content if isinstance(content, list) else []


def _limits(text: str) -> str:
    content = _json(text)
    if not isinstance(content, dict):
        return text
    overrides = content.get("overrides") or []
    count = len(overrides) if isinstance(overrides, list) else "?"
    return (
        f"{content.get('factor')} times what {content.get('precision')} costs PyTorch, at least"
        f" {content.get('floor_max_ulps')} (largest) and {content.get('floor_rms_ulps')} (rms)"
        f" roundings; {count} overrides; {content.get('max_ambiguous')} ambiguous allowed"
    )


def _counts(text: str) -> str:
    """``{"a": "pass", "b": "pass"}`` as ``2 pass``, ``{"compared": 3}`` as ``3 compared``."""
    content = _json(text)
    if not isinstance(content, dict):
        return text
    counts: dict[str, int] = {}
    for key, value in content.items():
        if isinstance(value, int):
            counts[str(key)] = value
        else:
            counts[str(value)] = counts.get(str(value), 0) + 1
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def _made_by(facts: Mapping[str, str]) -> str:
    versions = _json(facts.get("versions", ""))
    parts: Iterable[str] = ()
    if isinstance(versions, dict):
        parts = (f"{name} {version}" for name, version in versions.items())
    return f"export-verify {facts.get('tool_version', '?')}; {', '.join(parts)}"


def _metadata(inspection: Inspection) -> Iterator[str]:
    if inspection.metadata:
        yield "metadata"
    for key, value in list(inspection.metadata.items())[:_MOST]:
        yield f"  {shorten(key, 60)}: {shorten(value[: 4 * _VALUE], _VALUE)}"
    if len(inspection.metadata) > _MOST:
        yield f"  ... and {len(inspection.metadata) - _MOST:,} more keys"


def _json(text: str) -> Any:
    """A value of the certificate; ``None`` for what is not JSON, or far too long to be ours."""
    if len(text) > _MOST_JSON:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
