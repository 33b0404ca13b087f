"""Stages of a run on the terminal: what is being done, for how long, what came of it.

Everything goes to standard error, so that standard output holds results only. On a terminal the
current stage is one live line; in a log every stage is one line when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from exporter.report.safe_text import printable, seconds

_NAME_WIDTH = 24


@dataclass(slots=True)
class Stage:
    """The stage in progress; ``update`` says how far it is, ``result`` what came of it.

    Attributes:
        expected: seconds that it took in an earlier run.
    """

    name: str
    started: float
    told: Callable[[str], None]
    expected: float | None = None
    phase: str = ""
    done: int | None = None
    total: int | None = None
    detail: str = ""

    def update(self, detail: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is being done now, and how many of how many steps are behind it."""
        self.phase, self.done, self.total = detail, done, total
        self.told(detail)

    def result(self, detail: str) -> None:
        """Say in a few words what the stage made; shown behind its name when it has ended."""
        self.detail = detail


class Progress:
    """Prints stages and remembers their times.

    As a context manager it prints the total at the end; stages may be nested.

    Args:
        quiet: print nothing.
        verbose: print every update on a line of its own.
        console: standard error by default, with colours as the terminal and ``NO_COLOR`` allow.
        expected: seconds per stage of an earlier run, from its report; where a stage counts no
            steps of its own, the remaining time comes from here.
        clock: for tests; seconds.

    Attributes:
        timings: seconds of each stage that has ended, in order; a name that comes again adds up.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        console: Console | None = None,
        expected: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.timings: dict[str, float] = {}
        self._quiet = quiet
        self._verbose = verbose
        self._console = console or Console(stderr=True, highlight=False)
        self._expected = dict(expected or {})
        self._clock = clock
        self._began = clock()
        self._open: list[Stage] = []
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._began = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if kind is None and self.timings:
            self._line("", "total", self._clock() - self._began, "", "bold")

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Show a stage while the block runs; an error marks it and goes on its way."""
        stage = Stage(name, self._clock(), self._say, expected=self._expected.get(name))
        self._open.append(stage)
        self._show()
        try:
            yield stage
        except BaseException:
            self._finish(stage, "x", "red", stage.detail or "failed")
            raise
        self._finish(stage, "+", "green", stage.detail)

    def phase(self, detail: str, done: int | None = None, total: int | None = None) -> None:
        """:meth:`Stage.update` of the innermost stage, for code that does not hold it."""
        if self._open:
            self._open[-1].update(detail, done, total)

    def note(self, text: str) -> None:
        """Say something that belongs to no stage, such as "weights: seeded"."""
        if not self._quiet:
            self._console.print(Text(printable(text), style="bold"), soft_wrap=True)

    def _say(self, detail: str) -> None:
        if self._verbose and not self._quiet:
            where = "  " * len(self._open)
            self._console.print(Text(f"{where}  {printable(detail)}", style="dim"), soft_wrap=True)

    def _finish(self, stage: Stage, mark: str, style: str, detail: str) -> None:
        took = self._clock() - stage.started
        self._open.pop()
        self.timings[stage.name] = self.timings.get(stage.name, 0.0) + took
        if not self._open:
            self._close()
        self._line(mark, stage.name, took, detail, style)

    def _line(self, mark: str, name: str, took: float, detail: str, style: str) -> None:
        if self._quiet:
            return
        label = "  " * len(self._open) + printable(name)
        text = Text.assemble((f"{mark:1} ", style), f"{label:<{_NAME_WIDTH}} {seconds(took):>12}")
        if detail:
            text.append(f"  {printable(detail)}", style="dim")
        self._console.print(text, soft_wrap=True)

    def _show(self) -> None:
        if self._live is None and not self._quiet and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                transient=True,
                refresh_per_second=8,
            )
            self._live.start()

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Table | Text:
        if not self._open:
            return Text("")
        stage = self._open[-1]
        elapsed = self._clock() - stage.started
        parts = [" > ".join(printable(phase.name) for phase in self._open), seconds(elapsed)]
        left = remaining(elapsed, stage.done, stage.total, stage.expected)
        if left is not None:
            parts.append(f"about {seconds(left)} left")
        if stage.total:
            parts.append(f"{stage.done or 0} of {stage.total}")
        parts.append(printable(stage.phase))
        row = Table.grid(padding=(0, 1))
        row.add_row(Spinner("dots"), Text("  ".join(parts), no_wrap=True, overflow="ellipsis"))
        return row


def remaining(
    elapsed: float, done: int | None, total: int | None, expected: float | None
) -> float | None:
    """Seconds left, from counted steps, else from an earlier run; ``None`` when unknown.

    Past what the earlier run took, nothing is known any more.
    """
    if done and total and done <= total:
        return elapsed / done * (total - done)
    if expected is not None and elapsed < expected:
        return expected - elapsed
    return None
