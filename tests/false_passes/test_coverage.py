"""Nothing, or too little, was compared: coverage, outputs only, empty batches, ambiguity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from exporter.config import load_pipeline
from exporter.flows.verify import verify
from exporter.golden.check import check_golden
from exporter.golden.outcome import CaseOutcome, CheckOutcome, OutputMove, State
from exporter.golden.store import write_golden
from exporter.parity.exit_code import decide
from exporter.parity.rollup import Coverage, link_verdict
from exporter.parity.status import Status, Who
from exporter.parity.verdict import Verdict
from exporter.report.overall_verdict import ambiguous_outputs, verdict_line
from tests.false_passes.project import YAML, report_of, told, write
from tests.false_passes.way import Told, way
from tests.golden import made
from tests.support.stages import Silent
from tests.test_rejudge import saved

CODE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)

    def forward(self, x):
        return {"y": self.b(torch.relu(self.a(x)))}
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory):
    """The same function written by hand: a file that says nothing of where its values come from,
    and has none of them, its hidden units stand in another order."""
    folder = tmp_path_factory.mktemp("stranger")
    path = write(folder, CODE)
    report_of(path)
    model = onnx.load(folder / "out" / "model.onnx")
    del model.metadata_props[:]
    names = {held.name for held in (*model.graph.input, *model.graph.output)}
    for index, node in enumerate(model.graph.node):
        del node.metadata_props[:]
        node.name = f"n{index}"
    kept = {t.name for t in model.graph.initializer} | names
    renamed = {
        name: f"v{index}"
        for index, name in enumerate(
            dict.fromkeys(n for node in model.graph.node for n in node.output)
        )
        if name not in kept
    }
    for node in model.graph.node:
        for held in (node.input, node.output):
            held[:] = [renamed.get(name, name) for name in held]
    del model.graph.value_info[:]
    order = np.array([3, 0, 6, 1, 7, 2, 5, 4])
    for held in model.graph.initializer:
        axis = {"val_0": 1, "model.a.bias": 0, "val_2": 0}.get(held.name)
        if axis is not None:
            moved = np.take(onnx.numpy_helper.to_array(held), order, axis)
            held.CopyFrom(onnx.numpy_helper.from_array(moved, held.name))
    onnx.save(model, folder / "stranger.onnx")
    return folder


def verified(folder, more: str):
    """The stranger's file, judged by the pipeline with ``more`` in it."""
    path = folder / "toy.yaml"
    text = path.read_text()
    other = folder / f"toy_{abs(hash(more))}.yaml"
    other.write_text(text + more)
    return verify(
        load_pipeline(other),
        onnx=folder / "stranger.onnx",
        output_dir=folder / "out",
        progress=Silent(),
        trust=True,
        threads=1,
    )


@way("min_coverage: 0.99 and a file whose values nobody can tell apart", says="min_coverage: 0.99")
def test_coverage_of_a_file_without_taps(stranger):
    report = verified(stranger, "min_coverage: 0.99\n")
    return Told(exit_code=report.exit_code, text=report.headline)


@way("min_coverage: 0.01 and a file whose values nobody can tell apart", says="min_coverage: 0.01")
def test_little_coverage_of_a_file_without_taps(stranger):
    report = verified(stranger, "min_coverage: 0.01\nrequired: false\n")
    return Told(exit_code=report.exit_code, text=report.headline)


@way("layers: required and a file whose values nobody can tell apart", says="layers: required")
def test_required_layers_of_a_file_without_taps(stranger):
    report = verified(stranger, "layers: required\n")
    return Told(exit_code=report.exit_code, text=report.headline)


@pytest.mark.parametrize("more", ["", "layers: wanted\n", "min_coverage: 0.99\nlayers: wanted\n"])
def test_outputs_alone_pass_where_that_is_wanted_and_say_so(stranger, more):
    report = verified(stranger, more)
    assert report.exit_code == 0, report.headline
    assert "outputs only" in report.headline
    assert verdict_line(report) == "PASS, outputs only"


BATCH_0 = YAML.replace("sizes: {batch: 3,", "sizes: {batch: 0,") + "    expect_empty: [y]\n"


def batch_0() -> str:
    head, _, tail = BATCH_0.partition("default_case")
    lines = head.splitlines()
    text = "\n".join(line for line in lines if "expect_empty" not in line)
    yaml = f"{text}\n    expect_empty: [y]\ndefault_case{tail.replace('    expect_empty: [y]', '')}"
    return yaml.replace("axes: {", "axes: {batch: {minimum: 0, example: 3}, ")


@way("the only case has a batch of 0", says="no element")
def test_batch_of_nothing(tmp_path):
    return told(write(tmp_path / "empty", CODE, batch_0()))


@way("every tap is empty", says="hold no element")
def test_link_of_empty_taps():
    empty = Verdict(
        name="a", status=Status.EMPTY_AS_DECLARED, who=Who.UNKNOWN, reason="empty as declared"
    )
    coverage = Coverage(expected=3, compared=0, empty=3, fused=0, missing=0)
    found = link_verdict("layers", [empty], coverage)
    return Told(exit_code=decide([(found.status, True)]).exit_code, text=found.reason)


@way("empty taps make up for those that are missing", says="missing")
def test_empty_taps_cover_nothing():
    good = Verdict(name="a", status=Status.PASS, who=Who.UNKNOWN, reason="")
    coverage = Coverage(expected=100, compared=1, empty=98, fused=0, missing=1, minimum=0.99)
    found = link_verdict("layers", [good], coverage)
    return Told(exit_code=decide([(found.status, True)]).exit_code, text=found.reason)


def golden_outcome(cases: int, outputs: int) -> CheckOutcome:
    """A golden of which in every case some outputs moved behind an ambiguous decision."""
    moves = tuple(
        OutputMove(name=f"y{n}", observed=1.0, limit=0.0, reason="1 of 9 differ")
        for n in range(outputs)
    )
    held = tuple(
        CaseOutcome(case=f"c{n}", state=State.AMBIGUOUS, outputs=moves, ambiguous=outputs)
        for n in range(cases)
    )
    return CheckOutcome(
        pipeline="p", golden="g", cases=held, numbers=State.AMBIGUOUS, max_ambiguous=1
    )


@way("one case of a golden has fifty ambiguous outputs, the cap is one", says="ambiguous")
def test_golden_counts_outputs():
    assert golden_outcome(1, 1).exit_code == 0
    assert golden_outcome(2, 1).exit_code == 1
    found = golden_outcome(1, 50)
    return Told(exit_code=found.exit_code, text=found.state.value)


def test_an_output_counts_once_however_many_links_it_is_on():
    before = saved(layer=1.0)
    (output,) = before.outputs
    unsure = output.verdict.model_copy(update={"verdict": "ambiguous"})
    rows = [
        output.model_copy(update={"case": case, "name": name, "link": link, "verdict": unsure})
        for case in ("a", "b")
        for name in ("y", "z")
        for link in ("one", "two", "three")
    ]
    assert ambiguous_outputs(before.model_copy(update={"outputs": rows})) == 4


@way("a golden is checked on a file that has lost most of its layers", says="min_coverage")
def test_golden_of_a_file_that_lost_its_layers(tmp_path):
    pipeline = made.pipeline(tmp_path, made.TEXT + "min_coverage: 0.99\n")
    folder = tmp_path / "golden" / "made"
    # Made with another version of what makes graphs: differences of structure decide nothing.
    golden = made.golden(tmp_path, pipeline)
    golden = replace(golden, environment={**golden.environment, "onnxsim": "0.0.1"})
    write_golden(golden, folder)
    model = made.model()
    for node in model.graph.node:
        for held in (node.input, node.output):
            held[:] = ["other" if name == "hidden" else name for name in held]
    path = made.write_onnx(tmp_path, model, name="renamed.onnx")
    whole = check_golden(pipeline, folder, made.write_onnx(tmp_path, name="whole.onnx"))
    assert whole.exit_code == 0, whole
    loose = made.pipeline(tmp_path)
    assert check_golden(loose, folder, path).exit_code == 0
    found = check_golden(pipeline, folder, path)
    return Told(exit_code=found.exit_code, text=" ".join(c.reason for c in found.cases))


def test_declared_emptiness_beside_something_passes():
    found = decide([(Status.PASS, True), (Status.EMPTY_AS_DECLARED, True)])
    assert found.exit_code == 0
    good = Verdict(name="a", status=Status.PASS, who=Who.UNKNOWN, reason="")
    coverage = Coverage(expected=3, compared=1, empty=1, fused=1, missing=0)
    assert link_verdict("layers", [good, replace(good, name="b")], coverage).status is Status.PASS
    assert np.isclose(coverage.share, 1.0)


def test_an_export_that_verify_made_is_used_again_and_made_anew_once_it_was_changed(stranger):
    verified(stranger, "")
    (own,) = (stranger / "out" / "verify").glob("reference*/model.onnx")
    first, made_at = own.read_bytes(), own.stat().st_mtime_ns
    verified(stranger, "")
    assert own.stat().st_mtime_ns == made_at
    model = onnx.load(own)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, own)
    assert verified(stranger, "").exit_code == 0
    assert own.read_bytes() == first
