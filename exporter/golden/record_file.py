"""Record a golden from an ONNX file alone: nobody here has its PyTorch.

What is kept is what this file gives, and how far float32 may be from it: the file in float64 says
that. It shows later that a file, a runtime or a machine gives something else; that the file was
right to begin with it cannot show, so it is marked, and the mark is shown wherever the golden is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from exporter.cases.load import choose_cases, load_cases
from exporter.config import Pipeline
from exporter.core.artifact import sha256_of
from exporter.core.errors import GoldenError
from exporter.core.files import temporary_folder
from exporter.core.tensors import COMPARED, Arrays, Case, PlannedTap, Tap, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.execution.onnx_windows import OnnxWindows
from exporter.golden.check import theirs
from exporter.golden.judge_case import judge_case
from exporter.golden.limits import direct_limits
from exporter.golden.observe import Observer, input_digests
from exporter.golden.outcome import GOOD
from exporter.golden.sketch import sketch
from exporter.golden.values import (
    FILE_ITSELF,
    VOUCHED_BY,
    Expected,
    Golden,
    GoldenCase,
    GoldenOutput,
)
from exporter.golden.whole import STORED_BYTES, check_reason, whole_golden
from exporter.graph.index import GraphIndex
from exporter.joining.evaluate import Values, evaluate
from exporter.joining.modules import modules_of
from exporter.parity.compare import measure
from exporter.parity.tolerance import natural_scale, policy_of
from exporter.report.environment import describe_environment, usable_cores

_KINDS = frozenset({"b", "i", "u", "f"})


def golden_of_file(
    pipeline: Pipeline,
    graph: GraphIndex,
    inputs: tuple[TensorSpec, ...],
    *,
    reason: str,
    replaces: str = "",
    cases: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Golden:
    """What a file gives on the cases of its YAML.

    Args:
        pipeline: of a file alone. graph: that file, opened.
        inputs: of the YAML. reason: why it is recorded; kept.

    Raises:
        UserInputError: no reason. GoldenError: the file does not give the same twice.
    """
    path = pipeline.file_alone
    if path is None:
        raise ValueError("the pipeline has no file of its own")
    check_reason(reason)
    names = choose_cases(pipeline, cases, all_cases=not cases)
    deployment = Deployment(level=pipeline.deploy[0].level, threads=threads or usable_cores())
    loaded = [(case, theirs(pipeline, case.inputs)) for case in load_cases(pipeline, inputs, names)]
    taps = _taps(graph, loaded[0][1])
    observer = Observer(path, graph, taps, deployment)
    recorded = []
    for case, given in loaded:
        progress(case.name)
        recorded.append(_record(pipeline, graph, taps, case, given, observer))
    return whole_golden(
        pipeline,
        graph,
        recorded,
        reason=reason,
        replaces=replaces,
        weights={"source": path.name, "digest": sha256_of(path), "seeded": False},
        judged={"verdict": "not judged", VOUCHED_BY: FILE_ITSELF, "onnx_sha256": sha256_of(path)},
        environment=describe_environment(deployment.threads, (deployment.provider,)),
        deployment=deployment,
        inputs=inputs,
        taps=taps,
    )


def _taps(graph: GraphIndex, inputs: Arrays) -> tuple[PlannedTap, ...]:
    """Every tensor that the file computes, in its order."""
    modules = modules_of(graph)
    values = _float32(graph, inputs, [n for node in graph.nodes for n in node.output if n])
    return tuple(
        PlannedTap(
            tap=Tap(
                name=name,
                module=modules.get(name, ""),
                module_class="",
                op=graph.nodes[graph.producer[name]].op_type,
                source="",
            ),
            onnx_name=name,
            fate=COMPARED,
            output=name in graph.outputs,
            dtype=value.dtype.name,
        )
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS
    )


def _float32(graph: GraphIndex, inputs: Arrays, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Values as the file is written: no optimisation, on its own values."""
    plain = Deployment(level="disable", threads=1)
    walk = OnnxWindows(graph, inputs, plain, taps=frozenset(names))
    return dict(walk.advance(list(names), last=True))


def _record(
    pipeline: Pipeline,
    graph: GraphIndex,
    taps: tuple[PlannedTap, ...],
    case: Case,
    inputs: Arrays,
    observer: Observer,
) -> GoldenCase:
    policy = policy_of(pipeline)
    single = _float32(graph, inputs, [tap.onnx_name for tap in taps])
    expected: list[Expected] = []
    outputs: list[GoldenOutput] = []
    observed = observer.run(inputs, [single[tap.onnx_name].size for tap in taps])
    with temporary_folder() as folder:
        double = evaluate(graph, [inputs], Values(folder)).values
        for tap in taps:
            value = single[tap.onnx_name]
            exact = double.get(tap.onnx_name)
            measured = measure(
                tap.tap.name,
                truth=value if exact is None else exact[0],
                reference=value,
                actual=value,
                role="output" if tap.output else "inner",
                natural_scale=natural_scale(tap.tap.op),
            )
            largest, rms = direct_limits(measured, policy, tap.tap.module)
            drawn = sketch(tap.tap.name, value)
            seen = observed.taps.get(tap.onnx_name)
            expected.append(
                Expected(
                    sketch=drawn,
                    limit_max=largest,
                    limit_rms=rms,
                    witness=b"" if seen is None else seen.bits,
                    close=0,
                )
            )
            if tap.output:
                given = observed.outputs.get(tap.onnx_name)
                outputs.append(
                    GoldenOutput(
                        name=tap.onnx_name,
                        dtype=tap.dtype,
                        shape=drawn.shape,
                        values=np.array(value) if value.nbytes <= STORED_BYTES else None,
                        limit_max=largest,
                        limit_rms=rms,
                        witness=b"" if given is None else sketch(tap.onnx_name, given).bits,
                    )
                )
    golden = GoldenCase(
        name=case.name,
        origin=case.origin,
        inputs=input_digests(case.inputs),
        expect_empty=tuple(sorted(case.expect_empty)),
        outputs=tuple(outputs),
        taps=tuple(expected),
    )
    again = observer.run(inputs, [single[tap.onnx_name].size for tap in taps])
    moved = [name for name, seen in observed.taps.items() if again.taps[name].bits != seen.bits]
    if moved:
        raise GoldenError(
            f"the file does not give the same twice: first at '{moved[0]}'",
            where=f"case '{case.name}'",
            remedy="it may draw random numbers: 'check --contract determinism' says where",
        )
    outcome = judge_case(golden, taps, again)
    if outcome.state not in GOOD:
        first = f" at '{outcome.first.tap}': {outcome.first.reason}" if outcome.first else ""
        raise GoldenError(
            f"the file does not pass against what it gave a moment ago: {outcome.reason}{first}",
            where=f"case '{case.name}'",
            remedy="report this with the file: its own values are beyond what float32 costs",
        )
    return golden
