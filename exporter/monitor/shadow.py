"""Does live audio still get PyTorch's answer? The worker beside a service.

    spool ── take ──> PyTorch in float32 and float64, the same file on the CPU ──> one row ──> gone

A request is judged as a golden is recorded: the captured program gives the values, its float64 run
the limits, and the file is held against both, layer by layer. What was served is then held against
PyTorch's outputs. So a row says which of the two moved: the file itself, with the first layer, or
only what was served, which is the provider's or the process's doing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.core.errors import UserInputError
from exporter.core.files import write_text
from exporter.core.lock import locked
from exporter.core.reading import Door
from exporter.core.tensors import Case
from exporter.golden.judge_case import judge_output
from exporter.golden.outcome import OutputMove, State
from exporter.golden.sketch import sketch
from exporter.golden.values import GoldenCase
from exporter.graph.segment_split import WAVEFORM
from exporter.monitor.kept import FOLDER, LOW, OTHER, Kept, Strata, is_frame, no_frame
from exporter.monitor.log import RequestLog, read_log
from exporter.monitor.spool import (
    AGAIN,
    RESULTS,
    TAKEN,
    WORKER,
    Request,
    name_of,
    read_request,
    requests_in,
    take,
)

if TYPE_CHECKING:
    from exporter.golden.record import CaseJudgement, GoldenRecorder

DOOR = Door(
    error=UserInputError,
    says="not a log of a shadow worker",
    remedy="give the folder that a Monitor's 'spool' names",
)
SAME, ROUNDING, AMBIGUOUS, MOVED, NOT_RUN = "same", "rounding", "ambiguous", "moved", "not_run"
STATES = (SAME, ROUNDING, AMBIGUOUS, MOVED, NOT_RUN)
_FILE_MOVED = "the file itself moved: 'export-verify verify --onnx FILE' names the layer's nodes"
_SERVED_MOVED = (
    "the file agrees with PyTorch on this CPU, what was served does not: hold provider, threads and"
    " onnxruntime's version of the service against those of the certificate ('monitor replay')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """One request, judged; ``first_layer`` and ``strain`` are the file's on the CPU."""

    state: str
    first_layer: str | None = None
    reason: str = ""
    advice: str = ""
    strain: float | None = None
    margin: float | None = None
    commonest: float | None = None


def judge_request(recorder: GoldenRecorder, request: Request) -> JudgedRequest:
    """Hold what was served, and the file on this CPU, against PyTorch; the worst of both counts."""
    case = Case(name=request.name, inputs=request.inputs, origin="served")
    judged = recorder.judge(case)
    outcome, first = judged.outcome, judged.outcome.first
    moves = _served_moves(judged, request)
    layer = None if first is None else first.module or first.tap
    state, reason, advice = ROUNDING, "", ""
    if outcome.state is State.MOVED:
        state, reason, advice = MOVED, first.reason if first else outcome.reason, _FILE_MOVED
    elif moves:
        state, advice = MOVED, _SERVED_MOVED
        reason = "; ".join(f"output {move.name}: {move.reason}" for move in moves)
    elif outcome.state is State.MISSING:
        state, reason = NOT_RUN, outcome.reason
    elif outcome.state is State.AMBIGUOUS:
        state, reason = AMBIGUOUS, outcome.reason
    elif _equal(judged.golden, request):
        state = SAME
    return JudgedRequest(
        state=state,
        first_layer=layer,
        reason=reason,
        advice=advice,
        strain=outcome.strain,
        margin=judged.margin,
        commonest=judged.commonest,
    )


def _served_moves(judged: CaseJudgement, request: Request) -> list[OutputMove]:
    """Outputs that are not PyTorch's.

    Where the file is ambiguous here, a close decision has gone the other way: what was served may
    be PyTorch's or what the file gives here, each output for itself; any third thing has moved.
    """
    unsure = judged.outcome.state is State.AMBIGUOUS
    moves = []
    for output in judged.golden.outputs:
        move = judge_output(output, request.outputs)
        here = judged.outputs.get(output.name)
        if move and unsure and here is not None:
            expected = replace(output, dtype=here.dtype.name, shape=here.shape, values=here)
            move = judge_output(expected, request.outputs)
        if move:
            moves.append(move)
    return moves


def _equal(golden: GoldenCase, request: Request) -> bool:
    """Bit for bit; an output that was too large to be kept is never known to be."""
    return all(
        output.values is not None
        and sketch(output.name, output.values).bits
        == sketch(output.name, request.outputs[output.name]).bits
        for output in golden.outputs
    )


class Worker:
    """Judges what lies in a spool, one request after the other.

    Args:
        folder: of the spool. judge: makes a row of a request.
        keep: how many judged requests of each stratum stay for labelling, see ``kept``.

    Raises:
        UserInputError: there is no such folder.
    """

    def __init__(
        self, folder: Path, judge: Callable[[Request], JudgedRequest], *, keep: int = 0
    ) -> None:
        if not folder.is_dir():
            raise DOOR.wrong(folder, "there is no spool here")
        self._folder, self._judge = folder, judge
        self._results = RequestLog(folder / RESULTS)
        self._kept, self._strata = Kept(folder / FOLDER, keep), Strata()
        self._state: dict[str, Any] = {}
        self._done: dict[str, str | None] = {}

    def work(self, *, once: bool = False, poll_s: float = 1.0) -> Mapping[str, int]:
        """Judge what comes, until the process ends; with ``once``, what lies there now.

        Returns:
            How many requests ended in which state, ever.

        Raises:
            UserInputError: another worker is here.
        """
        with locked(self._folder / ".worker.lock") as mine:
            if not mine:
                raise DOOR.wrong(self._folder, "another worker is at this spool")
            self._recover()
            while True:
                for path in requests_in(self._folder):
                    self._one(take(path))
                self._beat()
                if once:
                    return self._state["counts"]
                time.sleep(poll_s)

    def _recover(self) -> None:
        """Go on where the last worker ended, however it ended."""
        self._state = read_state(self._folder) or {"seq": 0, "counts": dict.fromkeys(STATES, 0)}
        self._state |= {"pid": os.getpid(), "strain": self._state.get("strain")}
        self._state.setdefault("frame", no_frame())
        if (self._folder / RESULTS).exists():
            for row in read_log(self._folder / RESULTS, DOOR):
                judged = _is_judged(row)
                self._done[str(row.get("id"))] = row.get("stratum") if judged else None
                self._strata.of(row.get("margin"))
                if judged and row["seq"] > self._state["seq"]:
                    # It was written, and not counted any more.
                    self._count(row)
        self._beat()
        self._kept.clean(self._state["frame"])
        for path in requests_in(self._folder, AGAIN):
            if name_of(path) in self._done:  # it was judged the second time
                self._settle(path)
                continue
            self._finish(
                path, JudgedRequest(state=NOT_RUN, reason="the worker died with it, twice"), 0
            )
        for path in requests_in(self._folder, TAKEN):
            self._one(take(path))

    def _one(self, path: Path) -> None:
        if name_of(path) in self._done:  # its row was written, the file not yet taken away
            self._settle(path)
            return
        samples = 0
        try:
            request = read_request(path)
            samples = request.inputs[WAVEFORM].size if WAVEFORM in request.inputs else 0
            row = self._judge(request)
        except Exception as error:  # noqa: BLE001 - one request must not end the worker
            row = JudgedRequest(state=NOT_RUN, reason=f"{type(error).__name__}: {error}")
        self._finish(path, row, samples)

    def _finish(self, path: Path, row: JudgedRequest, samples: int) -> None:
        """Row, count, file: in this order, so that a kill between two of them loses nothing.

        A request that cannot be heard (``samples`` is 0) is of no stratum.
        """
        name, stratum = name_of(path), self._strata.of(row.margin)
        fields = {field: getattr(row, field) for field in JudgedRequest.__dataclass_fields__}
        fields |= {"kind": "shadow", "seq": self._state["seq"] + 1, "id": name, "samples": samples}
        fields["stratum"] = stratum if self._kept.most and samples else None
        self._results.add(fields)
        self._done = {name: fields["stratum"]}
        self._count(fields)
        self._beat()
        self._settle(path)

    def _count(self, row: Mapping[str, Any]) -> None:
        self._state["seq"] = row["seq"]
        self._state["counts"][row["state"]] += 1
        self._state["strain"] = row.get("strain")
        if row.get("stratum") is not None:
            frame = self._state["frame"]
            frame["recordings"][row["stratum"]] += 1
            frame["longest"] = max(frame["longest"], row["samples"])

    def _settle(self, path: Path) -> None:
        """Keep what was judged and counted for labelling, or take it away."""
        name = name_of(path)
        self._kept.settle(path, name, self._done[name], self._state["frame"], self._beat)
        self._state["settled"] = self._state["seq"]
        self._beat()

    def _beat(self) -> None:
        self._state["seen"] = time.time()
        write_text(self._folder / WORKER, json.dumps(self._state))


def read_state(folder: Path) -> dict[str, Any] | None:
    """What a worker has written of itself; None where there was none yet."""
    path = folder / WORKER
    if not path.exists():
        return None
    content = DOOR.json(path)
    counts = content.get("counts") if isinstance(content, dict) else None
    if not isinstance(counts, dict) or not _is_count(content.get("seq")):
        raise DOOR.bad(path, "no counts")
    if not all(_is_count(counts.get(state)) for state in STATES):
        raise DOOR.bad(path, "no count of every state")
    if not _is_strain(content.get("strain")) or not _is_number(content.get("seen", 0.0)):
        raise DOOR.bad(path, "'strain' or 'seen' is no number")
    if not is_frame(content.get("frame", no_frame())):
        raise DOOR.bad(path, "no frame of a sample")
    return content


def _is_judged(row: Mapping[str, Any]) -> bool:
    """Whether a line is one of a worker's."""
    stratum = row.get("stratum")
    return (
        _is_count(row.get("seq"))
        and row.get("state") in STATES
        and _is_strain(row.get("strain"))
        and (stratum is None or (stratum in (LOW, OTHER) and _is_count(row.get("samples"))))
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_strain(value: object) -> bool:
    return value is None or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_count(value)
