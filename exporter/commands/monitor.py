"""``export-verify monitor``: what watches a certified file after it has been deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import EXIT_PASS

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions

_model = click.argument("model", type=click.Path(path_type=Path))
_golden = click.option(
    "--golden",
    "golden",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The golden's folder.  [default: golden/<pipeline that the file names>]",
)


@click.group()
def command() -> None:
    """Watch a certified file in service: is it itself, does it agree, has its input moved.

    \b
    record keeps beside a golden what a service needs; replay asks once whether a file is
    still the certified one.
    """


@command.command()
@common.pipeline_argument
@common.run_options("golden_dir golden_cases weights trust")
def record(pipeline_path: str, options: RunOptions) -> int:
    """Keep beside PIPELINE's golden what a service replays, without YAML and recordings.

    The inputs of one to three golden cases are kept: those named, or the first three.
    """
    pipeline = common.open_pipeline(pipeline_path, options, writes=False)

    from exporter.flows.monitor import record as kept

    names = kept(pipeline, options.golden_dir / pipeline.name, options.cases)
    click.echo(f"kept in {options.golden_dir / pipeline.name}: case(s) {', '.join(names)}")
    return EXIT_PASS


@command.command()
@_model
@_golden
@click.option("--provider", metavar="NAME", help="cpu or cuda.  [default: as recorded]")
@click.option("--threads", type=click.IntRange(min=1, max=1024), help="[default: as recorded]")
@common.format_option
def replay(
    model: Path, golden: Path | None, provider: str | None, threads: int | None, output_format: str
) -> int:
    """Run golden inputs through MODEL once, for cron or a probe of Kubernetes.

    \b
    Judged as 'golden check' judges. Exits 0 for same, within rounding and environment moved with
    an intact seal; 1 for moved, ambiguous or a broken seal; 2 for a golden that cannot be used.
    """
    common.require_file(model, "MODEL", "give the path of an .onnx file")
    code = in_a_child(model)
    if code is not None:
        return code

    from exporter.flows.monitor import replay_file
    from exporter.report.replay import replay_json, replay_lines

    found = replay_file(model, golden, provider=provider, threads=threads)
    json_wanted = output_format == "json"
    click.echo(replay_json(found) if json_wanted else "\n".join(replay_lines(found)))
    return found.exit_code
