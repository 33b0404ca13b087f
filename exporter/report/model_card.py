"""The block of a Hugging Face model card that a file's certificate gives, as Markdown.

A card is a README.md: a head in YAML, then text. The block has both, for pasting; what stands in it
comes from the certificate alone, and there is none of a file that was changed since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from exporter.core.errors import ArtifactError
from exporter.report.inspection import INTACT, NONE, Inspection
from exporter.report.safe_text import code, markdown, size

BEGIN, END = "<!-- export-verify: begin -->", "<!-- export-verify: end -->"
"""Around the text, so that a program finds and replaces it."""
_HEAD = "---\nlibrary_name: onnx\ntags:\n- onnx\n- export-verify\n---\n"
_ROWS = (
    ("headline", "found"),
    ("pipeline", "pipeline"),
    ("weights", "weights"),
    ("weights_digest", "weights, sha256"),
    ("content_sha256", "file without certificate, sha256"),
    ("providers", "run on"),
)


def model_card(inspection: Inspection) -> str:
    """The block of a file that is as it was certified.

    Raises:
        ArtifactError: it has no certificate, or was changed since.
    """
    facts = inspection.certificate
    if facts is None or inspection.state != INTACT:
        why = (
            "has no certificate"
            if inspection.state == NONE
            else "was changed since it was certified"
        )
        raise ArtifactError(
            f"the file {why}: there is nothing to say of it in a card",
            where=inspection.path,
            remedy="run its pipeline again; 'export-verify inspect' says what was changed",
        )
    return "\n".join([_HEAD, *_text(inspection, facts), ""])


def _text(inspection: Inspection, facts: Mapping[str, str]) -> Iterator[str]:
    yield BEGIN
    yield "## Held against PyTorch"
    yield ""
    name = inspection.path.rsplit("/", 1)[-1]
    yield (
        f"`{markdown(name)}`: **{markdown(facts['verdict']).upper()}**, by"
        f" export-verify {markdown(facts.get('tool_version', ''))}. The certificate is in the"
        " file's metadata; `export-verify inspect` holds the file against it."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    for key, title in _ROWS:
        if facts.get(key):
            yield f"| {title} | {markdown(facts[key])} |"
    for name, version in _versions(facts):
        yield f"| {markdown(name)} | {markdown(version)} |"
    yield f"| size | {size(inspection.bytes)}, {inspection.nodes:,} nodes |"
    yield ""
    yield "| input or output | type | shape |"
    yield "|---|---|---|"
    for kind, values in (("in", inspection.inputs), ("out", inspection.outputs)):
        for value in values:
            shape = ", ".join(str(part) for part in value.shape)
            yield f"| {kind} {code(value.name)} | {markdown(value.dtype)} | {code(f'[{shape}]')} |"
    yield END


def _versions(facts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        read = json.loads(facts.get("versions", "{}"))
    except (ValueError, RecursionError):
        return
    if isinstance(read, dict):
        yield from ((str(name), str(version)) for name, version in read.items())
