"""What makes the file of a variant, in a process with PyTorch: run it, record what PyTorch gives.

``variant.json`` in, ``made.json`` out; what they say: ``VariantJob.said`` and ``MadeVariant``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.config import Pipeline
    from exporter.matrix.verdict import MadeVariant

VARIANT, MADE, YAML, RUN = "variant.json", "made.json", "pipeline.yaml", "run"
LENGTH_CASE = "length_{}"


def main(folder: str, parent: int) -> None:
    """Make what ``folder`` asks for."""
    from exporter.core.children import end_with_parent
    from exporter.core.runtimes import refuse_two_runtimes
    from exporter.matrix.verdict import written

    end_with_parent(parent)
    refuse_two_runtimes()
    place = Path(folder)
    said = json.loads((place / VARIANT).read_text(encoding="utf-8"))
    written(_made(said, place), place / MADE)


def _made(said: dict[str, Any], place: Path) -> MadeVariant:
    from exporter.config.load import load_pipeline
    from exporter.config.run_options import RunOptions
    from exporter.core.errors import ExportVerifyError, GoldenError, StageError
    from exporter.core.files import write_text
    from exporter.flows.golden_record import record
    from exporter.matrix.verdict import MadeVariant
    from exporter.parity.status import Status

    began = time.perf_counter()
    yaml = place / YAML
    write_text(yaml, json.dumps(said["yaml"], indent=1))
    result = {"digest": said["digest"], "folder": str(place)}
    try:
        if said["lengths"]:
            pipeline = load_pipeline(yaml, trust=said["trust"])
            cases = _length_cases(pipeline, said["length_of"], said["lengths"], place)
            said["yaml"] |= {"cases": cases, "default_case": cases[0]["name"]}
            write_text(yaml, json.dumps(said["yaml"], indent=1))
        pipeline = load_pipeline(yaml, trust=said["trust"])
        options = RunOptions(
            output_dir=place / RUN,
            golden_dir=place / "golden",
            trust=said["trust"],
            threads=said["threads"],
            cases=said["cases"],
        )
        record(pipeline, options, reason="a matrix judges files by it")
    except GoldenError as error:
        return _refused(error.problem, place, result)
    except StageError as error:
        return MadeVariant(status=Status.FAIL, reason=str(error), **result)
    except ExportVerifyError as error:
        return MadeVariant(status=Status.NOT_RUN, reason=str(error), **result)
    onnx = place / RUN / "model.onnx"
    return MadeVariant(
        status=Status.PASS,
        yaml=str(yaml),
        onnx=str(onnx),
        golden=str(place / "golden" / pipeline.name),
        content=digests_of(onnx, place / "golden" / pipeline.name),
        seconds=time.perf_counter() - began,
        **result,
    )


def digests_of(onnx: Path, golden: Path) -> dict[str, str]:
    """Digests of a file, of what lies beside it, and of its golden.

    Raises:
        GoldenError: that is none, or is damaged.
    """
    from exporter.core.artifact import sha256_of
    from exporter.golden.store import read_golden

    files = {path.name: sha256_of(path) for path in sorted(onnx.parent.glob(f"{onnx.name}*"))}
    return {**files, "golden": read_golden(golden).digest}


def _refused(problem: str, place: Path, result: dict[str, Any]) -> MadeVariant:
    """A run that did not pass says more than that no golden comes of it."""
    from exporter.matrix.verdict import FirstLayer, MadeVariant
    from exporter.parity.status import Status, status_of
    from exporter.report.schema import REPORT, read_report

    saved = place / RUN / REPORT
    report = read_report(saved) if saved.is_file() else None
    if report is None or report.verdict == Status.PASS:
        return MadeVariant(status=Status.NOT_RUN, reason=problem, **result)
    culprit = next(iter(report.culprits), None)
    first = culprit and FirstLayer(module=culprit.layer, op=culprit.op, source=culprit.source)
    status = status_of(report.verdict)
    return MadeVariant(status=status, reason=report.headline, first=first, **result)


def _length_cases(
    pipeline: Pipeline, name: str, lengths: Sequence[int], place: Path
) -> list[dict[str, Any]]:
    """The default case at each length, its inputs as files."""
    import numpy as np

    from exporter.cases.at_lengths import axis_of, with_size
    from exporter.cases.load import load_cases
    from exporter.core.files import replacing
    from exporter.graph.wrap import wrap

    sized = pipeline.model_copy(update={"lengths": {name: tuple(lengths)}})
    inputs = wrap(sized).inputs
    specs = {spec.name: spec for spec in inputs}
    axis = axis_of(sized, specs, name)
    (case,) = load_cases(sized, inputs, [sized.default_case])
    cases = []
    for length in lengths:
        at_length = with_size(case, specs, name, axis, length)
        file = place / f"{LENGTH_CASE.format(length)}.npz"
        with replacing(file) as part, part.open("wb") as stream:
            # By position: an input may be called like a parameter of savez.
            np.savez(stream, *map(np.asarray, at_length.inputs.values()))
        files = {
            key: {"file": str(file), "key": f"arr_{at}"} for at, key in enumerate(at_length.inputs)
        }
        cases.append({"name": LENGTH_CASE.format(length), "inputs": files})
    return cases


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
