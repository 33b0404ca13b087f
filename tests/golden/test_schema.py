"""A golden whose digests are right and whose values are of other types is the user's to mend."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from exporter.core.errors import GoldenError
from exporter.golden import store
from exporter.golden.store import MANIFEST, read_golden, write_golden
from exporter.golden.values import Golden
from tests.golden import made


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Golden:
    folder = tmp_path_factory.mktemp("made")
    return made.golden(folder, made.pipeline(folder))


def resealed(golden: Golden, folder: Path, keys: tuple, value: Any) -> Path:
    """The golden with another value in its manifest, and with a digest of that."""
    write_golden(golden, folder)
    body = json.loads((folder / MANIFEST).read_text())
    del body["sha256"]
    held = body
    for key in keys[:-1]:
        held = held[key]
    held[keys[-1]] = value
    (folder / MANIFEST).write_text(store._render(body))
    return folder


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("pipeline",), 3),
        (("graph_digest",), ["a"]),
        (("weights",), "seeded"),
        (("weights", "source"), None),
        (("environment",), [1]),
        (("environment", "numpy"), {"a": 1}),
        (("judged",), 3),
        (("judged", "verdict"), 1),
        (("judged", "policy"), "none"),
        (("run",), 7),
        (("run", "threads"), "2"),
        (("run", "threads"), 10**30),
        (("run", "level"), "most"),
        (("run", "window_bytes"), 0),
        (("inputs",), {"x": 1}),
        (("inputs", 0, "dtype"), "complex64"),
        (("inputs", 0, "shape"), [-3, 64]),
        (("inputs", 0, "shape"), [2**62]),
        (("inputs", 0, "axes", 0, "minimum"), 0.5),
        (("left_out",), "one"),
        (("graph",), ["graph.json"]),
        (("graph",), "elsewhere.json"),
        (("cases",), None),
        (("cases", 0, "name"), ["one"]),
        (("cases", 0, "file"), "elsewhere.safetensors"),
        (("cases", 0, "inputs"), []),
        (("cases", 0, "expect_empty"), [1]),
        (("cases", 0, "outputs", 0, "witness"), "zz"),
        (("cases", 0, "outputs", 0, "dtype"), "int64"),
        (("cases", 0, "outputs", 0, "shape"), [1]),
        (("cases", 0, "outputs", 0, "values"), "yes"),
        (("files",), [1]),
    ],
)
def test_a_value_of_another_type_is_named_and_refused(golden, tmp_path, keys, value):
    folder = resealed(golden, tmp_path / "g", keys, value)
    with pytest.raises(GoldenError) as told:
        read_golden(folder)
    assert told.value.where is not None
    assert told.value.remedy is not None


@pytest.mark.parametrize("limit", [math.nan, -1.0, math.inf])
def test_a_limit_that_nothing_exceeds_is_refused(golden, tmp_path, limit):
    keys = ("cases", 0, "outputs", 0, "limit_max")
    with pytest.raises(GoldenError, match="limit_max"):
        read_golden(resealed(golden, tmp_path / "g", keys, limit))


def test_a_healthy_golden_that_was_sealed_again_is_read(golden, tmp_path):
    folder = resealed(golden, tmp_path / "g", ("reason",), "another")
    assert read_golden(folder).reason == "another"


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update({"taps.limits": np.full_like(a["taps.limits"], np.nan)}),
        lambda a: a.update({"taps.limits": a["taps.limits"].astype(np.float32)}),
        lambda a: a.update({"taps.bits": a["taps.bits"][:-1]}),
        lambda a: a.update({"taps.close": a["taps.close"][:, None]}),
        lambda a: a.update({"taps.nonfinite": a["taps.nonfinite"][:, :2]}),
        lambda a: a.update({"output.ids": a["output.ids"][:1]}),
        lambda a: a.update({"output.ids": a["output.ids"].astype(np.float32)}),
        lambda a: a.update({"output.scores": a["output.scores"][:1, :1]}),
        lambda a: a.pop("taps.stats"),
    ],
)
def test_columns_of_another_form_are_refused(golden, tmp_path, change):
    """Values of one element would be compared with every element of the file's."""
    row = json.loads((write(golden, tmp_path) / MANIFEST).read_text())["cases"][0]
    arrays = dict(load((tmp_path / "g" / row["file"]).read_bytes()))
    change(arrays)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with pytest.raises(GoldenError, match="not a golden of this program"):
        read_golden(with_file(tmp_path / "g", row["file"], data))


@pytest.mark.parametrize("text", ["[", "null", '{"taps": 1}', '{"taps": [[1]], "nodes": []}'])
def test_a_graph_of_another_form_is_refused(golden, tmp_path, text):
    folder = write(golden, tmp_path)
    name = json.loads((folder / MANIFEST).read_text())["graph"]
    with pytest.raises(GoldenError, match="not a golden of this program"):
        read_golden(with_file(folder, name, text.encode()))


def write(golden: Golden, tmp_path: Path) -> Path:
    write_golden(golden, tmp_path / "g")
    return tmp_path / "g"


def with_file(folder: Path, name: str, data: bytes) -> Path:
    """A golden with another file under the old name, and with a digest of it."""
    import hashlib

    (folder / name).write_bytes(data)
    body = json.loads((folder / MANIFEST).read_text())
    del body["sha256"]
    body["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(store._render(body))
    return folder
