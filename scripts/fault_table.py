"""Make every fault of the catalogue, compare, and write the table in docs/faults.md.

    python scripts/fault_table.py [--only NAME ...] [--threads 1] [--provider cuda]
                                  [--output docs/faults.md]

Exports the tiny SenseVoice once, and once more for each fault in the module. A second or two a
fault. Exits 1 when a fault is missed or somebody innocent is named.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from exporter.core.errors import StageError  # noqa: E402
from exporter.execution.deployment import Deployment  # noqa: E402
from exporter.execution.providers import check_provider  # noqa: E402
from tests.faults.catalogue import GRAPH_FAULTS, MODULE_FAULTS  # noqa: E402
from tests.faults.fault import Fault, ModuleFault  # noqa: E402
from tests.faults.outcome import Outcome, judge_file  # noqa: E402
from tests.support.tiny_export import Export, export_tiny  # noqa: E402

HEAD = """# Faults that are found

One row per mistake that was made on purpose, in the exported and simplified graph of the tiny
SenseVoice (`pipelines/sensevoice_tiny.yaml`) or in its module before export. The reference is
always the clean module, the recording is `golden/audio/english.wav`. Written by
`scripts/fault_table.py`; `tests/faults/` asserts every row.

- **numbers**: a tap fails against float64. **structure**: the exact diff of constants,
  attributes, weights and nodes sees it. **refused**: the module is not exported, with a reason.
- **stage**, **layer**: every layer named lies in the fault's stage; the fault's own layer is
  among those named. **innocent**: layers named that are not to blame.
- **ratio**: the layer's own distance to float64 over that of float32 PyTorch. Where PyTorch is
  exact there is no ratio: "unequal" (integers, or values that were only to be moved), "NaN or
  Inf", "shape or dtype", "stops" (onnxruntime cannot run it), "exact" (PyTorch's error is 0).

| fault | what was done | numbers | structure | stage | layer | innocent | ratio |
|---|---|:-:|:-:|:-:|:-:|:-:|--:|
"""


def outcomes(
    clean: Export, only: list[str], deployment: Deployment | None = None
) -> Iterator[Outcome]:
    """One outcome per fault, as they are computed."""
    for fault in GRAPH_FAULTS:
        if not only or fault.name in only:
            model = fault.apply(clean.model, clean.program)
            yield judge_file(clean, model, fault, deployment)
    for fault in MODULE_FAULTS:
        if not only or fault.name in only:
            yield _module_outcome(clean, fault, deployment)


def _module_outcome(clean: Export, fault: ModuleFault, deployment: Deployment | None) -> Outcome:
    try:
        model = export_tiny(fault.change).model
    except StageError as error:
        return Outcome(fault=fault, refusal=str(error))
    return judge_file(clean, model, fault, deployment)


def row(fault: Fault | ModuleFault, outcome: Outcome) -> str:
    """One line of the table."""
    marks = (
        ["refused", ""]
        if outcome.refusal
        else [
            _mark(outcome.numerically),
            _mark(outcome.structurally),
        ]
    )
    layer = f"`{fault.layers[0] or '(outputs)'}`"
    cells = [
        fault.name.replace("_", " "),
        fault.what,
        *marks,
        _mark(outcome.right_stage),
        f"{_mark(outcome.right_layer)} {layer}",
        ", ".join(f"`{name}`" for name in outcome.wrongly_named) or "none",
        ratio(outcome),
    ]
    return f"| {' | '.join(cells)} |"


def ratio(outcome: Outcome) -> str:
    """The worst local ratio, or why there is none."""
    if outcome.worst is None:
        return ""
    verdict, measured = outcome.worst.verdict, outcome.worst.measurement
    if verdict.ratio is not None:
        return f"{verdict.ratio:,.0f}"
    if "onnxruntime stopped" in verdict.reason:
        return "stops"
    if measured.problem is not None:
        return "shape or dtype"
    if measured.nan_actual or measured.inf_mismatch:
        return "NaN or Inf"
    return "exact" if measured.kind == "float" else "unequal"


def summary(found: list[Outcome]) -> str:
    """The figures that the issue of the catalogue asks for."""
    total = len(found)
    named = sum(len(outcome.wrongly_named) for outcome in found)
    lines = [
        f"{total} faults: {sum(o.detected for o in found)} detected"
        f" ({sum(o.numerically for o in found)} by numbers,"
        f" {sum(o.structurally for o in found)} by structure,"
        f" {sum(bool(o.refusal) for o in found)} refused before there is a file);",
        f"right stage for {sum(o.right_stage for o in found)},"
        f" right layer for {sum(o.right_layer for o in found)};"
        f" innocent layers named: {named}.",
        f"By numbers alone, without the diff: right layer and no other for"
        f" {sum(o.right_by_numbers for o in found)} of {sum(o.numerically for o in found)}.",
    ]
    return "\n".join(lines)


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of faults")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", default="cpu", help="where the layers are run")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "faults.md")
    options = parser.parse_args()
    clean = export_tiny()
    torch.set_num_threads(options.threads)
    deployment = Deployment(provider=check_provider(options.provider), threads=options.threads)
    reference = judge_file(clean, clean.model, None, deployment)
    if reference.detected:
        print(f"the clean file is not clean: {reference.named}", file=sys.stderr)
        return 1
    found: list[Outcome] = []
    rows: list[str] = []
    started = time.perf_counter()
    for outcome in outcomes(clean, options.only, deployment):
        if outcome.fault is not None:
            found.append(outcome)
            rows.append(row(outcome.fault, outcome))
            print(rows[-1], flush=True)
    print(f"{summary(found)}\n{(time.perf_counter() - started) / len(found):.1f} s per fault")
    if not options.only:
        text = HEAD + "\n".join(rows) + f"\n\n{summary(found)}\n"
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(text)
    good = all(o.detected and o.right_stage and not o.wrongly_named for o in found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
