"""How late a stream is: what its windows wait for, and what of that the model really reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from exporter.contracts.result import Location
from exporter.contracts.stream.lookahead import Lookahead, Reach
from exporter.core.windows import Streamed

_LISTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLatency:
    """In steps of the axis that is cut, and in milliseconds where a step has a length.

    Attributes:
        given: lookahead that the windows give.
        read: the largest lookahead of an output, measured; None: to the end of the whole.
        measured: it was measured, and not only declared.
        steps: from the first new step of a call to the moment its frame is there, at most.
        modules: at which the lookahead grows.
        frames_per_step: per output; None of one without steps.
        why_not: measured nothing, and why.
    """

    given: int
    read: int | None
    measured: bool
    steps: int
    step_ms: float | None
    modules: Sequence[Lookahead]
    frames_per_step: Mapping[str, Fraction | None]
    why_not: str = ""

    @property
    def where(self) -> Location:
        """The module at which the lookahead becomes what it is."""
        return self.modules[-1].place if self.modules else Location(op="window")

    def text(self, steps: int | None) -> str:
        """Steps, in milliseconds where that is known."""
        if steps is None:
            return "the whole"
        word = f"{steps} step{'' if steps == 1 else 's'}"
        return word if self.step_ms is None else f"{word} ({steps * self.step_ms:.4g} ms)"

    def short(self) -> str:
        """Both figures."""
        read = self.text(self.read) if self.measured else "not measured"
        return f"lookahead {read}, latency {self.text(self.steps)}"

    def sentence(self) -> str:
        """Both figures, and where the lookahead comes from."""
        if not self.measured:
            return f"lookahead was not measured: {self.why_not}"
        at = f", at {self.where}" if self.modules and self.read else ""
        return (
            f"the whole reads {self.text(self.read)} ahead{at}; the windows give"
            f" {self.text(self.given)}, and a step waits for {self.text(self.steps)} at most"
        )

    def details(self) -> dict[str, object]:
        """For the report."""
        facts: dict[str, object] = {
            "lookahead": f"{self.text(self.read)} read, {self.text(self.given)} given"
            if self.measured
            else f"{self.text(self.given)} given; not measured: {self.why_not}",
            "latency": self.text(self.steps),
        }
        if self.modules:
            facts["lookahead by module"] = [
                f"{module.place}: {self.text(module.steps)}" for module in self.modules[:_LISTED]
            ]
        return facts

    def over(
        self, max_lookahead_ms: float | None, max_latency_ms: float | None
    ) -> tuple[str, str, str, str] | None:
        """Observed, limit, why and advice, where more is measured than was declared."""
        if self.step_ms is None:
            return None
        if max_lookahead_ms is not None:
            if not self.measured:
                why = f"the lookahead was not measured: {self.why_not}"
                return "not measured", f"{max_lookahead_ms:g} ms", why, "take max_lookahead_ms out"
            if self.read is None or self.read * self.step_ms > max_lookahead_ms:
                observed = f"lookahead {self.text(self.read)}"
                why = f"the model reads {self.text(self.read)} ahead"
                advice = "take the lookahead out of that module, or declare what it has"
                return observed, f"{max_lookahead_ms:g} ms", why, advice
        if max_latency_ms is not None and self.steps * self.step_ms > max_latency_ms:
            observed = f"latency {self.text(self.steps)}"
            why = f"a step waits for {self.text(self.steps)} until its frame is there"
            advice = "smaller hops or less right context, or declare the latency that there is"
            return observed, f"{max_latency_ms:g} ms", why, advice
        return None


def latency_of(
    streamed: Streamed,
    step_ms: float | None,
    late: Mapping[str, int],
    reach: Reach,
    rates: Mapping[str, Fraction | None],
    *,
    added: bool = False,
) -> StreamLatency:
    """What the windows and the measurement say together.

    Args:
        late: output -> frames by which it is behind.
        rates: of each output, frames per step; None for one without steps.
        added: calls are summed: a frame is whole only when the last call that overlaps it is.
    """
    behind = max(
        (ceil(late.get(name, 0) / rate) for name, rate in rates.items() if rate), default=0
    )
    wait = max(w.end - (w.begin if added else w.start) for w in streamed.windows)
    lookaheads = [lookahead for name in rates if (lookahead := reach.of(name)) is not None]
    why = reach.why
    unread = [name for name in rates if name in reach.unread]
    if unread and not why:
        why = f"where '{unread[0]}' moves does not tell how far it reads ahead"
    endless = any(lookahead.steps is None for lookahead in lookaheads)
    read = None if endless else max((lookahead.steps or 0 for lookahead in lookaheads), default=0)
    return StreamLatency(
        given=max(window.end - window.stop for window in streamed.windows),
        read=read,
        measured=not why,
        steps=wait + behind,
        step_ms=step_ms,
        modules=tuple(reach.growing),
        frames_per_step=rates,
        why_not=why,
    )
