"""The certificate in a shipped ONNX file: what was found of it, bound to its very bytes.

    [ the file as it was judged: graph, weights, metadata ][ certificate ]
     <------------ content_bytes, content_sha256 --------->

The certificate is a row of ``metadata_props`` entries appended to the file; protobuf merges them
with those that are there. So the file is written without parsing its weights, everything before
the certificate stays as it was judged, and checking it means hashing one piece of a file.

It shows that a file has changed, not who wrote it: it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from exporter.core.artifact import CERTIFICATE_PREFIX as PREFIX
from exporter.core.artifact import Artifact, sha256_of
from exporter.core.children import guarded
from exporter.core.errors import ArtifactError
from exporter.core.files import refuse_special, replacing
from exporter.graph.contents import (
    Contents,
    MetadataEntry,
    metadata_digests,
    metadata_entries,
    metadata_field,
    read_contents,
)
from exporter.graph.copy_with_digest import copy_and_digest

_CHUNK = 1 << 22
_BINDING = (
    "content_bytes",
    "content_sha256",
    "external_sha256",
    "graph_sha256",
    "initializers_sha256",
    "metadata_sha256",
    "nodes",
    "initializers",
)
_SEAL = "seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A file held against its certificate.

    Attributes:
        contents: what the file holds now.
        certificate: what it says of itself, without the prefix; ``None`` when there is none.
        changes: in words what is not as it was certified; () when nothing is.
        weights_intact: the digest of the initialisers is the certified one; ``None`` without
            certificate.
    """

    contents: Contents
    certificate: Mapping[str, str] | None
    changes: tuple[str, ...]
    weights_intact: bool | None

    @property
    def intact(self) -> bool:
        """There is a certificate, and nothing has changed since."""
        return self.certificate is not None and not self.changes


def certify(judged: Artifact, facts: Mapping[str, str]) -> str:
    """Append a certificate to a file, atomically, and return the sha256 of the whole.

    Args:
        judged: the file, without certificate, as it was when it was judged; the certificate is
            of those bytes and of no others.
        facts: what was found: verdict, digests, versions, limits; keys without prefix.

    Raises:
        ArtifactError: the file is no longer the one that was judged, or has a certificate.
        ValueError: a fact has the name of a digest that is added here.
    """
    path = judged.path
    taken = {*_BINDING, _SEAL} & set(facts)
    if taken:
        raise ValueError(f"these facts are computed here: {', '.join(sorted(taken))}")
    with replacing(path) as part:
        # Reading the parts of a file and copying it are a second each; neither waits for the other.
        with ThreadPoolExecutor(1) as beside:
            copied = beside.submit(copy_and_digest, path, part)
            entries = {**facts, **_judged_binding(judged)}
            digest = copied.result()
        if digest.hexdigest() != judged.sha256:
            raise _changed(path)
        tail = _rendered({**entries, _SEAL: _seal(entries)})
        digest.update(tail)
        with part.open("ab") as target:
            target.write(tail)
    return digest.hexdigest()


def strip_certificate(path: Path) -> bool:
    """Take the certificate off a file, which is then as it was before; False if it has none.

    Raises:
        ArtifactError: not a protobuf file.
        UserInputError: a link, a pipe or a device: what it stands for is somebody else's.
    """
    refuse_special(path)
    entries = _certificate_entries(metadata_entries(path))
    if not entries:
        return False
    size, begin = path.stat().st_size, entries[0].begin
    if _contiguous(entries, size) and _cut(path, size, begin):
        return True
    # Another program has put something behind it, or the bytes belong to another name as well.
    with replacing(path) as part, path.open("rb") as source, part.open("wb") as target:
        for start, end in _kept(entries, size):
            source.seek(start)
            left = end - start
            while left:
                chunk = source.read(min(left, _CHUNK))
                if not chunk:
                    raise ArtifactError("the file became shorter as it was read", where=str(path))
                target.write(chunk)
                left -= len(chunk)
    return True


def _cut(path: Path, size: int, begin: int) -> bool:
    """Cut a file off; False where it has another name as well, or is not what was read."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != size:
            return False
        os.ftruncate(handle, begin)
        return True
    finally:
        os.close(handle)


def check_certificate(path: Path) -> Checked:
    """Hold a file against its certificate.

    Raises:
        ArtifactError: the file cannot be read (see ``read_contents``).
    """
    contents = read_contents(path)
    entries = _certificate_entries(contents.entries)
    if not entries:
        return Checked(contents=contents, certificate=None, changes=(), weights_intact=None)
    entries_by_key = {entry.key.removeprefix(PREFIX): entry.value for entry in entries}
    intact = entries_by_key.get("initializers_sha256") == contents.weights
    return Checked(
        contents=contents,
        certificate=entries_by_key,
        changes=tuple(_changes(contents, entries, entries_by_key)),
        weights_intact=intact,
    )


def is_own(path: Path) -> bool:
    """True for a file that this program made and certified, and that is as it was then."""
    return check_certificate(path).intact


def needs_trial(path: Path) -> bool:
    """True for a file that this program did not make, unless this process is one that tries a file:
    then whoever started it tells its end."""
    return not guarded() and not is_own(path)


def _changed(path: Path) -> ArtifactError:
    return ArtifactError(
        "the file was changed while it was judged: it gets no certificate",
        where=str(path),
        remedy="run the pipeline again, and let nothing else write to its folder",
    )


def _judged_binding(judged: Artifact) -> dict[str, str]:
    """What binds a certificate to the file as it is now; raises where that cannot be."""
    path = judged.path
    contents = read_contents(path)
    if _certificate_entries(contents.entries):
        raise ArtifactError("the file has a certificate already", where=str(path))
    binding = _binding(contents, judged.sha256)
    if binding["external_sha256"] != _json(judged.external):
        raise _changed(path)
    return binding


def _binding(contents: Contents, sha256: str) -> dict[str, str]:
    folder = contents.path.parent
    return {
        "content_bytes": str(contents.size),
        "content_sha256": sha256,
        "external_sha256": _json({name: sha256_of(folder / name) for name in contents.external}),
        "graph_sha256": contents.graph,
        "initializers_sha256": contents.weights,
        "metadata_sha256": _json(metadata_digests(contents.metadata)),
        "nodes": str(len(contents.model.graph.node)),
        "initializers": str(contents.initializers),
    }


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _rendered(entries: Mapping[str, str]) -> bytes:
    return b"".join(metadata_field(f"{PREFIX}{key}", entries[key]) for key in sorted(entries))


def _seal(entries: Mapping[str, str]) -> str:
    return hashlib.sha256(_rendered({k: v for k, v in entries.items() if k != _SEAL})).hexdigest()


def _certificate_entries(entries: Iterable[MetadataEntry]) -> list[MetadataEntry]:
    return [entry for entry in entries if entry.key.startswith(PREFIX)]


def _contiguous(entries: list[MetadataEntry], size: int) -> bool:
    """True when the certificate is one piece, and the last one of the file."""
    return [entry.begin for entry in entries[1:]] + [size] == [entry.end for entry in entries]


def _kept(entries: list[MetadataEntry], size: int) -> list[tuple[int, int]]:
    cuts = [0, *(at for entry in entries for at in (entry.begin, entry.end)), size]
    return [(cuts[i], cuts[i + 1]) for i in range(0, len(cuts), 2)]


def _changes(
    contents: Contents, entries: list[MetadataEntry], stated: Mapping[str, str]
) -> Iterable[str]:
    missing = [key for key in (*_BINDING, "verdict", _SEAL) if key not in stated]
    if missing or len(stated) != len(entries) or _seal(stated) != stated.get(_SEAL):
        yield "the certificate: its own digest is not the one that it states; it was edited"
        if missing:
            return
    changes = [
        *_weight_changes(contents, stated),
        *_graph_changes(contents, stated),
        *_metadata_changes(contents, stated),
    ]
    yield from changes
    in_place = _contiguous(entries, contents.size) and _same_content(contents, entries, stated)
    if not in_place and not changes:
        yield (
            "the bytes of the file: it was written again; weights, graph and metadata are those"
            " that were certified"
        )
    for name, digest in _pairs(stated["external_sha256"]).items():
        data = contents.path.parent / name
        if name in contents.external and not changes and sha256_of(data) != digest:
            yield f"the file '{name}' beside it, in bytes that no weight uses"


def _weight_changes(contents: Contents, stated: Mapping[str, str]) -> Iterable[str]:
    if contents.weights != stated["initializers_sha256"]:
        before, now = stated["initializers"], str(contents.initializers)
        count = f": {before} initialisers were certified, there are {now}" if now != before else ""
        yield f"the weights{count or ': values, names or dtypes of initialisers'}"


def _graph_changes(contents: Contents, stated: Mapping[str, str]) -> Iterable[str]:
    if contents.graph != stated["graph_sha256"]:
        before, now = stated["nodes"], str(len(contents.model.graph.node))
        count = f": {before} nodes were certified, there are {now}" if now != before else ""
        yield f"the graph{count or ': nodes, attributes, inputs, outputs, value infos or opset'}"


def _metadata_changes(contents: Contents, stated: Mapping[str, str]) -> Iterable[str]:
    own = {k: v for k, v in contents.metadata.items() if not k.startswith(PREFIX)}
    before, now = _pairs(stated["metadata_sha256"]), metadata_digests(own)
    for word, keys in (
        ("new", now.keys() - before.keys()),
        ("gone", before.keys() - now.keys()),
        ("another value", {key for key in now.keys() & before.keys() if now[key] != before[key]}),
    ):
        if keys:
            yield f"the metadata: {word}: {', '.join(sorted(keys))}"


def _same_content(
    contents: Contents, entries: list[MetadataEntry], stated: Mapping[str, str]
) -> bool:
    begin = entries[0].begin
    if stated["content_bytes"] != str(begin):
        return False
    digest = hashlib.sha256()
    with contents.path.open("rb") as stream:
        while begin and (chunk := stream.read(min(begin, _CHUNK))):
            digest.update(chunk)
            begin -= len(chunk)
    return digest.hexdigest() == stated["content_sha256"]


def _pairs(text: str) -> dict[str, str]:
    """A JSON object of strings; what is none holds nothing, which then counts as a change."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
