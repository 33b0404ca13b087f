"""The hook in front of a commit: pipelines load, certified files are unchanged."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import yaml
from onnx import helper

from exporter.cli import main
from exporter.core.artifact import sha256_of
from exporter.graph.certificate import certify
from exporter.graph.onnx_file import open_artifact

ROOT = Path(__file__).resolve().parents[1]


def onnx_file(path: Path, verdict: str = "") -> Path:
    ends = [helper.make_tensor_value_info(name, 1, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    if verdict:
        facts = {"verdict": verdict, "headline": "all links agree", "pipeline": "<b>mine</b>"}
        certify(open_artifact(path)[0], {**facts, "versions": '{"torch": "2.13.0"}'})
    return path


def test_pipelines_and_systems_of_this_repository_are_clean():
    paths = [*(ROOT / "pipelines").glob("*.yaml"), *(ROOT / "pipelines" / "systems").glob("*.yaml")]
    assert len(paths) > 20 and main(["lint", *map(str, paths)]) == 0


def test_every_file_is_told_of_and_the_worst_decides(tmp_path, capsys):
    good = onnx_file(tmp_path / "good.onnx", "pass")
    plain = onnx_file(tmp_path / "plain.onnx")
    assert main(["lint", str(good), str(plain)]) == 0
    bad = onnx_file(tmp_path / "bad.onnx", "fail")
    changed = onnx_file(tmp_path / "changed.onnx", "pass")
    model = onnx.load(changed)
    model.graph.node[0].op_type = "Abs"
    onnx.save(model, changed)
    assert main(["lint", str(good), str(bad), str(changed)]) == 1
    said = capsys.readouterr().err
    assert "bad.onnx" in said and "changed.onnx" in said and "good.onnx" not in said
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nmodell: {}\n")
    assert main(["lint", str(wrong), str(changed), str(tmp_path / "gone.yaml")]) == 2
    said = capsys.readouterr().err
    assert "wrong.yaml:2" in said and "changed.onnx" in said and "gone.yaml" in said


def test_the_hooks_name_a_command_that_there_is():
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert len(hooks) == 2
    for hook in hooks:
        assert {"id", "name", "entry", "language", "files"} <= set(hook)
        program, *words = hook["entry"].split()
        assert program == "export-verify" and main([*words]) == 0


def test_a_card_is_made_of_a_certificate_and_of_nothing_else(tmp_path, capsys):
    path = onnx_file(tmp_path / "model.onnx", "pass")
    assert main(["inspect", str(path), "--model-card"]) == 0
    card = capsys.readouterr().out
    head, text = card.split("---\n", 2)[1:]
    assert yaml.safe_load(head)["library_name"] == "onnx"
    assert "**PASS**" in text and "| torch | 2" in text and "<b>" not in text
    assert "<code>x</code>" in text and "batch, 4" in text
    assert sha256_of(path)[:12] not in text  # the certified content, not the file around it
    assert main(["inspect", str(onnx_file(path, "fail")), "--model-card"]) == 1
    assert "**FAIL**" in capsys.readouterr().out


@pytest.mark.parametrize("verdict", ["", "pass"])
def test_there_is_no_card_without_a_certificate_that_holds(tmp_path, capsys, verdict):
    path = onnx_file(tmp_path / "model.onnx", verdict)
    if verdict:
        model = onnx.load(path)
        model.graph.node[0].op_type = "Abs"
        onnx.save(model, path)
    assert main(["inspect", str(path), "--model-card"]) == 2
    said = capsys.readouterr()
    assert not said.out and ("was changed" if verdict else "no certificate") in said.err


def test_the_schema_is_ready_for_a_catalogue():
    import json

    from exporter.config.json_schema import PIPELINE_ID, pipeline_schema

    entry = json.loads((ROOT / "docs" / "schemastore.json").read_text(encoding="utf-8"))
    schema = pipeline_schema()
    assert entry["url"] == schema["$id"] == PIPELINE_ID
    assert set(entry) == {"name", "description", "fileMatch", "url"}
    assert json.loads((ROOT / "pipelines" / "schema.json").read_text()) == schema
