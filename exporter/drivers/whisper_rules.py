"""What a decoder may not choose: suppressed tokens, and Whisper's rules of timestamps.

The rules are those of "Robust Speech Recognition via Large-Scale Weak Supervision" (Radford et al.,
2022) as its decoder has them: timestamps come in pairs, except before the end; they never go back;
the first token is a timestamp; where timestamps together are likelier than every other token, one
of them it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.config.driver import Attention, TimestampRules
from exporter.drivers.decisions import check_tokens, log_softmax

_NEVER = -np.inf


def allowed_scores(config: Attention, scores: np.ndarray, said: Sequence[int]) -> np.ndarray:
    """Scores [vocabulary] in which what may not be chosen is -inf.

    Args:
        said: tokens after the first ones.

    Raises:
        ConfigError: the vocabulary has no such token.
    """
    allowed = np.array(scores, dtype=np.float64)
    check_tokens(config.suppress, len(allowed), "suppress")
    check_tokens(config.begin_suppress, len(allowed), "begin_suppress")
    allowed[list(config.suppress)] = _NEVER
    if config.suppress_from is not None:
        allowed[config.suppress_from :] = _NEVER
    if not said:
        allowed[list(config.begin_suppress)] = _NEVER
    if config.timestamps is not None:
        _timestamps(config.timestamps, config.end, allowed, said)
    return allowed


def _timestamps(
    rules: TimestampRules, end: int | None, scores: np.ndarray, said: Sequence[int]
) -> None:
    begin = rules.begin
    text_end = begin if end is None else end
    if rules.no_timestamps is not None:
        check_tokens((rules.no_timestamps,), len(scores), "timestamps.no_timestamps")
        scores[rules.no_timestamps] = _NEVER
    last = len(said) >= 1 and said[-1] >= begin
    before = len(said) < 2 or said[-2] >= begin
    if last and before:
        scores[begin:] = _NEVER
    elif last:
        scores[:text_end] = _NEVER
    times = [token for token in said if token >= begin]
    if times:
        # A segment that has begun may end where it began only if no other has.
        least = times[-1] if last and not before else times[-1] + 1
        scores[begin:least] = _NEVER
    if not said:
        scores[:begin] = _NEVER
        if rules.max_initial is not None:
            scores[begin + rules.max_initial + 1 :] = _NEVER
    if not np.isfinite(scores).any():
        return
    logs = log_softmax(scores)
    with np.errstate(divide="ignore"):
        timed = np.log(np.exp(logs[begin:]).sum())
    if timed > logs[:begin].max(initial=_NEVER):
        scores[:begin] = _NEVER
