"""What a check says of a file: each state, the first layer, and never anything by accident."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from onnx import helper, numpy_helper

from exporter import cli
from exporter.golden.check import check_golden
from exporter.golden.judge_case import Observed, judge_case
from exporter.golden.outcome import State
from exporter.golden.sketch import sketch
from exporter.golden.store import MANIFEST, write_golden
from exporter.report.golden_check import (
    golden_annotations,
    golden_lines,
    golden_records,
    golden_summary,
)
from tests.golden import made

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def held(tmp_path):
    """A pipeline with its golden in ``golden/made`` and its file in ``model.onnx``."""
    pipeline = made.pipeline(tmp_path)
    write_golden(made.golden(tmp_path, pipeline), tmp_path / "golden" / "made")
    made.write_onnx(tmp_path)
    return pipeline


def check(held, tmp_path, model=None, **options):
    path = made.write_onnx(tmp_path, model)
    return check_golden(held, tmp_path / "golden" / "made", path, **options)


def change_weight(name, change):
    model = made.model()
    for tensor in model.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).copy()
            change(values)
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def test_the_file_that_was_recorded_is_the_same(held, tmp_path):
    outcome = check(held, tmp_path)
    assert outcome.state is State.SAME and outcome.exit_code == 0
    assert [case.state for case in outcome.cases] == [State.SAME, State.SAME]
    assert all(case.compared == 4 and case.lost == 0 for case in outcome.cases)
    assert outcome.structure == () and outcome.environment == ()


def test_a_file_that_only_rounds_otherwise_is_within_rounding(held, tmp_path, monkeypatch):
    """The same network as two halves that are added: other sums, no other numbers."""
    first, _ = made.weights()
    model = made.model()
    graph = model.graph
    for half in (0, 1):
        rows = np.zeros_like(first)
        rows[half::2] = first[half::2]
        graph.initializer.append(numpy_helper.from_array(rows, f"half{half}"))
        graph.node.insert(half, helper.make_node("MatMul", ["x", f"half{half}"], [f"part{half}"]))
    graph.node[2].CopyFrom(helper.make_node("Add", ["part0", "part1"], ["hidden"]))
    # The graph differs on purpose; here only the numbers are asked.
    monkeypatch.setattr("exporter.golden.judge_file.structure_decides", lambda environment: False)
    outcome = check(held, tmp_path, model)
    assert outcome.state is State.WITHIN_ROUNDING and outcome.exit_code == 0
    assert len(outcome.structure) == 3 and "decides nothing" in " ".join(outcome.notes)


@pytest.mark.parametrize(
    ("weight", "layer", "outputs"),
    [("W1", "first", ["scores", "ids"]), ("W2", "second", ["scores"])],
)
def test_numbers_alone_name_the_first_layer(held, tmp_path, monkeypatch, weight, layer, outputs):
    monkeypatch.setattr("exporter.golden.judge_file.structure_decides", lambda environment: False)

    def rounded(values):
        values[...] = values.astype(np.float16)

    outcome = check(held, tmp_path, change_weight(weight, rounded))
    assert outcome.state is State.MOVED and outcome.exit_code == 1
    first = outcome.cases[0].first
    assert first.module == layer and first.by == "numbers" and first.observed > first.limit > 0
    assert "scores" in [move.name for move in outcome.cases[0].outputs]


def test_what_no_number_shows_is_seen_in_the_graph(held, tmp_path):
    def tiny(values):
        values[0, 0] = np.nextafter(values[0, 0], np.float32(9))

    outcome = check(held, tmp_path, change_weight("W2", tiny))
    case = outcome.cases[0]
    assert outcome.state is State.MOVED and case.first.by == "graph"
    assert case.first.module == "second" and "constants" in case.first.reason
    assert case.outputs == () and "no output moved" in case.reason


def test_nan_and_a_file_that_stops_have_moved(held, tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.golden.judge_file.structure_decides", lambda environment: False)

    def poison(values):
        values[3, 3] = np.nan

    outcome = check(held, tmp_path, change_weight("W2", poison))
    assert outcome.state is State.MOVED and outcome.cases[0].first.module == "second"
    assert "NaN" in outcome.cases[0].first.reason
    model = made.model()
    node = helper.make_node("Expand", ["hidden", "shape"], ["active"], name="n2")
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 96]), "shape"))
    model.graph.node[1].CopyFrom(node)
    outcome = check(held, tmp_path, model)
    assert outcome.state is State.MOVED and outcome.cases[0].first.module == "act"
    assert "onnxruntime stopped" in outcome.cases[0].first.reason


def test_a_layer_that_the_file_lost_is_counted_and_no_layer_at_all_fails(
    held, tmp_path, monkeypatch
):
    monkeypatch.setattr("exporter.golden.judge_file.structure_decides", lambda environment: False)
    model = made.model()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "hidden":
                    names[index] = "renamed"
    outcome = check(held, tmp_path, model)
    assert outcome.state is State.WITHIN_ROUNDING and outcome.cases[0].lost == 1
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "active":
                    names[index] = "renamed_too"
    outcome = check(held, tmp_path, model)
    assert outcome.exit_code == 1 and "no layer of the golden" in outcome.cases[0].reason


def test_environment_and_numbers_are_said_apart(held, tmp_path):
    folder = tmp_path / "golden" / "made"
    golden = made.golden(tmp_path, held)
    write_golden(made.changed_environment(golden, onnxruntime="1.2.3"), folder)
    outcome = check(held, tmp_path)
    assert outcome.state is State.ENVIRONMENT_MOVED and outcome.exit_code == 0
    assert outcome.numbers is State.SAME and outcome.structure_decides
    text = "\n".join(golden_lines(outcome))
    assert "numbers      same" in text and "onnxruntime 1.2.3 -> " in text

    def rounded(values):
        values[...] = values.astype(np.float16)

    outcome = check(held, tmp_path, change_weight("W1", rounded))
    assert outcome.state is State.MOVED and outcome.exit_code == 1
    assert "onnxruntime 1.2.3" in "\n".join(golden_lines(outcome))


def test_another_version_of_what_makes_graphs_lets_the_graph_decide_nothing(held, tmp_path):
    golden = made.golden(tmp_path, held)
    changed = made.changed_environment(golden, onnxsim="0.0.1")
    write_golden(changed, tmp_path / "golden" / "made")

    def tiny(values):
        values[0, 0] = np.nextafter(values[0, 0], np.float32(9))

    outcome = check(held, tmp_path, change_weight("W2", tiny))
    assert outcome.state is State.ENVIRONMENT_MOVED and outcome.numbers is State.WITHIN_ROUNDING
    assert len(outcome.structure) == 1 and not outcome.structure_decides


def test_tampered_and_missing(held, tmp_path):
    folder = tmp_path / "golden" / "made"
    path = next(folder.glob("one-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    outcome = check(held, tmp_path)
    assert outcome.state is State.TAMPERED and outcome.exit_code == 2
    assert path.name in outcome.reason
    (folder / MANIFEST).unlink()
    outcome = check(held, tmp_path)
    assert outcome.state is State.MISSING and outcome.exit_code == 1


def test_other_inputs_new_cases_and_lost_cases_are_not_good(held, tmp_path):
    text = made.TEXT.replace("seed: 1", "seed: 3")
    outcome = check(made.pipeline(tmp_path, text), tmp_path)
    assert outcome.state is State.MOVED and "input(s) x are not those" in outcome.cases[0].reason
    text = made.TEXT.replace("name: two", "name: three")
    outcome = check(made.pipeline(tmp_path, text), tmp_path)
    states = {case.case: case.state for case in outcome.cases}
    assert states == {"one": State.SAME, "two": State.MOVED, "three": State.MISSING}
    assert outcome.exit_code == 1


def test_a_case_left_out_on_demand_is_said(held, tmp_path):
    outcome = check(held, tmp_path, cases=["two"])
    assert [case.case for case in outcome.cases] == ["two"] and outcome.exit_code == 0
    assert "not checked, on demand: case(s) one" in outcome.notes


def test_a_decision_within_rounding_is_ambiguous_and_a_clear_one_has_moved(held, tmp_path):
    golden = made.golden(tmp_path, held)
    case = golden.cases[0]
    values = case.outputs[1].values.copy()
    taps = {
        tap.onnx_name: expected.sketch for tap, expected in zip(golden.taps, case.taps, strict=True)
    }
    values[0] = (values[0] + 1) % 50
    observed = Observed(
        outputs={"scores": case.outputs[0].values, "ids": values},
        taps={**taps, "ids": sketch("ids", values)},
    )
    assert judge_case(case, golden.taps, observed).state is State.MOVED
    close = (*case.taps[:3], replace(case.taps[3], close=1))
    outcome = judge_case(replace(case, taps=close), golden.taps, observed)
    assert outcome.state is State.AMBIGUOUS and "below the rounding noise" in outcome.reason


def command(tmp_path, *more):
    return cli.main(
        [
            *(
                "golden",
                "check",
                str(tmp_path / "made.yaml"),
                "--onnx",
                str(tmp_path / "model.onnx"),
            ),
            *("--golden-dir", str(tmp_path / "golden")),
            *("--output-dir", str(tmp_path / "runs"), *more),
        ]
    )


def test_the_command_ends_with_the_right_code_and_formats(held, tmp_path, capsys):
    assert command(tmp_path) == 0
    assert "golden made: same" in capsys.readouterr().out
    assert command(tmp_path, "--format", "json", "--junit", str(tmp_path / "j.xml")) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["state"] == "same" and data["cases"][0]["state"] == "same"
    suite = Xml.parse(tmp_path / "j.xml").getroot()[0]
    assert suite.get("tests") == "2" and suite.get("failures") == suite.get("skipped") == "0"

    def zero(values):
        values[...] = 0

    made.write_onnx(tmp_path, change_weight("W2", zero))
    assert command(tmp_path, "--junit", str(tmp_path / "j.xml"), "--format", "json") == 1
    data = json.loads(capsys.readouterr().out)
    assert data["cases"][0]["first"]["module"] == "second" and data["exit_code"] == 1
    assert Xml.parse(tmp_path / "j.xml").getroot()[0].get("failures") == "2"


def test_a_tampered_golden_is_exit_2_and_red_in_junit(held, tmp_path, capsys):
    path = tmp_path / "golden" / "made" / MANIFEST
    path.write_text(path.read_text().replace("a test", "a tent"))
    assert command(tmp_path, "--junit", str(tmp_path / "j.xml")) == 2
    assert "golden made: tampered" in capsys.readouterr().out
    assert Xml.parse(tmp_path / "j.xml").getroot()[0].get("failures") == "1"
    assert cli.main(["golden", "list", "--golden-dir", str(tmp_path / "golden")]) == 2


def test_list_and_diff(held, tmp_path, capsys):
    folder = tmp_path / "golden"
    assert cli.main(["golden", "list", "--golden-dir", str(folder)]) == 0
    assert "a test" in capsys.readouterr().out
    other = made.golden(tmp_path, held)
    write_golden(replace(other, reason="because"), tmp_path / "same")
    assert cli.main(["golden", "diff", str(folder / "made"), str(tmp_path / "same")]) == 0
    assert "reason: a test -> because" in capsys.readouterr().out
    case = other.cases[0]
    moved = sketch("active", np.ones(case.taps[1].sketch.shape, np.float32))
    taps = (case.taps[0], replace(case.taps[1], sketch=moved), *case.taps[2:])
    write_golden(
        replace(other, cases=(replace(case, taps=taps), other.cases[1])), tmp_path / "moved"
    )
    assert cli.main(["golden", "diff", str(folder / "made"), str(tmp_path / "moved")]) == 1
    assert "act active: mean: off by" in capsys.readouterr().out


def test_github_gets_annotations_and_a_summary(held, tmp_path, capsys, monkeypatch):
    def zero(values):
        values[...] = 0

    made.write_onnx(tmp_path, change_weight("W1", zero))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert command(tmp_path) == 1
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("::error ")]
    assert len(lines) == 2
    assert lines[0].startswith(f"::error file={tmp_path / 'made.yaml'},title=golden made%2C one")
    assert "first layer that moved: 'first'" in lines[0]
    assert "| one | moved |" in (tmp_path / "summary.md").read_text()


def test_hostile_names_end_no_workflow_command(held, tmp_path):
    outcome = check(held, tmp_path)
    case = replace(
        outcome.cases[0], state=State.MOVED, case="a\n::set-env x", reason="100%\r\n::error::x"
    )
    outcome = replace(outcome, cases=(case,), numbers=State.MOVED)
    (line,) = golden_annotations(outcome, "a,b:c.yaml")
    assert "\n" not in line and "\r" not in line and "file=a%2Cb%3Ac.yaml" in line
    assert "100%25%0D%0A::error::x" in line
    assert "\n::set-env" not in golden_summary(outcome)
    assert all("\n" not in line for line in golden_lines(outcome))


def test_the_advice_names_the_yaml(held, tmp_path):
    def zero(values):
        values[...] = 0

    advice = check(held, tmp_path, change_weight("W1", zero)).advice
    place = f"--golden-dir {tmp_path / 'golden'}"
    assert f"golden record {tmp_path / 'made.yaml'} {place} --reason TEXT" in advice


def test_nothing_judged_is_never_good(held, tmp_path):
    outcome = replace(check(held, tmp_path), cases=(), numbers=None)
    assert outcome.exit_code == 1
    assert [record.verdict for record in golden_records(outcome)] == ["not run"]


def test_a_check_imports_no_torch(held, tmp_path):
    code = (
        "import sys\n"
        "from exporter import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "print(code, sorted({'torch', 'funasr', 'onnxsim', 'silero_vad'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "golden", "check", str(tmp_path / "made.yaml")),
            *("--onnx", str(tmp_path / "model.onnx"), "--golden-dir", str(tmp_path / "golden")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


_OPENED = """\
import sys
from importlib.metadata import packages_distributions
opened = set()
def note(event, args):
    if event == "open" and isinstance(args[0], str) and "site-packages/" in args[0]:
        opened.add(args[0].partition("site-packages/")[2].partition("/")[0])
sys.addaudithook(note)
from exporter import cli
from exporter.core.children import guard
guard()  # this process is the child that looks into the file
code = cli.main(sys.argv[1:])
known = packages_distributions()
opened.discard("__pycache__")  # of modules of one file, whoever's
used = {d for name in opened for d in known.get(name.removesuffix(".py"), ())}
print(code, *sorted(used))
"""


def test_other_versions_are_checked_with_all_that_a_check_opens(held, tmp_path):
    """A cell of a matrix installs a handful of packages and must not forget one."""
    from exporter.matrix.jobs import CHECK_NEEDS

    done = subprocess.run(
        [
            *(sys.executable, "-B", "-c", _OPENED, "golden", "check", str(tmp_path / "made.yaml")),
            *("--onnx", str(tmp_path / "model.onnx"), "--golden-dir", str(tmp_path / "golden")),
            *("--output-dir", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    code, *used = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    ours = {"export-verify", "onnxruntime", "onnxruntime-gpu"}  # a cell names its runtime itself
    assert {"bokeh", "onnx", "pydantic"} <= {name.lower() for name in used}
    missing = {name.lower() for name in used} - closure(CHECK_NEEDS) - ours
    assert not missing, f"add to CHECK_NEEDS: {sorted(missing)}"


def closure(names):
    """These distributions and all that they require, lower case."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.match(r"[\w.-]+", waiting.pop()).group().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):
                waiting += [need for need in requires(name) or () if "extra ==" not in need]
    return found | {name.replace("-", "_") for name in found}
