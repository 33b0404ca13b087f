"""Small entries, for tests of the cache."""

from __future__ import annotations

from pathlib import Path

from exporter.cache.entry import Entry, key_of
from exporter.cache.store import Store

FILES = {"model.onnx": b"graph" * 50, "model.onnx.data": b"w" * 600, "program/ops.json": b"[]"}


def parts(name: str) -> dict[str, str]:
    return {"weights": name, "sources": "same"}


def key(name: str) -> str:
    return key_of(parts(name))


def write_files(folder: Path, name: str = "a") -> Path:
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        # Atomic, as everything that writes into an output folder has to be.
        part = folder / f"{path}.new"
        part.write_bytes(content + name.encode())
        part.replace(folder / path)
    return folder


def put(store: Store, folder: Path, name: str = "a") -> Entry:
    done = store.put(
        key(name),
        write_files(folder, name),
        list(FILES),
        parts=parts(name),
        label=f"pipeline {name}",
        facts={"nodes": 3},
        digests={},
    )
    assert isinstance(done, Entry), done
    return done


def holds(folder: Path, name: str = "a") -> bool:
    return all((folder / p).read_bytes() == c + name.encode() for p, c in FILES.items())
