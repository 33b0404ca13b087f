"""CTC: the likeliest token of each frame, or a prefix beam search (Graves, 2012; Hannun, 2014)."""

from __future__ import annotations

import numpy as np

from exporter.config.driver import Ctc
from exporter.core.tensors import Arrays
from exporter.drivers.decisions import Decider, check_tokens, log_softmax
from exporter.drivers.frames import counted_frames
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome, Pool

_NEVER = -np.inf
_Prefix = tuple[int, ...]


def drive(config: Ctc, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
    """The hypothesis of one utterance.

    Raises:
        DriverStoppedError: scores that are no numbers, or of another shape.
        ConfigError: the vocabulary has no such blank.
    """
    graph = graphs[config.graph]
    outputs = Pool(case, config.feed).call(graph)
    logs = log_softmax(counted_frames(graph, outputs, config.scores, config.lengths))
    check_tokens((config.blank,), logs.shape[-1], "blank")
    if config.beams == 1:
        return _greedy(config, graph, logs, decider)
    return _prefix_beam(config, graph, logs, decider)


def _greedy(config: Ctc, graph: Graph, logs: np.ndarray, decider: Decider) -> Outcome:
    said: list[int] = []
    last, total = config.blank, 0.0
    for at, frame in enumerate(logs):
        (token,) = decider.choose(frame, of=graph.name, what="frame", at=at)
        total += float(frame[token])
        if token not in (config.blank, last):
            said.append(token)
        last = token
    return Outcome(tokens=tuple(said), score=total)


def _prefix_beam(config: Ctc, graph: Graph, logs: np.ndarray, decider: Decider) -> Outcome:
    # Of each prefix: log probabilities of the ways that end in a blank, and that do not.
    beams: dict[_Prefix, tuple[float, float]] = {(): (0.0, _NEVER)}
    if np.isnan(logs).any():
        raise DriverStoppedError(f"'{config.scores}' holds NaN", graph=graph.name)
    for at, frame in enumerate(logs):
        reached: dict[_Prefix, tuple[float, float]] = {}
        for prefix, (blank, other) in beams.items():
            both = float(np.logaddexp(blank, other))
            _add(reached, prefix, both + float(frame[config.blank]), _NEVER)
            for token, score in enumerate(frame.tolist()):
                if token == config.blank:
                    continue
                if prefix and token == prefix[-1]:
                    _add(reached, prefix, _NEVER, other + score)
                    _add(reached, (*prefix, token), _NEVER, blank + score)
                else:
                    _add(reached, (*prefix, token), _NEVER, both + score)
        names = list(reached)
        totals = np.array([np.logaddexp(*reached[name]) for name in names])
        chosen = decider.choose(totals, of=graph.name, what="frame", at=at, count=config.beams)
        beams = {names[index]: reached[names[index]] for index in chosen}
    best = next(iter(beams))
    return Outcome(tokens=best, score=float(np.logaddexp(*beams[best])))


def _add(
    beams: dict[_Prefix, tuple[float, float]], prefix: _Prefix, blank: float, other: float
) -> None:
    before = beams.get(prefix, (_NEVER, _NEVER))
    beams[prefix] = (float(np.logaddexp(before[0], blank)), float(np.logaddexp(before[1], other)))
