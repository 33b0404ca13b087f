"""A repair is switched off by name; pipelines that switch nothing off keep their digests."""

from __future__ import annotations

import pytest

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from tests.models.test_factory import project


def pipeline_with(folder, section: str):
    path = project(folder)
    path.write_text(path.read_text() + section)
    return load_pipeline(path)


def test_a_repair_is_switched_off_by_its_name(tmp_path):
    pipeline = pipeline_with(tmp_path, "capture: {repairs: {packed_sequence: false, cif: true}}\n")
    assert pipeline.capture.without == ("packed_sequence",)


def test_digests_move_only_where_something_is_switched_off(tmp_path):
    plain = pipeline_with(tmp_path / "a", "")
    wanted = pipeline_with(tmp_path / "b", "capture: {repairs: {packed_sequence: true}}\n")
    off = pipeline_with(tmp_path / "c", "capture: {repairs: {packed_sequence: false}}\n")
    assert (plain.digest, plain.graph_digest) == (wanted.digest, wanted.graph_digest)
    assert off.digest != plain.digest and off.graph_digest != plain.graph_digest


def test_the_fall_back_file_is_switched_off_and_the_default_moves_no_digest(tmp_path):
    plain = pipeline_with(tmp_path / "a", "")
    wanted = pipeline_with(tmp_path / "b", "capture: {fallback: legacy}\n")
    off = pipeline_with(tmp_path / "c", "capture: {fallback: none}\n")
    repaired = pipeline_with(tmp_path / "d", "capture: {repairs: {cif: false}}\n")
    both = pipeline_with(tmp_path / "e", "capture: {repairs: {cif: false}, fallback: legacy}\n")
    assert plain.capture.fallback == "legacy"
    assert (plain.digest, plain.graph_digest) == (wanted.digest, wanted.graph_digest)
    assert repaired.digest == both.digest != plain.digest
    assert off.digest != plain.digest and off.graph_digest != plain.graph_digest


@pytest.mark.parametrize(
    "section",
    [
        "{fallback: dynamo}",
        "{repairs: {packed: false}}",
        "{repairs: {cif: 3}}",
        "{repair: {cif: false}}",
    ],
)
def test_what_is_no_repair_is_refused_with_its_place(tmp_path, section):
    with pytest.raises(ConfigError) as raised:
        pipeline_with(tmp_path, f"capture: {section}\n")
    assert "capture" in str(raised.value.where)
