"""What the runs of all graphs of a system have left, opened to be driven."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from exporter.build.artifacts import Artifacts
from exporter.config.run_options import RunOptions
from exporter.config.system import System
from exporter.core.stages import Stages
from exporter.execution.declared_deployments import declared_deployments
from exporter.execution.onnx_runs import FileRun
from exporter.report.environment import default_memory_budget, usable_cores
from exporter.systems.calls import Sessions
from exporter.systems.judge_case import Bench
from exporter.systems.opened import OpenedGraph, check_wiring, open_graph_of
from exporter.systems.tokenizer import detokenizer


def bench_of(
    system: System,
    options: RunOptions,
    folder: Path,
    files: Mapping[str, Path],
    progress: Stages,
) -> Bench:
    """Open what the runs of all graphs have left, and everything that drives them.

    Args:
        folder: of the system. files: files that are judged in place of those in it.

    Raises:
        ConfigError: the driver names what is not there. ArtifactError: a file cannot be used.
    """
    cores = options.threads or usable_cores()
    with progress.stage("open the graphs"):
        graphs = {
            name: open_graph_of(
                name,
                pipeline,
                folder / name,
                declared_deployments(pipeline, options.provider, cores),
                files.get(name),
            )
            for name, pipeline in system.pipelines.items()
        }
        check_wiring(system, graphs)
        torch.set_num_threads(cores)
        sessions = _sessions(graphs)
    table = next(
        (
            graph_opened.tokens
            for graph_opened in graphs.values()
            if graph_opened.tokens is not None
        ),
        None,
    )
    where = system.where("judge", "text", "tokenizer")
    return Bench(
        system=system,
        graphs=graphs,
        sessions=sessions,
        folders={name: Artifacts(folder=folder / name) for name in graphs},
        budget=options.memory_budget or default_memory_budget(),
        progress=progress,
        decode=detokenizer(system.judge.text, table, where),
    )


def _sessions(graphs: Mapping[str, OpenedGraph]) -> Sessions:
    """Open files of every way of deployment; a graph that declares fewer keeps its last one."""
    most = max(len(graph.deployments) for graph in graphs.values())
    sessions: dict[str, dict[str, FileRun]] = {}
    for number in range(most):
        ways = {n: g.deployments[min(number, len(g.deployments) - 1)] for n, g in graphs.items()}
        label = " | ".join(dict.fromkeys(way.label() for way in ways.values()))
        sessions[label] = {name: FileRun(graphs[name].onnx, way) for name, way in ways.items()}
    return sessions
