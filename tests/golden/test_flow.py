"""Recording: from what, never from what failed, and what happens when there is no golden."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from exporter import cli
from exporter.config import load_pipeline
from exporter.config.run_options import RunOptions
from exporter.core.artifact import sha256_of
from exporter.core.errors import GoldenError
from exporter.flows import golden_check, golden_file, golden_record
from exporter.golden.diff import diff_goldens
from exporter.golden.store import MANIFEST, read_golden, write_golden
from exporter.models.user_code import _MARK as MARK
from exporter.report.schema import ArtifactRecord, write_report
from tests.golden import made
from tests.golden.faulty import FOLDER
from tests.support import reports
from tests.support.tiny_export import TINY
from tests.support.tiny_run import CASES, TinyRun


class Silent:
    """Stages that show nothing."""

    timings: dict[str, float] = {}  # noqa: RUF012

    def stage(self, name):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def phase(self, *_, **__):
        pass

    update = result = note = phase


def passing(pipeline, path: Path, **changes):
    """A report of a run of ``pipeline`` that judged ``path`` and passed."""
    base = reports.base()
    held = {"name": pipeline.name, "digest": pipeline.digest}
    artifact = ArtifactRecord(
        name=path.name, path=str(path), sha256=sha256_of(path), nodes=1, bytes=1
    )
    updates = {
        "pipeline": base.pipeline.model_copy(update=held),
        "artifacts": [artifact],
        "links": [reports.link("eager -> captured", "eager", "captured")],
        "cases": [base.cases[0].model_copy(update={"name": case.name}) for case in pipeline.cases],
        "verdict": "pass",
        "exit_code": 0,
    }
    return base.model_copy(update={**updates, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exit_code": 1, "headline": "layer 3 is wrong"}, "did not pass.*layer 3 is wrong"),
        ({"links": []}, "did not compare eager PyTorch"),
        ({"artifacts": []}, "not the file that the run judged"),
        ({"cases": []}, r"did not judge the case\(s\) one, two"),
    ],
)
def test_a_run_that_shows_nothing_is_not_recorded(tmp_path, changes, said):
    from exporter.golden.record import refuse_bad_run

    pipeline, path = made.pipeline(tmp_path), made.write_onnx(tmp_path)
    refuse_bad_run(pipeline, passing(pipeline, path), ["one", "two"], path)
    with pytest.raises(GoldenError, match=said):
        refuse_bad_run(pipeline, passing(pipeline, path, **changes), ["one", "two"], path)


def test_another_pipeline_or_a_changed_file_is_not_recorded(tmp_path):
    from exporter.golden.record import refuse_bad_run

    pipeline, path = made.pipeline(tmp_path), made.write_onnx(tmp_path)
    report = passing(pipeline, path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(GoldenError, match="not the file that the run judged"):
        refuse_bad_run(pipeline, report, ["one"], path)
    made.write_onnx(tmp_path)
    other = made.pipeline(tmp_path, made.TEXT.replace("seed: 1", "seed: 5"))
    with pytest.raises(GoldenError, match="another state of the pipeline"):
        refuse_bad_run(other, report, ["one"], path)


def test_recording_needs_a_reason(tmp_path, capsys):
    made.pipeline(tmp_path)
    assert cli.main(["golden", "record", str(tmp_path / "made.yaml")]) == 2
    assert "--reason" in capsys.readouterr().err


@pytest.fixture
def recording(monkeypatch):
    """Replace the recording itself, which would need PyTorch and an export."""

    def install(error: Exception | None = None):
        def record(pipeline, options, *, folder, **_):
            if error is not None:
                raise error
            write_golden(made.golden(folder.parents[1], pipeline), folder)

        monkeypatch.setattr(golden_check, "record", record)

    return install


def check(tmp_path, *more):
    return cli.main(
        [
            *("golden", "check", str(tmp_path / "made.yaml"), "--quiet"),
            *("--golden-dir", str(tmp_path / "golden"), "--output-dir", str(tmp_path / "run")),
            *("--format", "json", *more),
        ]
    )


def test_a_missing_golden_is_written_to_the_side_and_fails(tmp_path, capsys, recording):
    made.pipeline(tmp_path)
    recording()
    assert check(tmp_path) == 1
    found = json.loads(capsys.readouterr().out)
    candidate, folder = tmp_path / "golden" / "made.candidate", tmp_path / "golden" / "made"
    assert found["state"] == "missing" and f" mv {candidate} {folder};" in found["advice"]
    assert not folder.exists()
    # What the advice says makes the next check pass.
    candidate.rename(folder)
    path = made.write_onnx(tmp_path)
    assert check(tmp_path, "--onnx", str(path)) == 0


def test_no_candidate_comes_of_a_run_that_fails(tmp_path, capsys, recording):
    made.pipeline(tmp_path)
    recording(GoldenError("the run did not pass"))
    assert check(tmp_path) == 1
    advice = json.loads(capsys.readouterr().out)["advice"]
    assert advice == "no candidate was written: the run did not pass"


def test_a_stale_file_in_the_run_folder_is_not_what_is_checked(tmp_path, monkeypatch, capsys):
    pipeline = made.pipeline(tmp_path)
    write_golden(made.golden(tmp_path, pipeline), tmp_path / "golden" / "made")
    run = tmp_path / "run"
    run.mkdir()
    made.write_onnx(run)  # says nothing of the pipeline that it was made from
    exported = []

    def export(pipeline, options, stages):
        exported.append(options.folder(pipeline))
        return made.write_onnx(tmp_path, name="fresh.onnx")

    monkeypatch.setattr(golden_file, "_export", export)
    assert check(tmp_path) == 0 and exported == [run]
    model = made.model()
    model.metadata_props.add(key="export_verify.graph_digest", value=pipeline.graph_digest)
    path = made.write_onnx(run, model)
    assert check(tmp_path) == 0 and exported == [run] * 2  # no report says what it is
    write_report(passing(pipeline, path), run / "report.json")
    changed = []
    monkeypatch.setattr("exporter.graph.wrap.wrap", lambda pipeline: None)
    monkeypatch.setattr(golden_file, "changed_since", lambda *held: ", ".join(changed))
    assert check(tmp_path) == 0 and exported == [run] * 2
    changed.append("weights")
    assert check(tmp_path) == 0 and exported == [run] * 3
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert check(tmp_path) == 2 and exported == [run] * 3
    capsys.readouterr()


@pytest.mark.slow
def test_recording_the_tiny_model_again_gives_the_same_golden(
    tiny_run: TinyRun, tmp_path, monkeypatch
):
    # Code of other users' models that this process has loaded counts as code of this one.
    for name in [n for n, held in sys.modules.items() if getattr(held, "__dict__", {}).get(MARK)]:
        monkeypatch.delitem(sys.modules, name)
    pipeline, folder = load_pipeline(TINY), tmp_path / "golden"
    options = RunOptions(output_dir=tiny_run.folder, cases=CASES)
    golden, _ = golden_record.record(
        pipeline, options, folder=folder, reason="again", progress=Silent(), from_run=True
    )
    assert golden.left_out == ("long",) and (folder / MANIFEST).is_file()
    recorded = read_golden(FOLDER)
    found = diff_goldens(recorded, golden)
    names = {case.case: case for case in found.cases}
    assert names.pop("long").note == "removed"
    assert all(not c.outputs and not c.layers and not c.note for c in names.values()), found
    assert golden.nodes == recorded.nodes or golden.environment != recorded.environment
