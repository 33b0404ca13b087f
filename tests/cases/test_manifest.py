"""Manifests come in by one door, line by line; what is wrong is said with its line."""

from __future__ import annotations

import json

import pytest

from exporter.cases.manifest import read_manifest
from exporter.core.errors import ConfigError


def written(folder, *lines):
    path = folder / "m.jsonl"
    path.write_text(
        "\n".join(held if isinstance(held, str) else json.dumps(held) for held in lines)
    )
    return path


def test_lines_are_utterances(tmp_path):
    path = written(
        tmp_path,
        {"audio": "a.wav", "text": "good", "speaker": "ann", "snr": 10, "tags": {"room": "hall"}},
        "",
        {"audio_filepath": "/b.wav", "duration": 3.5, "id": 7, "inputs": {"language": "en"}},
        {"audio": "c.wav", "expect_empty": True},
    )
    first, second, third = read_manifest(path)
    assert first.audio == tmp_path / "a.wav" and first.text == "good" and first.name == "line 1"
    assert first.tags == {"speaker": "ann", "snr": 10, "room": "hall"}
    assert (str(second.audio), second.name, second.inputs) == ("/b.wav", "7", {"language": "en"})
    assert (second.number, second.tags, third.empty) == (3, {}, True)
    assert first.key != second.key


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        {"text": "without a recording"},
        {"audio": 7},
        {"audio": ""},
        {"audio": "a.wav", "text": 7},
        {"audio": "a.wav", "speaker": ["ann"]},
        {"audio": "a\0.wav"},
        {"audio": "a.wav", "expect_empty": "yes"},
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number(tmp_path, line):
    path = written(tmp_path, {"audio": "a.wav"}, line)
    with pytest.raises(ConfigError, match=r"m\.jsonl:2"):
        list(read_manifest(path))


def test_a_manifest_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_manifest(tmp_path / "none.jsonl"))
