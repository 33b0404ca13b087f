"""Take divergent layers of a finished run apart."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from exporter.config import Pipeline
from exporter.config.run_options import RunOptions
from exporter.core.disk import writable_folder
from exporter.core.stages import Stages
from exporter.debugging.debug_layers import Debugged, take_apart
from exporter.debugging.pair import load_pair
from exporter.execution.deployment import Deployment
from exporter.execution.providers import check_provider
from exporter.report.environment import default_memory_budget, usable_cores
from exporter.report.progress import Progress


def debug(
    pipeline: Pipeline | Path | str,
    options: RunOptions | None = None,
    *,
    progress: Stages | None = None,
    layer: str | None = None,
    onnx: Path | None = None,
    all_culprits: bool = False,
    bundles: Path | None = None,
    **fields: Any,
) -> Debugged:
    """Take layers of a finished run's file, or of another file, apart.

    Args:
        options, fields: as in ``exporter.run``; the output folder is that of the finished run.
            Without a case it is the one on which the run found its first culprit.
        layer: module path, tap, ONNX name or glob; None for the first culprit.
        onnx: judge this file instead of the run's own.
        all_culprits: every culprit instead of the first.
        bundles: where to write; ``debug/`` in the output folder by default.

    Raises:
        UserInputError: see ``load_pair``, ``find_layer``; an unknown provider.
    """
    started = time.perf_counter()
    options = RunOptions.given(options, fields)
    pipeline = options.opened(pipeline)
    progress = progress or Progress(quiet=True)
    folder = options.folder(pipeline)
    if bundles is not None:
        writable_folder(bundles, "--bundles", keep=False)
    cores = options.threads or usable_cores()
    torch.set_num_threads(cores)
    deployment = Deployment(provider=check_provider(options.provider or "cpu"), threads=cores)
    with options.taken(pipeline, progress, writes=bundles is None):
        with progress.stage("load") as stage:
            case = options.cases[0] if options.cases else None
            pair = load_pair(pipeline, folder, onnx_path=onnx, case=case, deployment=deployment)
            stage.result(f"case '{pair.case.name}', {len(pair.planned)} taps")
        debugged = take_apart(
            pair,
            layer=layer,
            all_culprits=all_culprits,
            bundles=bundles or folder / "debug",
            budget=options.memory_budget or default_memory_budget(),
            progress=progress,
        )
    return replace(debugged, timings={"total": time.perf_counter() - started})
