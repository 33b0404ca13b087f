"""Stages of a run on the terminal: what is being done, for how long, what came of it.

Everything goes to standard error, so that standard output holds results only. On a terminal the
current stage is one live line; in a log every stage is one line when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Live
from rich.text import Text

_NAME_WIDTH = 22


class Stage:
    """The stage in progress; ``update`` says how far it is, ``result`` what came of it."""

    def __init__(self, show: Callable[[str, int | None, int | None], None]) -> None:
        self._show = show
        self.detail = ""

    def update(self, detail: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is being done now, and how many of how many steps are behind it."""
        self._show(detail, done, total)

    def result(self, detail: str) -> None:
        """Say in a few words what the stage made; shown behind its name when it has ended."""
        self.detail = detail


class Progress:
    """Prints stages and remembers their times.

    Args:
        quiet: print nothing.
        verbose: print every update on a line of its own.
        console: for tests; standard error by default.
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
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.timings: dict[str, float] = {}
        self._quiet = quiet
        self._verbose = verbose
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Show a stage while the block runs; an error marks it and goes on its way."""
        started = self._clock()
        with _LiveLine(self._console, name, hidden=self._quiet) as line:
            stage = Stage(lambda *what: self._update(line, name, *what))
            try:
                yield stage
            except BaseException:
                line.close()
                self._finish(name, "red", "x", stage.detail or "failed", started)
                raise
        self._finish(name, "green", "+", stage.detail, started)

    def note(self, text: str) -> None:
        """Say something that belongs to no stage, such as "weights: seeded"."""
        if not self._quiet:
            self._console.print(Text(text, style="bold"))

    def _update(
        self, line: _LiveLine, name: str, detail: str, done: int | None, total: int | None
    ) -> None:
        line.update(detail, done, total)
        if self._verbose and not self._quiet:
            self._console.print(Text(f"    {name}: {detail}", style="dim"))

    def _finish(self, name: str, style: str, mark: str, detail: str, started: float) -> None:
        seconds = self._clock() - started
        self.timings[name] = self.timings.get(name, 0.0) + seconds
        if self._quiet:
            return
        text = Text.assemble((f"{mark} ", style), f"{name:<{_NAME_WIDTH}} {seconds:7.1f} s")
        if detail:
            text.append(f"  {detail}", style="dim")
        self._console.print(text, soft_wrap=True)


class _LiveLine:
    """One line that redraws itself on a terminal, and nothing elsewhere."""

    def __init__(self, console: Console, name: str, *, hidden: bool) -> None:
        self._live = Live(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=hidden or not console.is_terminal,
        )
        self._task = self._live.add_task(name, total=None, detail="")

    def __enter__(self) -> _LiveLine:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._live.stop()

    def update(self, detail: str, done: int | None, total: int | None) -> None:
        self._live.update(self._task, detail=detail, completed=done or 0, total=total)
