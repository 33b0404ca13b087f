"""The graphs of a system as they lie in their folders, with everything that runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from exporter.build.artifacts import Artifacts
from exporter.build.build import state_of
from exporter.build.cached_export import PROGRAM
from exporter.config.driver import Attention, Chain, Ctc, Driver, Loop, Transducer, called_graphs
from exporter.config.pipeline import Pipeline
from exporter.config.system import System
from exporter.core.artifact import sha256_of
from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec
from exporter.execution.deployment import Deployment
from exporter.graph.program import Program
from exporter.graph.wrap import Wrapped, wrap
from exporter.parity.tolerance import Policy, policy_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedGraph:
    """One graph: its module, its captured program, and the file that is judged.

    Attributes:
        name: in the system.
        inputs, outputs: specs, in order.
        states: output -> the input that takes it in the next call.
        onnx: the judged file.
        deployments: how it is run; all are driven.
        tokens: text of every token id, if its checkpoint brings a table.
        made_of: digest of all that PyTorch's side is made of: weights, code, versions.
    """

    name: str
    pipeline: Pipeline
    module: nn.Module
    program: Program
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: Mapping[str, str]
    onnx: Path
    deployments: tuple[Deployment, ...]
    policy: Policy
    tokens: tuple[str, ...] | None
    made_of: str = ""


def open_graph_of(
    name: str,
    pipeline: Pipeline,
    folder: Path,
    deployments: tuple[Deployment, ...],
    onnx: Path | None = None,
) -> OpenedGraph:
    """Open what a run of ``pipeline`` has left in ``folder``.

    Args:
        onnx: the file that is judged; None: the one that the run made.

    Raises:
        ArtifactError: a file is missing or damaged.
        UserInputError: the module cannot be built.
    """
    held = Artifacts(folder=folder)
    wrapped = wrap(pipeline)
    specs = {spec.name: spec for spec in held.inputs}
    return OpenedGraph(
        name=name,
        pipeline=pipeline,
        module=wrapped.module,
        program=held.program,
        inputs=tuple(specs.get(spec.name, spec) for spec in wrapped.inputs),
        outputs=wrapped.outputs,
        states=wrapped.states,
        onnx=onnx or held.shipped,
        deployments=deployments,
        policy=policy_of(pipeline),
        tokens=wrapped.tokens,
        made_of=_made_of(pipeline, wrapped, held),
    )


def _made_of(pipeline: Pipeline, wrapped: Wrapped, held: Artifacts) -> str:
    """The module as it is now, and the program that a run has captured of it."""
    digest = hashlib.sha256()
    for name, value in state_of(pipeline, wrapped).items():
        digest.update(f"{name} {value}\n".encode())
    for path in sorted((held.folder / PROGRAM).glob("*.json")):  # weights are in the state
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def check_wiring(system: System, graphs: Mapping[str, OpenedGraph]) -> None:
    """Hold what the driver names against what the graphs have.

    Raises:
        ConfigError: an input or an output that is named does not exist.
    """
    driver = system.driver
    for graph, port, inward in _named_ports(driver):
        held = graphs[graph]
        names = [spec.name for spec in (held.inputs if inward else held.outputs)]
        if port not in names:
            kind = "input" if inward else "output"
            remedy = f"it has: {', '.join(names)}"
            raise _wrong(system, f"the graph '{graph}' has no {kind} '{port}'", remedy)
    if isinstance(driver, Transducer):
        specs = {spec.name: spec for spec in graphs[driver.predictor].inputs}
        size = specs[driver.tokens].shape[-1:]
        if size and size[0] != driver.context and isinstance(size[0], int):
            problem = f"'{driver.tokens}' of '{driver.predictor}' takes {size[0]} tokens a call"
            remedy = f"say so: context: {size[0]}"
            raise _wrong(system, f"{problem}, and the driver gives {driver.context}", remedy)
    for taken, given in driver.feed.items():
        for name, inward in ((taken, True), (given, False)):
            graph, _, port = name.partition(".")
            held = graphs.get(graph)
            specs = () if held is None else held.inputs if inward else held.outputs
            if port not in [spec.name for spec in specs]:
                kind = "input" if inward else "output"
                raise _wrong(
                    system,
                    f"feed: there is no {kind} '{name}'",
                    "write graph.input: graph.output",
                )
        order = called_graphs(driver)
        later, earlier = taken.partition(".")[0], given.partition(".")[0]
        if order.index(earlier) >= order.index(later):
            raise _wrong(
                system,
                f"feed: '{taken}' takes '{given}', which is not there yet",
                f"take it of a graph that is called before: {', '.join(order)}",
            )


def own_inputs(driver: Driver) -> frozenset[tuple[str, str]]:
    """``(graph, input)`` that the driver itself gives, so that no case has to."""
    match driver:
        case Attention():
            own = [driver.position] if driver.position is not None else []
            own += [driver.tokens] if driver.start else []
            return frozenset((driver.decoder, name) for name in own)
        case Transducer():
            joined = (driver.from_encoder, driver.from_predictor)
            return frozenset(
                {(driver.predictor, driver.tokens), *((driver.joiner, name) for name in joined)}
            )
        case Loop():
            return frozenset({(driver.estimator, driver.time)})
        case _:
            return frozenset()


def _named_ports(driver: Driver) -> list[tuple[str, str, bool]]:
    """``(graph, name, is an input)`` of everything that the driver's own keys name."""
    found: list[tuple[str, str | None, bool]] = []
    match driver:
        case Chain():
            for name in (driver.tokens, driver.lengths):
                if name is not None:
                    graph, _, port = name.partition(".")
                    found.append((graph, port, False))
        case Attention():
            name = driver.decoder
            found = [(name, driver.tokens, True), (name, driver.position, True)]
            found.append((name, driver.scores, False))
        case Transducer():
            found = [(driver.encoder, driver.frames, False)]
            found += [(driver.encoder, driver.lengths, False)]
            found += [(driver.predictor, driver.tokens, True)]
            found += [(driver.predictor, driver.predicted, False)]
            found += [(driver.joiner, driver.from_encoder, True)]
            found += [(driver.joiner, driver.from_predictor, True)]
            found += [(driver.joiner, driver.scores, False)]
        case Ctc():
            found = [(driver.graph, driver.scores, False), (driver.graph, driver.lengths, False)]
        case Loop():
            name = driver.estimator
            found = [(name, driver.value, True), (name, driver.time, True)]
            found.append((name, driver.velocity, False))
    return [(graph, port, inward) for graph, port, inward in found if port is not None]


def _wrong(system: System, problem: str, remedy: str) -> ConfigError:
    return ConfigError(problem, where=system.where("driver"), remedy=remedy)
