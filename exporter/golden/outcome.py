"""What a check of a golden says, and what the process returns for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.parity.status import Status
from exporter.report.overall_verdict import GOLDEN_TAMPERED, goldens_exit_code
from exporter.report.schema import EnvironmentRecord, GoldenRecord


class State(StrEnum):
    """One word for a case or a whole golden."""

    SAME = "same"
    WITHIN_ROUNDING = "within rounding"
    ENVIRONMENT_MOVED = "environment moved"
    AMBIGUOUS = "ambiguous"
    MOVED = "moved"
    MISSING = "missing"
    TAMPERED = GOLDEN_TAMPERED


# From good to bad: the state of a golden is the worst of its cases.
ORDER = tuple(State)
GOOD = frozenset({State.SAME, State.WITHIN_ROUNDING, State.ENVIRONMENT_MOVED})
STATUS = {
    State.AMBIGUOUS: Status.AMBIGUOUS,
    State.MOVED: Status.FAIL,
    State.MISSING: Status.NOT_RUN,
    State.TAMPERED: Status.FAIL,
}


def status_of(state: State) -> Status:
    """The verdict that a state stands for; a golden that is missing has checked nothing."""
    return STATUS.get(state, Status.PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMove:
    """An output that is not what was recorded.

    ``observed`` and ``limit`` are largest absolute differences, or for discrete outputs the
    number of unequal elements and 0; ``None`` where nothing could be measured.
    """

    name: str
    observed: float | None
    limit: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMove:
    """A layer that is not what was recorded.

    Attributes:
        tap, module, op, source: where.
        observed, limit: rms of the difference (estimated) and what it may be; ``None`` where the
            values could not be compared or where the graph itself differs.
        by: "numbers", or "graph" when a constant, attribute or operator differs.
    """

    tap: str
    module: str
    op: str
    source: str
    observed: float | None
    limit: float | None
    reason: str
    by: str = "numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """One case.

    Attributes:
        state: what the numbers say; never ``ENVIRONMENT_MOVED``.
        outputs: those that moved. first: the first layer that moved, in the program's order.
        moved: how many taps moved. compared, lost: taps that were in the file, and not.
        strain: largest estimate over limit of all taps; above 1 is moved.
        strain_at: the tap that has it.
        ambiguous: how many outputs moved behind an ambiguous decision, at least 1; 0 where
            nothing is ambiguous.
    """

    case: str
    state: State
    outputs: tuple[OutputMove, ...] = ()
    first: LayerMove | None = None
    moved: int = 0
    compared: int = 0
    lost: int = 0
    strain: float | None = None
    strain_at: str | None = None
    reason: str = ""
    ambiguous: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One part of the environment that is not what it was at recording."""

    what: str
    recorded: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """A whole golden against a file.

    Attributes:
        pipeline, golden, onnx: name, folder, file ("" when there was none).
        numbers: what the numbers say; ``None`` when nothing was compared.
        environment: what has changed; said apart from the numbers.
        structure: differences of the graph to the one that was judged at recording.
        structure_decides: False when a package that makes the graph has another version now.
        vouched: False for a golden that was recorded from a file alone.
        notes: facts that decide nothing.
        advice: what to do next.
    """

    pipeline: str
    golden: str
    onnx: str = ""
    cases: tuple[CaseOutcome, ...] = ()
    numbers: State | None = None
    environment: tuple[Changed, ...] = ()
    structure: tuple[LayerMove, ...] = ()
    structure_decides: bool = True
    max_ambiguous: int = 0
    problem: State | None = None
    reason: str = ""
    vouched: bool = True
    notes: tuple[str, ...] = ()
    advice: str = ""

    @property
    def state(self) -> State:
        """The one word: a problem with the golden, else the numbers, else the environment."""
        if self.problem is not None:
            return self.problem
        if self.numbers is None or not self.cases:
            return State.MISSING
        if self.numbers in GOOD and self.environment:
            return State.ENVIRONMENT_MOVED
        return self.numbers

    @property
    def exit_code(self) -> int:
        """0 for same, within rounding and environment moved; 2 for tampered; else 1.

        What is ambiguous passes within the cap, which counts outputs.
        """
        counts = [(case.state, case.ambiguous) for case in self.cases]
        if self.problem is not None or self.numbers is None:
            counts = []
        records = [
            GoldenRecord(
                case="",
                state=state.value,
                verdict=status_of(state).value,
                moved=[],
                ambiguous=ambiguous,
            )
            for state, ambiguous in counts or [(self.state, 0)]
        ]
        return goldens_exit_code(records, self.max_ambiguous)


def worst(states: tuple[State, ...]) -> State:
    """The worst of some states; of none it is ``MISSING``, never something good."""
    return max(states, key=ORDER.index, default=State.MISSING)


def changed(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[Changed, ...]:
    """Compare two environments, as flat mappings of names to text.

    What is absent now is no change: a check needs no torch. What was absent then is one.
    """
    return tuple(
        Changed(what=what, recorded=recorded.get(what, "absent"), now=now[what])
        for what in sorted(now)
        if recorded.get(what) != now[what]
    )


def flat_environment(record: EnvironmentRecord) -> dict[str, str]:
    """What numbers depend on, name -> text. Threads are told apart: no one's numbers moved."""
    versions = dict(record.versions)
    # Two distributions of one package.
    if "onnxruntime-gpu" in versions:
        versions["onnxruntime"] = versions.pop("onnxruntime-gpu")
    return {
        **versions,
        "platform": record.platform,
        "cpu": " ".join(record.cpu_flags),
        "provider": ", ".join(record.providers),
    }
