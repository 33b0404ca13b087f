"""scripts/run_all.py: a row for every pipeline, whatever became of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "scripts" / "run_all.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_all"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_all"]


def told(folder: Path, error: str, code: int = 2) -> None:
    folder.mkdir(parents=True)
    said = json.dumps({"code": code, "error": error})
    (folder / "last_run.json").write_text(said, encoding="utf-8")


def test_every_pipeline_of_the_repository_has_a_row(script):
    full, tiny = script.pipelines(tiny=False), script.pipelines(tiny=True)
    assert len(full) == len(tiny) > 5
    assert "metavoice" in full and "metavoice_tiny" in tiny
    assert not any(name.endswith("_tiny") for name in full)


def test_a_missing_package_is_a_row_that_says_so(script, tmp_path):
    error = (
        "error: Mimi needs the package moshi (No module named 'moshi')\n"
        "  install it with: scripts/install-upstream moshi\n"
    )
    told(tmp_path / "mimi", f"+ wrap 1 s\n{error}")
    row = script.row_of("mimi", tmp_path / "mimi")
    text = script.table([row])
    assert not row.good
    assert "**not run**: Mimi needs the package moshi" in text and "install it with" in text
    assert "error:" not in text


def test_a_pipeline_that_was_never_run_is_no_pass(script, tmp_path):
    row = script.row_of("x", tmp_path)
    assert not row.good and "**not run**: no run of it here" in script.table([row])


def test_weights_are_counted_from_the_head_of_the_file(script, tmp_path):
    tensors = {"a": torch.zeros(3, 4), "b": torch.zeros(5).half(), "ids": torch.zeros(7).long()}
    save_file(tensors, tmp_path / "weights.safetensors")
    assert script.weights_in(tmp_path) == 17
    assert script.weights_in(tmp_path / "nothing") is None


def test_a_table_replaces_what_stood_between_its_marks_only(script, tmp_path):
    page = tmp_path / "systems.md"
    page.write_text("a\n<!-- full -->\nold\n<!-- end of full -->\nb\n<!-- tiny -->\nkept\n")
    script.write(page, "full", "new")
    assert page.read_text() == (
        "a\n<!-- full -->\n\nnew\n\n<!-- end of full -->\nb\n<!-- tiny -->\nkept\n"
    )
    with pytest.raises(SystemExit, match="has no marks"):
        script.write(page, "tiny", "new")


def test_a_finished_run_has_figures(script, tiny_run):
    row = script.row_of("sensevoice_tiny", tiny_run.folder)
    cells = dict(zip(script.COLUMNS, row.cells(), strict=True))
    assert row.good and cells["verdict"] == "pass"
    assert float(cells["layers: error / limit"]) <= 1 and cells["model.onnx"].endswith("MB")
    assert "fail" not in cells["contracts"] and cells["links"].endswith("pass")


def test_the_page_of_the_repository_has_both_tables():
    page = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    for part in ("full", "tiny"):
        assert f"<!-- {part} -->" in page and f"<!-- end of {part} -->" in page
