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


def model_card(found: Inspection) -> str:
    """The block of a file that is as it was certified.

    Raises:
        ArtifactError: it has no certificate, or was changed since.
    """
    held = found.certificate
    if held is None or found.state != INTACT:
        why = "has no certificate" if found.state == NONE else "was changed since it was certified"
        raise ArtifactError(
            f"the file {why}: there is nothing to say of it in a card",
            where=found.path,
            remedy="run its pipeline again; 'export-verify inspect' says what was changed",
        )
    return "\n".join([_HEAD, *_text(found, held), ""])


def _text(found: Inspection, held: Mapping[str, str]) -> Iterator[str]:
    yield BEGIN
    yield "## Held against PyTorch"
    yield ""
    yield (
        f"`{markdown(found.path.rsplit('/', 1)[-1])}`: **{markdown(held['verdict']).upper()}**, by"
        f" export-verify {markdown(held.get('tool_version', ''))}. The certificate is in the file's"
        " metadata; `export-verify inspect` holds the file against it."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    for key, title in _ROWS:
        if held.get(key):
            yield f"| {title} | {markdown(held[key])} |"
    for name, version in _versions(held):
        yield f"| {markdown(name)} | {markdown(version)} |"
    yield f"| size | {size(found.bytes)}, {found.nodes:,} nodes |"
    yield ""
    yield "| input or output | type | shape |"
    yield "|---|---|---|"
    for kind, values in (("in", found.inputs), ("out", found.outputs)):
        for value in values:
            shape = ", ".join(str(part) for part in value.shape)
            yield f"| {kind} {code(value.name)} | {markdown(value.dtype)} | {code(f'[{shape}]')} |"
    yield END


def _versions(held: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    try:
        read = json.loads(held.get("versions", "{}"))
    except (ValueError, RecursionError):
        return
    if isinstance(read, dict):
        yield from ((str(name), str(version)) for name, version in read.items())
