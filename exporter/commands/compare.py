"""``export-verify compare``: two ONNX files, value by value, without PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child


@click.command()
@click.argument("truth", metavar="A.onnx", type=click.Path(path_type=Path))
@click.argument("others", metavar="[B.onnx ...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--truth", "side", type=click.Choice(["A", "B"]), default="A", show_default=True,
              help="Which file is held to be right; the other one is judged.")  # fmt: skip
@click.option(
    "--case",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Inputs, an array per name.  [default: drawn from seeds, from what A.onnx declares]",
)
@click.option(
    "--size", "sizes", multiple=True, metavar="AXIS=N", help="Size of a symbolic axis. Repeatable."
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="What the judged file may hold.",
)
@click.option(
    "--level",
    type=click.Choice(["disable", "basic", "extended", "all"]),
    default="all",
    show_default=True,
    help="onnxruntime's optimisation, for the outputs.",
)
@click.option("--threads", "all_threads", is_flag=True, help="Also on one thread, two, and all.")
@click.option("--levels", is_flag=True, help="Also on every level of optimisation.")
@click.option(
    "--versions",
    is_flag=False,
    flag_value="usual",
    metavar="[X.Y.Z,...]",
    help="Also under other releases of onnxruntime, each in an environment of its own that is made"
    " in the cache folder; six of the last years where none are named.",
)
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text")
@common.verbosity_options
def command(
    truth: Path,
    others: tuple[Path, ...],
    side: str,
    case: Path | None,
    sizes: tuple[str, ...],
    precision: str,
    level: str,
    all_threads: bool,
    levels: bool,
    versions: str | None,
    output_format: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare two ONNX files that should compute the same, layer by layer; needs no PyTorch.

    The truth is A.onnx in float64. Values are joined by what they compute, never by position; what
    agrees with several is not compared. With A.onnx alone, --levels, --threads or --versions
    compare the file with itself; several others are compared with A.onnx one by one.

    \b
    Exits 0 when all values and outputs agree, 1 when not, 2 when a file cannot be used.
    """
    alone = not others
    if alone and not (levels or all_threads or versions):
        raise click.UsageError(
            "Give B.onnx, or --levels, --threads or --versions for A.onnx by itself."
        )
    for path in (truth, *others):
        common.require_file(path, "A.onnx, B.onnx", "give the paths of .onnx files")
    if case is not None:
        common.require_file(case, "--case", "give an .npz with an array for every input")
    pairs = [(truth, other) if side == "A" else (other, truth) for other in others or (truth,)]
    at_sizes = dict(common.axis_size(text) for text in sizes)
    code = in_a_child(truth, *others)
    if code is not None:
        return code

    from exporter.execution.releases import DEFAULT, check_releases
    from exporter.flows.compare import CompareOptions, compare
    from exporter.report.progress import Progress
    from exporter.report.two_files import print_two_files

    named = DEFAULT if versions == "usual" else (versions or "").split(",") if versions else ()
    options = CompareOptions(
        case=case,
        sizes=at_sizes,
        precision=precision,
        level=level,
        levels=levels,
        all_threads=all_threads,
        releases=check_releases([text.strip() for text in named]),
    )
    reports = []
    for pair in pairs:
        with Progress(quiet=quiet or output_format == "json", verbose=verbose) as progress:
            reports.append(compare(*pair, options, progress=progress))
        if output_format == "text":
            print_two_files(reports[-1], verbose=verbose, quiet=quiet)
    if output_format == "json":
        texts = [report.model_dump_json(indent=1) for report in reports]
        click.echo(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]")
    return max(report.exit_code for report in reports)
