"""The YAML of a system: read whole, its mistakes said at their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.json_schema import system_schema
from exporter.config.load_system import is_system, load_graph, load_system
from exporter.config.run_options import RunOptions
from exporter.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = sorted((ROOT / "pipelines" / "systems").glob("*.yaml"))
GRAPH = """
    model: {factory: "own:Model"}
    inputs:
      x: {dtype: float32, shape: [batch, 4]}
    outputs: [y]
    cases:
      - name: one
        random: {x: {kind: normal, sizes: {batch: 2}}}
    default_case: one
"""
SYSTEM = f"""
name: both
graphs:
  first:{GRAPH}
  second: second.yaml
driver: {{kind: chain, order: [first, second]}}
cases:
  - name: one
    random: {{x: {{kind: normal, sizes: {{batch: 1}}}}}}
default_case: one
"""
SECOND = "name: second" + GRAPH.replace("\n    ", "\n")


def written(folder: Path, text: str = SYSTEM) -> Path:
    (folder / "second.yaml").write_text(SECOND)
    path = folder / "system.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SYSTEMS, ids=lambda path: path.stem)
def test_every_system_of_ours_is_valid(path):
    assert is_system(path)
    assert load_system(path).pipelines


def test_graphs_are_written_or_named(tmp_path):
    path = written(tmp_path)
    system = load_system(path)
    assert is_system(path) and not is_system(tmp_path / "second.yaml")
    assert [held.name for held in system.pipelines.values()] == ["both_first", "second"]
    assert system.pipelines["first"].where("outputs").endswith("system.yaml:8: outputs")


def test_a_graph_extends_a_pipeline_and_has_what_is_common(tmp_path):
    text = SYSTEM.replace(f"first:{GRAPH}", "first: {extends: second.yaml, outputs: [z]}\n")
    text = text.replace("graphs:", "common: {name: first, parity: {factor: 8}}\ngraphs:")
    system = load_system(written(tmp_path, text))
    first, second = system.pipelines.values()
    assert (first.outputs, first.parity.factor, first.name) == (("z",), 8, "first")
    assert (second.outputs, second.parity.factor) == (("y",), None)


def test_trust_reaches_every_graph(tmp_path):
    held = load_system(written(tmp_path), trust=True).pipelines.values()
    assert all(pipeline.trusted for pipeline in held)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: chain", "kind: chian", "driver: .*is not possible here"),
        ("order: [first, second]", "ordr: [first]", "driver.ordr: unknown key"),
        ("second: second.yaml", "second: third.yaml", "third.yaml"),
        ("second: second.yaml", "second: 7", "this is no pipeline"),
        ("    outputs: [y]", "    outputs: []", r"system.yaml:\d+: outputs"),
        ("order: [first, second]", "order: [first, third]", "there is no graph 'third'"),
        ("order: [first, second]", "order: [first]", "never calls the graph 'second'"),
        ("default_case: one\n", "default_case: two\n", "there is no case 'two'"),
        ("name: both", "name: both\njudge: {max_token_error_rate: 2}", "max_token_error_rate"),
    ],
)
def test_a_mistake_is_said_with_its_place(tmp_path, old, new, said):
    assert old in SYSTEM
    text = SYSTEM[::-1].replace(old[::-1], new[::-1], 1)[::-1]
    with pytest.raises(ConfigError, match=said):
        load_system(written(tmp_path, text))


def test_a_graph_of_a_system_is_a_pipeline_of_other_commands(tmp_path):
    path = written(tmp_path)
    held = load_graph(f"{path}#first")
    assert held.name == "both_first" and held.file.endswith("system.yaml#first")
    assert load_graph(tmp_path / "second.yaml").name == "second"
    assert RunOptions(trust=True).opened(f"{path}#first").trusted
    with pytest.raises(ConfigError, match="name one of them: .*#NAME"):
        load_graph(path)
    with pytest.raises(ConfigError, match="there is no graph 'third'"):
        load_graph(f"{path}#third")
    with pytest.raises(ConfigError):
        load_graph(f"{tmp_path}/none.yaml#first")


def test_the_schema_knows_every_driver():
    schema = system_schema()
    assert {"Attention", "Transducer", "Ctc", "Loop", "Chain"} <= set(schema["$defs"])
    assert "extends" in schema["properties"]
