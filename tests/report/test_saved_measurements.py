"""A report's measurements are read as such: another type anywhere is refused at the door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import ArtifactError
from exporter.report.schema import read_report, write_report
from tests.support.reports import base


def saved(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "report.json"
    write_report(base(), path)
    tree = json.loads(path.read_text())
    held = next(link for link in tree["links"] if link["layers"])["layers"][0]["taps"][0]
    held["local"].update(change)
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"shape_actual": [{"a": 1}]},
        {"shape_actual": 3},
        {"elements": "many"},
        {"actual": 3},
        {"actual": {"elements": 1, "max_abs": {}}},
        {"scale": "wide"},
        {"scale": []},
        {"quantiles": [1]},
        {"bitwise_equal": "yes"},
        {"dtype_actual": {}},
        {"another": 1},
    ],
)
def test_a_figure_of_another_type(tmp_path: Path, change: dict[str, Any]):
    with pytest.raises(ArtifactError, match="not a report"):
        read_report(saved(tmp_path, change))


@pytest.mark.parametrize("change", [{}, {"scale": "nan"}, {"held": ["int8"]}, {"quantiles": None}])
def test_what_a_run_saves_is_read(tmp_path: Path, change: dict[str, Any]):
    assert read_report(saved(tmp_path, change)).links
