"""What a shell offers after Tab: pipelines, their cases, contracts, and the layers of a run.

Nothing heavy is loaded: a shell waits for it. What cannot be read offers nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from exporter.core.errors import ExportVerifyError

_CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"


def pipelines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """YAML files below the folder that is being typed, and the names that come along."""
    from exporter.config.shipped import shipped_names

    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        here = sorted(
            f"{path}/" if path.is_dir() else str(path)
            for path in folder.iterdir()
            if path.suffix in (".yaml", ".yml") or (path.is_dir() and path.name[0] != ".")
        )
    except OSError:
        here = []
    return [name for name in (*here, *shipped_names()) if name.startswith(incomplete)]


def cases(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Cases of the pipeline that stands on the line already."""
    from exporter.config.load_system import load_graph

    given = ctx.params.get("pipeline_path")
    try:
        pipeline_cases = load_graph(str(given)).cases if given else ()
    except ExportVerifyError:
        return []
    names = [case.name for case in pipeline_cases]
    return [name for name in names if name.startswith(incomplete)]


def contracts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Contracts: each is a folder with its check; its module would bring torch along."""
    names = sorted(path.parent.name for path in _CONTRACTS.glob("*/check.py"))
    return [name for name in names if name.startswith(incomplete)]


def layers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Modules that the last run of the pipeline has compared."""
    from exporter.config.load_system import load_graph

    given = ctx.params.get("pipeline_path")
    try:
        folder = ctx.params.get("output_dir") or Path("runs") / load_graph(str(given)).name
        read = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
        modules = [layer["module"] for link in read["links"] for layer in link["layers"]]
    except (ExportVerifyError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    names = dict.fromkeys(name for name in modules if isinstance(name, str) and name)
    return [name for name in names if name.startswith(incomplete)]
