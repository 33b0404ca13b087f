"""Pipelines as pytest tests: ``pytest --export-verify pipelines/``.

Every pipeline YAML that pytest is given becomes a file of tests: one per link of the chain, one per
declared contract, one for its golden, and one for the verdict of the whole run. The pipeline runs
once, when the first of them does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.core.errors import EXIT_PASS, ExportVerifyError
from exporter.parity.status import holds, is_good

if TYPE_CHECKING:
    from exporter.config import Pipeline
    from exporter.report.comparison import LinkRecord
    from exporter.report.schema import Report

_MOST_CULPRITS = 3
LAYERS, DEPLOYED = "layers", "deployed at level "


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin; without the first one it does nothing."""
    group = parser.getgroup("export-verify", "exported pipelines")
    group.addoption(
        "--export-verify",
        action="store_true",
        help="collect the pipeline YAMLs below the given paths as tests",
    )
    group.addoption(
        "--export-verify-runs",
        metavar="DIR",
        default="runs",
        help="where runs put their files, one folder per pipeline (default: runs)",
    )
    group.addoption(
        "--export-verify-golden",
        metavar="DIR",
        default="golden",
        help="where goldens lie, one folder per pipeline (default: golden)",
    )
    group.addoption(
        "--export-verify-reuse",
        action="store_true",
        help="judge the runs that lie there already, instead of running",
    )
    group.addoption(
        "--export-verify-trust",
        action="store_true",
        help="run the code that a pipeline's 'factory' names",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Every YAML is a pipeline; one that cannot be read is an error, not a file to pass over."""
    if parent.config.getoption("--export-verify") and file_path.suffix in (".yaml", ".yml"):
        return PipelineFile.from_parent(parent, path=file_path)
    return None


class CheckFailed(Exception):  # noqa: N818 - what pytest shows is its text
    """A check did not pass; its text is all that is shown."""


@dataclass(slots=True)
class _Run:
    """What a run left: a report, or why there is none."""

    report: Report | None = None
    error: str = ""


class PipelineFile(pytest.File):
    """One pipeline YAML."""

    held: _Run | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """Items, known from the YAML alone: nothing is exported to list them."""
        from exporter.config import load_pipeline

        try:
            trust = bool(self.config.getoption("--export-verify-trust"))
            self.pipeline: Pipeline = load_pipeline(self.path, trust=trust)
        except ExportVerifyError as error:
            raise self.CollectError(str(error)) from error
        for name in link_names(self.pipeline):
            yield LinkItem.from_parent(self, name=f"link: {name}", key=name)
        for name, settings in self.pipeline.contracts.items():
            if settings is not False:
                yield ContractItem.from_parent(self, name=f"contract: {name}", key=name)
        yield GoldenItem.from_parent(self, name="golden", key="golden")
        yield VerdictItem.from_parent(self, name="verdict", key="verdict")

    @property
    def run_folder(self) -> Path:
        """Where this pipeline's run puts its files."""
        return Path(str(self.config.getoption("--export-verify-runs"))) / self.pipeline.name

    def report(self) -> Report:
        """The report of the run, which is made once.

        Raises:
            CheckFailed: there is none.
        """
        if self.held is None:
            try:
                self.held = _Run(report=self._run())
            except CheckFailed as error:
                self.held = _Run(error=str(error))
            except ExportVerifyError as error:
                self.held = _Run(error=f"the run stopped: {error}")
        if self.held.report is None:
            raise CheckFailed(self.held.error)
        return self.held.report

    def _run(self) -> Report:
        from exporter.report.beside import absent_files, changed_files
        from exporter.report.digest import SHIPPED
        from exporter.report.schema import read_report

        if self.config.getoption("--export-verify-reuse"):
            path = self.run_folder / "report.json"
            report = read_report(path)
            if report.pipeline.digest != self.pipeline.digest:
                raise CheckFailed(
                    f"the run in {self.run_folder} is of another state of the pipeline"
                )
            absent = absent_files(report, path)
            if changed := changed_files(report, path) or [f"{n} is not there" for n in absent]:
                raise CheckFailed("; ".join(changed))
            if all(artifact.name != SHIPPED for artifact in report.artifacts):
                raise CheckFailed(f"{path} does not say which {SHIPPED} it judged")
            return report
        factory = self.pipeline.model.factory
        if factory is not None and not self.config.getoption("--export-verify-trust"):
            raise CheckFailed(
                f"this pipeline runs code: {factory}; read it, then add --export-verify-trust"
            )
        from exporter.flows.run import run
        from exporter.report.progress import Progress

        with Progress(quiet=True) as progress:
            return run(self.pipeline, output_dir=self.run_folder, progress=progress)


def link_names(pipeline: Pipeline) -> list[str]:
    """Links of the chain that a run of this pipeline compares."""
    from exporter.judge.links import planned_links

    links = planned_links(pipeline.export.simplify, ())
    names = [link.kind if link.kind == LAYERS else link.name for link in links]
    levels = dict.fromkeys(deployment.level for deployment in pipeline.deploy)
    return [*names, *(f"{DEPLOYED}{level}" for level in levels)]


class Check(pytest.Item):
    """One thing that must hold."""

    def __init__(self, *, key: str, **options: Any):
        super().__init__(**options)
        self.key = key

    @property
    def file(self) -> PipelineFile:
        """The pipeline that it belongs to."""
        assert isinstance(self.parent, PipelineFile)  # noqa: S101 - made by its collect()
        return self.parent

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, CheckFailed | ExportVerifyError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.file.pipeline.name}: {self.name}"


class LinkItem(Check):
    """One link of the chain."""

    def runtest(self) -> None:
        """Raises CheckFailed: the link does not pass, or was not compared."""
        report = self.file.report()
        links = [link for link in report.links if _matches(self.key, link)]
        if not links:
            raise CheckFailed(f"the run did not compare '{self.key}'")
        for link in links:
            # An ambiguous link may stay within the cap that the pipeline declares.
            within = report.exit_code == EXIT_PASS
            needed = report.policy.required
            if not holds(link.verdict, required=needed, ambiguous_excused=within):
                raise CheckFailed("\n".join(_link_lines(report, link)))


def _matches(key: str, link: LinkRecord) -> bool:
    if key == LAYERS:
        return link.kind == LAYERS
    return key in (link.name, f"{DEPLOYED}{link.level}")


def _link_lines(report: Report, link: LinkRecord) -> Iterator[str]:
    yield f"{link.name}: {link.verdict}: {link.reason}"
    culprits = [culprit for culprit in report.culprits if culprit.link == link.name]
    for culprit in culprits[:_MOST_CULPRITS]:
        yield (
            f"  layer '{culprit.layer}', {culprit.op} at {culprit.source}: local error"
            f" {culprit.local_error}, limit {culprit.limit}"
        )
    if len(culprits) > _MOST_CULPRITS:
        yield f"  and {len(culprits) - _MOST_CULPRITS} more layers"


class ContractItem(Check):
    """One declared contract, on all sides that it was checked on."""

    def runtest(self) -> None:
        """Raises CheckFailed: a side does not hold, or nothing was checked."""
        contracts = self.file.report().contracts
        records_here = [record for record in contracts if record.contract == self.key]
        if not records_here:
            raise CheckFailed(f"the pipeline declares '{self.key}', the run did not check it")
        failed = []
        for record in records_here:
            if not holds(record.verdict, required=record.required):
                parts = (record.reason, record.where, record.advice)
                said = ". ".join(part for part in parts if part)
                failed.append(f"{record.name} [{record.side}]: {record.verdict}: {said}")
        if failed:
            raise CheckFailed("\n".join(failed))
        if not any(is_good(record.verdict) for record in records_here):
            pytest.skip(
                "; ".join(
                    f"{record.side}: {record.verdict}, {record.reason}" for record in records_here
                )
            )


class GoldenItem(Check):
    """The golden, against the file that the run made."""

    def runtest(self) -> None:
        """Raises CheckFailed: it moved, is missing or was tampered with."""
        from exporter.core.output_folder import output_folder
        from exporter.golden.check import check_golden, record_command
        from exporter.report.golden_check import golden_lines

        self.file.report()
        pipeline = self.file.pipeline
        folder = Path(str(self.config.getoption("--export-verify-golden"))) / pipeline.name
        run_folder = self.file.run_folder
        # Another worker may be running the same pipeline.
        with output_folder(run_folder, pipeline=pipeline.name, say=print, writes=False):
            outcome = check_golden(pipeline, folder, run_folder / "model.onnx")
        if outcome.exit_code != EXIT_PASS:
            lines = golden_lines(outcome)
            if outcome.problem is not None and not outcome.advice:
                lines.append(f"  {record_command(pipeline, folder, ())}")
            raise CheckFailed("\n".join(lines))


class VerdictItem(Check):
    """The whole run: what no other test covers (coverage, structure, further providers)."""

    def runtest(self) -> None:
        """Raises CheckFailed: the run's own exit code is not 0."""
        report = self.file.report()
        if report.exit_code != EXIT_PASS:
            raise CheckFailed(f"{report.verdict}: {report.headline}")
