"""``pytest --export-verify``: one test per link, contract and golden, red for the right reason."""

from __future__ import annotations

import pytest

from exporter.core.artifact import sha256_of
from exporter.golden.store import write_golden
from exporter.report.schema import ArtifactRecord, ContractRecord, write_report
from tests.golden import made
from tests.support import reports

pytest_plugins = ["pytester"]

TEXT = made.TEXT + "contracts: {padding: {}, mutation: {}, causality: false}\n"
LINKS = (
    ("eager", "captured"),
    ("captured", "exported"),
    ("exported", "simplified"),
    ("simplified", "cpu/all/1 thread(s)"),
)


@pytest.fixture
def project(pytester):
    """A folder with one pipeline, a finished run and a golden."""
    root = pytester.path
    (root / "pipelines").mkdir()
    run = root / "runs" / "made"
    run.mkdir(parents=True)
    pipeline = made.pipeline(root / "pipelines", TEXT)
    write_golden(made.golden(root, pipeline), root / "golden" / "made")
    made.write_onnx(run)
    write(pytester, pipeline)
    return pipeline


def write(pytester, pipeline, *, verdicts=None, contracts=None, exit_code=0, culprits=(), **more):
    """Write the report of the run; ``verdicts`` by name of link."""
    verdicts = verdicts or {}
    names = [(f"{left} -> {right}", left, right) for left, right in LINKS]
    names.insert(3, ("layers: captured -> simplified", "captured", "simplified"))
    base = reports.base(**more)
    path = pytester.path / "runs" / "made" / "model.onnx"
    file = ArtifactRecord(
        name=path.name, path=str(path), sha256=sha256_of(path), nodes=4, bytes=path.stat().st_size
    )
    held = base.pipeline.model_copy(update={"name": pipeline.name, "digest": pipeline.digest})
    report = base.model_copy(
        update={
            "pipeline": held,
            "artifacts": [file],
            "exit_code": exit_code,
            "verdict": "fail" if exit_code else "pass",
            "links": [
                reports.link(
                    name,
                    left,
                    right,
                    verdicts.get(name, "pass"),
                    kind="layers" if name.startswith("layers") else "outputs",
                    level="all" if right.startswith("cpu/") else "",
                )
                for name, left, right in names
                if verdicts.get(name) != "absent"
            ],
            "culprits": list(culprits),
            "contracts": [
                ContractRecord(
                    name=name, contract=name, side="torch", verdict=verdict, reason=f"{name} reason"
                )
                for name, verdict in (contracts or PASSED).items()
            ],
        }
    )
    write_report(report, pytester.path / "runs" / "made" / "report.json")


PASSED = {"padding": "pass", "mutation": "not applicable"}


def run(pytester, *more):
    return pytester.runpytest_inprocess(
        "-p", "exporter.pytest_plugin", "--export-verify", "--export-verify-reuse", "-rs", "-v",
        *more, "pipelines",
    )  # fmt: skip


def test_one_test_per_link_contract_and_golden(pytester, project):
    result = run(pytester)
    result.assert_outcomes(passed=8, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*link: eager -> captured PASSED*",
            "*link: layers PASSED*",
            "*link: deployed at level all PASSED*",
            "*contract: padding PASSED*",
            "*contract: mutation SKIPPED*",
            "*golden PASSED*",
            "*verdict PASSED*",
        ]
    )
    result.stdout.fnmatch_lines(["SKIPPED*not applicable, mutation reason*"])
    result.stdout.no_fnmatch_line("*causality*")


def test_without_the_option_nothing_is_collected(pytester, project):
    result = pytester.runpytest_inprocess("-p", "exporter.pytest_plugin", "pipelines")
    result.assert_outcomes()


def test_a_failing_link_is_short_and_names_the_layer(pytester, project):
    name = "layers: captured -> simplified"
    culprit = reports.culprit("model.encoder.encoders.3", link=name)
    write(pytester, project, verdicts={name: "fail"}, culprits=[culprit], exit_code=1)
    result = run(pytester)
    result.assert_outcomes(passed=6, skipped=1, failed=2)
    result.stdout.fnmatch_lines(["layers: captured -> simplified: fail:*"])
    result.stdout.fnmatch_lines(["*layer 'model.encoder.encoders.3', aten.linear.default at*"])
    assert len(result.stdout.lines) < 60 and "Traceback" not in result.stdout.str()


def test_what_was_not_compared_or_not_checked_fails(pytester, project):
    write(
        pytester,
        project,
        verdicts={"exported -> simplified": "absent"},
        contracts={"padding": "pass"},
    )
    result = run(pytester)
    result.assert_outcomes(passed=7, failed=2)
    result.stdout.fnmatch_lines(["the run did not compare 'exported -> simplified'"])
    result.stdout.fnmatch_lines(["the pipeline declares 'mutation', the run did not check it"])


def test_a_contract_that_does_not_hold_fails(pytester, project):
    write(pytester, project, contracts={"padding": "fail", "mutation": "not run"})
    result = run(pytester)
    result.assert_outcomes(passed=7, failed=2)
    result.stdout.fnmatch_lines(["padding [[]torch]: fail: padding reason"])


def test_a_golden_that_moved_fails_with_its_first_layer(pytester, project):
    model = made.model()
    model.graph.node[1].op_type = "Identity"
    made.write_onnx(pytester.path / "runs" / "made", model)
    write(pytester, project)
    result = run(pytester)
    result.assert_outcomes(passed=7, skipped=1, failed=1)
    result.stdout.fnmatch_lines(["golden made: moved", "*first layer that moved: 'act'*"])


def test_a_golden_that_is_missing_fails(pytester, project):
    result = run(pytester, "--export-verify-golden", "elsewhere")
    result.assert_outcomes(passed=7, skipped=1, failed=1)
    result.stdout.fnmatch_lines(
        ["golden made: missing", "*golden record pipelines/made.yaml --golden-dir elsewhere*"]
    )


def test_a_run_of_another_pipeline_and_no_run_fail_every_test(pytester, project):
    made.pipeline(pytester.path / "pipelines", TEXT.replace("seed: 1", "seed: 4"))
    result = run(pytester)
    result.assert_outcomes(failed=9)
    result.stdout.fnmatch_lines(["*is of another state of the pipeline*"])
    (pytester.path / "runs" / "made" / "report.json").unlink()
    result = run(pytester)
    result.assert_outcomes(failed=9)
    result.stdout.fnmatch_lines(["*there is no report here*"])


def test_a_yaml_that_is_no_pipeline_is_an_error(pytester, project):
    (pytester.path / "pipelines" / "other.yaml").write_text("name: x\n")
    result = run(pytester)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*other.yaml*"])


def test_the_file_in_the_fixture_is_the_one_that_was_recorded(pytester, project):
    left, right = pytester.path / "runs" / "made" / "model.onnx", pytester.path / "clean.onnx"
    assert sha256_of(left) == sha256_of(right)
