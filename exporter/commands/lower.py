"""``export-verify lower``: the file in a lower precision, and what that costs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions


class Duration(click.ParamType):
    """``60s``, ``5min`` or a number of seconds, as ``float``."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float | int):
            return float(value)
        given = value if isinstance(value, str) else ""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m)?\s*", given)
        if match is None or not float(match[1]):
            self.fail(f"'{value}' is no time; write for example 60s or 5min", param, ctx)
        return float(match[1]) * (1.0 if match[2] in (None, "s") else 60.0)


@click.command()
@common.pipeline_argument
@click.option(
    "--to",
    type=click.Choice(["int8", "float16", "int4", "mixed"]),
    help="int4: weights in blocks of four bits; mixed: four bits or eight.  [default: what the"
    " pipeline's 'precision' says]",
)
@click.option(
    "--static", is_flag=True, help="int8 with ranges of activations calibrated on the cases (QDQ)."
)
@click.option(
    "--max-flips",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Elements of integer outputs that may change on a case, beyond float32's own noise.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0.0, min_open=True),
    default=0.05,
    show_default=True,
    metavar="X",
    help="Error that outputs, and what decisions rest on, may have: rms over their own rms.",
)
@click.option(
    "--budget",
    type=Duration(),
    default="600s",
    show_default=True,
    help="After that no further round of the choice begins.",
)
@click.option(
    "--prefer",
    type=click.Choice(["speed", "size"]),
    help="What lowering a layer is for.  [default: speed for int8, size for all others]",
)
@click.option(
    "--directions",
    type=click.IntRange(min=4, max=256),
    default=16,
    show_default=True,
    metavar="K",
    help="Random directions at the outputs, a backward pass each.",
)
@common.run_options("output_dir cases all_cases audio weights threads memory_budget trust")
@common.format_option
@common.verbosity_options
def command(
    pipeline_path: str,
    to: str | None,
    static: bool,
    max_flips: int,
    max_error: float,
    budget: float,
    prefer: str | None,
    directions: int,
    options: RunOptions,
    output_format: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write PIPELINE's file in a lower precision, choosing what stays in float32.

    onnxruntime's own quantisers write the file. Layers stay in float32 where their measured errors
    move an output too far or turn a decision; the cases of --case are for the choice, all others
    confirm it.

    \b
    Exits 0 when the file is within the limits on the other cases and every layer of it agrees with
    PyTorch by what its precision costs, 1 when not.
    """
    pipeline = common.open_pipeline(pipeline_path, options)

    from exporter.flows.lower import LowerOptions, lower
    from exporter.report.lowering import print_lowering
    from exporter.report.progress import Progress

    how = LowerOptions(
        to=to,
        static=static,
        max_error=max_error,
        max_flips=max_flips,
        prefer=prefer,
        budget=budget,
        directions=directions,
    )
    with Progress(quiet=quiet or output_format == "json", verbose=verbose) as progress:
        report = lower(pipeline, how, options, progress=progress)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        print_lowering(report, quiet=quiet, verbose=verbose)
    return report.exit_code
