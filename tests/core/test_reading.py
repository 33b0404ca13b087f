"""One door per kind of file: whatever lies there, the answer is a value or one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from exporter.config.foreign_yaml import read_foreign_yaml
from exporter.core.errors import ArtifactError
from exporter.core.reading import Door, is_regular

DOOR = Door(
    error=ArtifactError, says="this is no table", remedy="make it again", most_bytes=1 << 20
)


class Row(BaseModel):
    """A table of one column."""

    model_config = ConfigDict(strict=True)

    rows: list[int]


def table(path: Path) -> Row:
    return DOOR.record(Row, DOOR.json(path), path)


def test_what_is_as_it_should_be_comes_through(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"rows": [1, 2]}')
    assert table(path).rows == [1, 2]
    assert DOOR.record_of_json(Row, DOOR.bytes(path), path).rows == [1, 2]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"rows": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"rows": ["\\ud800"]}', "surrogates"),
        (b"[]", "dictionary"),
        (b'{"rows": {"a": 1}}', "rows: "),
        (b'{"rows": [1, "2"]}', "rows.1: "),
        (b'{"rows": [1.5]}', "rows.0: "),
        (b"x" * ((1 << 20) + 1), "too many"),
    ],
)
def test_what_is_not_is_named_with_place_and_remedy(tmp_path, data, said):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=said) as told:
        table(path)
    assert told.value.where == str(path)
    assert told.value.remedy == "make it again"


def no_file(folder: Path, kind: str) -> Path:
    path = folder / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "long":
        path = folder / ("x" * 5000)
    elif kind == "nul":
        path = Path(f"{folder}/a\0b")
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes and devices like these")
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "long", "nul", "absent"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = no_file(tmp_path, kind)
    assert not is_regular(path)
    with pytest.raises(ArtifactError, match="this is no table"):
        DOOR.bytes(path)


def test_a_link_to_a_file_is_one(tmp_path):
    (tmp_path / "t").write_text("text")
    (tmp_path / "link").symlink_to("t")
    assert DOOR.text(tmp_path / "link") == "text"


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, now in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        *("a: 2001-99-99", "a: !!int x", "a: !!bool x", "a: !!timestamp x", "a: !!binary 'a'"),
        *("a: !!int ''", "? [a]\n: b", "? {a: b}\n: c", "a: " + "9" * 6000, BOMB),
        *("a: &a [*a]", "a: " + "[" * 3000 + "]" * 3000, "a: " + "[" * 60 + "]" * 60, "a: 'x"),
        *("a: !!python/object/apply:os.system [id]", "--- a\n--- b", "\t a: b", "a: \x01"),
    ],
)
def test_yaml_of_other_programs_that_cannot_be_read(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="this is no table") as told:
        read_foreign_yaml(DOOR, path)
    assert told.value.where == str(path)


def test_healthy_yaml_of_other_programs(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a [1, 2.5, yes]\nb: *a\nc: 2001-01-01\n")
    assert read_foreign_yaml(DOOR, path)["b"] == [1, 2.5, True]
