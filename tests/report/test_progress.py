"""What a run shows while it works."""

import io

import pytest
from rich.console import Console

from exporter.report.progress import Progress, remaining


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def progress(*, terminal=False, width=100, **options):
    clock, stream = Clock(), io.StringIO()
    console = Console(
        file=stream, force_terminal=terminal, width=width, highlight=False, legacy_windows=False
    )
    return Progress(console=console, clock=clock, **options), clock, stream


def test_a_finished_stage_is_one_line_with_its_seconds():
    held, clock, stream = progress()
    with held, held.stage("export") as stage:
        stage.update("translate")
        clock.now += 55.2
        stage.result("4,582 nodes")
    first, total = stream.getvalue().splitlines()
    assert first.split() == ["+", "export", "55", "s", "4,582", "nodes"]
    assert total.split() == ["total", "55", "s"]
    assert held.timings == {"export": pytest.approx(55.2)}


def test_a_stage_that_fails_says_so_and_lets_the_error_pass():
    held, clock, stream = progress()

    def work():
        with held, held.stage("export"):
            clock.now += 2
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        work()
    assert stream.getvalue().split() == ["x", "export", "2.0", "s", "failed"]


def test_stages_of_one_name_add_up_and_nested_ones_are_indented():
    held, clock, stream = progress()
    with held.stage("layers"):
        for _ in range(2):
            with held.stage("case"):
                clock.now += 1.5
    assert held.timings == {"case": 3.0, "layers": 3.0}
    assert stream.getvalue().splitlines()[0].startswith("+   case")


def test_quiet_prints_nothing():
    held, clock, stream = progress(quiet=True, terminal=True)
    with held:
        held.note("weights: seeded")
        with held.stage("export") as stage:
            stage.update("translate")
            clock.now += 1
    assert stream.getvalue() == ""
    assert held.timings == {"export": 1.0}


def test_verbose_prints_every_update():
    held, _, stream = progress(verbose=True)
    with held.stage("export"):
        held.phase("translate")
    assert "translate" in stream.getvalue()
    calm, _, silent = progress()
    with calm.stage("export"):
        calm.phase("translate")
    assert "translate" not in silent.getvalue()


def test_a_live_line_shows_phase_elapsed_and_remaining():
    held, clock, stream = progress(terminal=True, expected={"export": 180.0})
    with held.stage("export") as stage:
        clock.now += 60
        stage.update("translate")
        held._live.refresh()
    text = stream.getvalue()
    assert "export" in text and "translate" in text
    assert "1 min 00 s" in text and "about 2 min 00 s left" in text


def test_a_live_line_fits_a_narrow_terminal():
    held, clock, _ = progress(terminal=True, width=30)
    with held.stage("a stage of a rather long name") as stage:
        clock.now += 60
        stage.update("a phase of an even longer description")
        lines = held._console.render_lines(held._render(), pad=False)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "expected", "left"),
    [
        (10.0, 1, 4, None, 30.0),
        (10.0, 4, 4, None, 0.0),
        (10.0, 0, 4, None, None),
        (10.0, None, None, 25.0, 15.0),
        (30.0, None, None, 25.0, None),
        (30.0, None, None, None, None),
        (10.0, 1, 4, 1000.0, 30.0),
    ],
)
def test_the_remaining_time_is_known_or_not_said(elapsed, done, total, expected, left):
    assert remaining(elapsed, done, total, expected) == left


def test_escapes_in_a_name_do_not_reach_the_terminal():
    held, _, stream = progress()
    with held.stage("\x1b[31mred") as stage:
        stage.result("\x1b]0;title\x07")
    held.note("[bold]\x1b[2J")
    assert "\x1b" not in stream.getvalue() and "\\x1b[31mred" in stream.getvalue()
    assert "[bold]" in stream.getvalue()
