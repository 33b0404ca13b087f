"""The results of a manifest as a whole, and per bucket: by duration, and by the user's tags."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.config.system import System
from exporter.metrics.embedding import verify_pairs
from exporter.parity.exit_code import decide
from exporter.parity.status import Status, is_good, status_of
from exporter.report.comparison import VerdictRecord
from exporter.report.system import BucketRecord, ErrorsRecord, ManifestRecord, PairsRecord, stated
from exporter.systems.manifest_rows import Row, Rows

_ENDS = (1, 2, 5, 10, 20, 60)
"""Seconds at which a bucket of durations ends."""
_MOST_BUCKETS = 200
_WORST = 20
_MOST_PAIRED = 2000
"""Embeddings of which all pairs are verified: two million pairs."""


@dataclass(slots=True)
class _Bucket:
    verdicts: Counter[str] = field(default_factory=Counter)
    token_errors: int = 0
    tokens: int = 0
    errors: int = 0
    onnx_errors: int = 0
    words: int = 0

    def take(self, row: Row) -> None:
        self.verdicts[row.verdict] += 1
        self.token_errors += row.token_errors[0]
        self.tokens += row.token_errors[1]
        if row.words is not None:
            self.errors += row.words[0]
            self.onnx_errors += row.words[1]
            self.words += row.words[2]

    def record(self, name: str) -> BucketRecord:
        rate = (lambda errors: errors / self.words) if self.words else (lambda errors: None)
        return BucketRecord(
            name=name,
            utterances=self.verdicts.total(),
            verdicts=dict(self.verdicts),
            token_errors=self.token_errors,
            tokens=self.tokens,
            word_error_rate=rate(self.errors),
            onnx_word_error_rate=rate(self.onnx_errors),
        )


def summary_of(system: System, path: Path, rows: Rows, total: int) -> ManifestRecord:
    """Sum up the results on disk, row by row.

    Args:
        path: of the manifest. total: how many utterances it has.
    """
    whole = _Bucket()
    buckets: dict[str, _Bucket] = {}
    worst: list[tuple[int, str]] = []
    sides: list[tuple[list[float], list[float], str]] = []
    seconds, only_differ = 0.0, True
    for row in rows:
        whole.take(row)
        seconds += row.seconds or 0.0
        for name in _names(row):
            if name in buckets or len(buckets) < _MOST_BUCKETS:
                buckets.setdefault(name, _Bucket()).take(row)
        if not is_good(row.verdict):
            # In the manifest's order, whatever order several processes gave them in.
            bisect.insort(worst, (row.number, f"{row.name}: {row.verdict}: {row.reason}"))
            del worst[_WORST:]
            only_differ &= status_of(row.verdict) is not Status.FAIL or row.differs
        if row.embedding and row.onnx_embedding and len(sides) < _MOST_PAIRED:
            key = system.judge.embeddings.same if system.judge.embeddings else ""
            if key in row.tags:
                sides.append((row.embedding, row.onnx_embedding, str(row.tags[key])))
    pairs = _pairs(system, sides)
    return ManifestRecord(
        file=str(path),
        utterances=total,
        done=whole.verdicts.total(),
        taken_up=rows.taken_up,
        verdict=_verdict(system, whole, total, only_differ, pairs),
        verdicts=dict(whole.verdicts),
        buckets=[buckets[name].record(name) for name in sorted(buckets, key=_order)],
        errors=[
            ErrorsRecord(
                unit="token",
                substitutions=whole.token_errors,
                deletions=0,
                insertions=0,
                length=whole.tokens,
                rate=whole.token_errors / max(1, whole.tokens),
            )
        ],
        worst=[told for _, told in worst],
        pairs=pairs,
        audio_seconds=seconds,
    )


def _names(row: Row) -> Iterator[str]:
    """Buckets that a row belongs to."""
    if row.seconds is not None:
        yield duration_bucket(row.seconds)
    for key, value in row.tags.items():
        yield f"{key}={value}"


def duration_bucket(seconds: float) -> str:
    """``duration 2-5 s``, or ``duration 60 s and more``."""
    start = 0
    for end in _ENDS:
        if seconds < end:
            return f"duration {start}-{end} s"
        start = end
    return f"duration {start} s and more"


def _order(name: str) -> tuple[bool, int, str]:
    """Durations first, by their length."""
    durations = [duration_bucket(end - 0.5) for end in (*_ENDS, _ENDS[-1] + 1)]
    known = name in durations
    return not known, durations.index(name) if known else 0, name


def _verdict(
    system: System, whole: _Bucket, total: int, only_differ: bool, pairs: PairsRecord | None
) -> VerdictRecord:
    counts = {status_of(word): count for word, count in whole.verdicts.items()}
    rate = whole.token_errors / max(1, whole.tokens)
    allowed = system.judge.max_token_error_rate
    statuses = [(status, True) for status, count in counts.items() for _ in range(min(count, 1))]
    said = ", ".join(f"{count} {status.value}" for status, count in sorted(counts.items()))
    reason = f"{total} utterances: {said}; token error rate {rate:.4g}"
    if counts.get(Status.FAIL) and only_differ and 0.0 < rate <= allowed:
        statuses = [(s, r) for s, r in statuses if s is not Status.FAIL]
        statuses.append((Status.FINDING, True))
        reason += f", declared: {allowed:g}"
    if whole.verdicts.total() < total:
        statuses.append((Status.NOT_RUN, True))
        reason += f"; {total - whole.verdicts.total()} were not run"
    shown = [status for status, _ in statuses if status is not Status.EMPTY_AS_DECLARED]
    if not shown:
        statuses.append((Status.NOT_RUN, True))
        reason += "; nothing was said in any of them: nothing was compared"
    if pairs is not None:
        statuses.append((status_of(pairs.verdict.verdict), True))
        reason += f"; {pairs.verdict.reason}"
    decision = decide(
        statuses, ambiguous=counts.get(Status.AMBIGUOUS), ambiguous_cap=system.max_ambiguous
    )
    return stated(decision.status, reason)


def _pairs(system: System, rows: list[tuple[list[float], list[float], str]]) -> PairsRecord | None:
    config = system.judge.embeddings
    if config is None:
        return None
    verified = None
    sizes = {len(side) for row in rows for side in row[:2]}
    if len(rows) >= 2 and len(sizes) == 1:
        sides = [np.array([row[side] for row in rows]) for side in (0, 1)]
        verified = verify_pairs(sides[0], sides[1], [row[2] for row in rows])
    if verified is None or verified.expected_eer is None:
        why = f"no pairs of one and of two '{config.same}': equal error was not measured"
        if len(sizes) > 1:
            why = f"'{config.output}' has {len(sizes)} sizes: equal error was not measured"
        verdict = stated(Status.NOT_RUN, why)
    else:
        status = Status.PASS if verified.flipped <= config.max_flipped_pairs else Status.FAIL
        why = (
            f"equal error {verified.expected_eer:.4g} (PyTorch), {verified.actual_eer:.4g} (ONNX);"
            f" {verified.flipped} of {verified.pairs} pairs are decided otherwise"
        )
        verdict = stated(status, why)
    return PairsRecord(
        pairs=0 if verified is None else verified.pairs,
        same=0 if verified is None else verified.same,
        expected_eer=None if verified is None else verified.expected_eer,
        actual_eer=None if verified is None else verified.actual_eer,
        threshold=None if verified is None else verified.threshold,
        flipped=0 if verified is None else verified.flipped,
        verdict=verdict,
    )
