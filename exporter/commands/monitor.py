"""``export-verify monitor``: what watches a certified file after it has been deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS

if TYPE_CHECKING:
    from exporter.config.run_options import RunOptions

_folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Watch a certified file in service: is it itself, does it agree, has its input moved.

    \b
    record   keep beside a golden what a service needs: inputs to replay, a reference
    replay   is this still the certified system?
    shadow   does live audio still get PyTorch's answer?
    sample   judged requests for people to label
    report   what a service has written, as a page for people
    rules    alert rules for Prometheus, or a dashboard for Grafana
    """


@command.command()
@common.pipeline_argument
@click.option(
    "--recordings",
    type=_folder,
    metavar="DIR",
    help="Recordings of a stable input, a hundred or more: the reference that drift is told from.",
)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What is served; answers the recordings.  [default: the run folder's model.onnx]",
)
@common.run_options("golden_dir output_dir golden_cases weights trust")
def record(
    pipeline_path: str, recordings: Path | None, onnx_path: Path | None, options: RunOptions
) -> int:
    """Keep beside PIPELINE's golden what a service needs, which has no YAML and no recordings.

    The inputs of one to three golden cases are kept: those named, or the first three.
    """
    pipeline = common.open_pipeline(pipeline_path, options, writes=False)

    from exporter.flows import monitor as flow

    folder = options.golden_dir / pipeline.name
    if recordings is None:
        names, count = flow.record(pipeline, folder, options.cases), 0
    else:
        from exporter.runtime import SpeechRunner

        sounds = flow.recordings_in(recordings)
        model = onnx_path or options.folder(pipeline) / "model.onnx"
        common.require_file(model, "--onnx", "give the file that is served")
        answers = SpeechRunner(model).run_arrays
        names = flow.record(pipeline, folder, options.cases, recordings=sounds, answers=answers)
        count = len(sounds)
    click.echo(f"kept in {folder}: case(s) {', '.join(names)}; a reference of {count} recordings")
    return EXIT_PASS


@command.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--golden",
    type=_folder,
    metavar="DIR",
    help="The golden's folder.  [default: golden/<pipeline that the file names>]",
)
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

    outcome = replay_file(model, golden, provider=provider, threads=threads)
    json_wanted = output_format == "json"
    click.echo(replay_json(outcome) if json_wanted else "\n".join(replay_lines(outcome)))
    return outcome.exit_code


@command.command()
@click.argument("spool", type=_folder)
@click.option(
    "--run",
    "run_folder",
    type=_folder,
    metavar="DIR",
    help="The run that made the served file.  [default: where that file lies]",
)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A copy of the served file.  [default: where the service says that it lies]",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep so many judged requests of each stratum, their audio included, for 'sample'.",
)
@click.option("--once", is_flag=True, help="Judge what lies there now, and end.")
def shadow(
    spool: Path, run_folder: Path | None, onnx_path: Path | None, keep: int, once: bool
) -> int:
    """Judge the requests that a Monitor puts into SPOOL against PyTorch, until it is ended.

    \b
    With --once: exits 1 when a request ever moved, is ambiguous or could not be judged, else 0.
    """
    from exporter.flows.monitor import shadow_judge
    from exporter.monitor.shadow import ROUNDING, SAME, Worker

    worker = Worker(spool, shadow_judge(spool, run_folder, onnx_path), keep=keep)
    counts = worker.work(once=once)
    click.echo(", ".join(f"{state.replace('_', ' ')} {count}" for state, count in counts.items()))
    bad = any(count for state, count in counts.items() if state not in (SAME, ROUNDING))
    return EXIT_PARITY_FAILED if bad else EXIT_PASS


@command.command()
@click.argument("spool", type=_folder)
@click.option(
    "--output",
    type=_folder,
    default=Path("labelling"),
    show_default=True,
    help="A new folder for labels.jsonl and the recordings.",
)
@click.option(
    "--onnx",
    "onnx_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A copy of the served file.  [default: where the service says that it lies]",
)
@click.option(
    "--labels",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An earlier sample: references in it are taken over.",
)
def sample(spool: Path, output: Path, onnx_path: Path | None, labels: Path | None) -> int:
    """Offer kept requests of SPOOL for labelling: low margins first, then all others.

    \b
    Write into labels.jsonl what was said ("reference"), from the top of either stratum and
    without leaving any out; 'monitor report LOG --labels labels.jsonl' makes a rate of it.
    """
    from exporter.flows.labelling import offer

    counts = offer(spool, output, onnx=onnx_path, earlier=labels)
    said = "; ".join(f"{name}: {kept:,} of {of:,} recordings" for name, kept, of in counts)
    click.echo(f"labels to fill in: {output / 'labels.jsonl'} ({said})")
    return EXIT_PASS


@command.command()
@click.option("--grafana", is_flag=True, help="A dashboard for Grafana instead, as JSON.")
def rules(grafana: bool) -> int:
    """Print alert rules for Prometheus: page on moved or a broken seal, ticket on drift."""
    from exporter.monitor.rules import dashboard_json, rules_yaml

    click.echo(dashboard_json() if grafana else rules_yaml(), nl=False)
    return EXIT_PASS


@command.command()
@click.argument("log", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("monitor.html"),
    show_default=True,
    help="Where the page goes.",
)
@click.option(
    "--labels",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON lines with references, as 'sample' writes them: the page says the word error rate"
    " of all recordings that they stand for, with a confidence sequence.",
)
@click.option(
    "--unit",
    type=click.Choice(["word", "character"]),
    default="word",
    show_default=True,
    help="What errors are counted in; characters where nobody writes blanks.",
)
def report(log: Path, output: Path, labels: Path | None, unit: str) -> int:
    """Write a page with the time lines of LOG: a Monitor's log, or results.jsonl of a spool."""
    common.require_file(log, "LOG", "give the file that a Monitor's 'log' names")

    from exporter.core.files import write_text
    from exporter.monitor.page import page_of
    from exporter.monitor.words import error_rate

    words = None if labels is None else error_rate(labels, unit)
    write_text(output, page_of(log, words))
    if words is not None:
        click.echo(f"{unit} error rate: {words.sentence()}")
    click.echo(f"page: {output}")
    return EXIT_PASS
