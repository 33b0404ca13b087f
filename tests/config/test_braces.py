"""Names in braces: one line for all layers, and each at its line, with a seed of its own."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from exporter.config import load_pipeline
from exporter.config.braces import MOST_NAMES, names_in
from exporter.core.errors import ConfigError

TEXT = """\
name: mine
model: {factory: "a:b"}
inputs:
  x: {dtype: float32, shape: [batch, 4]}
  "past.{0..1}.{keys,values}": {dtype: float32, shape: [batch, 4]}
outputs: [y, "next.{0..1}.{keys,values}"]
states:
  "next.{0..1}.{keys,values}": "past.{0..1}.{keys,values}"
cases:
  - name: one
    random:
      x: {kind: normal}
      "past.{0..1}.{keys,values}": {kind: normal, seed: 7}
default_case: one
"""
NAMES = ("0.keys", "0.values", "1.keys", "1.values")


def load(folder: Path, text: str = TEXT):
    path = folder / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return load_pipeline(path)


def test_ranges_and_lists_are_written_out_the_last_one_fastest():
    assert names_in("past.{0..1}.{keys,values}") == [f"past.{name}" for name in NAMES]
    assert names_in("{a, b}{2..2}") == ["a2", "b2"]
    assert names_in("plain.0") == ["plain.0"]


def test_every_section_has_the_names_and_exchanged_inputs_would_show(tmp_path):
    pipeline = load(tmp_path)
    assert list(pipeline.inputs) == ["x", *(f"past.{name}" for name in NAMES)]
    assert pipeline.outputs == ("y", *(f"next.{name}" for name in NAMES))
    assert pipeline.states == {f"next.{name}": f"past.{name}" for name in NAMES}
    drawn = pipeline.cases[0].random or {}
    assert [drawn[f"past.{name}"].seed for name in NAMES] == [7, 8, 9, 10]


def test_a_name_stands_at_the_line_of_its_braces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = load(tmp_path)
    assert pipeline.where("inputs", "past.1.values", "dtype") == (
        "mine.yaml:5: inputs.past.1.values.dtype"
    )
    assert pipeline.where("states", "next.0.values").startswith("mine.yaml:8:")


def test_written_out_by_hand_it_is_the_same_pipeline(tmp_path):
    short = load(tmp_path)
    by_hand = TEXT.replace('"next.{0..1}.{keys,values}"]', f"next.{', next.'.join(NAMES)}]")
    spec = "{dtype: float32, shape: [batch, 4]}"
    drawn = "".join(
        f"      past.{name}: {{kind: normal, seed: {7 + n}}}\n" for n, name in enumerate(NAMES)
    )
    by_hand = by_hand.replace(
        f'  "past.{{0..1}}.{{keys,values}}": {spec}\n',
        "".join(f"  past.{name}: {spec}\n" for name in NAMES),
    )
    by_hand = by_hand.replace(
        '      "past.{0..1}.{keys,values}": {kind: normal, seed: 7}\n', drawn
    ).replace(
        '  "next.{0..1}.{keys,values}": "past.{0..1}.{keys,values}"\n',
        "".join(f"  next.{name}: past.{name}\n" for name in NAMES),
    )
    assert "{0..1}" not in by_hand
    assert load(tmp_path, by_hand).digest == short.digest


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("next.{0..1}.{keys,values}\"]", "next.{0..1.keys\"]", "other half"),
        ("next.{0..1}.{keys,values}\"]", "next.{5..2}\"]", "neither a range nor a list"),
        ("next.{0..1}.{keys,values}\"]", "next.{}\"]", "neither a range nor a list"),
        ("next.{0..1}.{keys,values}\"]", "next.{0..999999}\"]", f"at most {MOST_NAMES}"),
        (': "past.{0..1}.{keys,values}"', ": past.0.keys", "handed on to 1 inputs"),
        ("  x: {dtype", "  past.0.keys: {dtype", "named twice"),
    ],
)  # fmt: skip
def test_braces_that_say_nothing_are_refused_at_their_line(tmp_path, before, after, words):
    assert before in TEXT
    with pytest.raises(ConfigError, match=words) as raised:
        load(tmp_path, TEXT.replace(before, after))
    assert "mine.yaml:" in str(raised.value)
