"""What is right for each small model from outside, and whether an answer is that.

A row is a kind of model that people bring, with the answers that would be right. ``waiting`` says
why a row is not right yet: its test is then expected to fail, strictly, so that whoever mends the
kind has to take the words away.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.cli import main
from exporter.report.schema import Report, read_report

FOLDER = Path(__file__).resolve().parent
EAGER_LINK = "eager -> captured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a run answered: its exit code, its words, and its report if it left one."""

    exit_code: int
    text: str
    report: Report | None

    @property
    def verdict(self) -> str:
        """In a word or two: the verdict of the report, or how the run ended."""
        if self.exit_code == 3:
            return "crash"
        if self.exit_code == 2 or self.report is None:
            return "refused"
        return self.report.verdict

    def words(self) -> str:
        """One line that a table can hold."""
        if self.report is not None and self.exit_code in (0, 1):
            return " ".join(self.report.headline.split())
        lines = [line for line in self.text.splitlines() if line.startswith(("error:", "This is"))]
        return lines[0] if lines else self.text.strip()[-200:]


Check = Callable[[Seen], str]
"""Returns "" for a right answer, else what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: what is right in words, how that is told, and why it is not so yet.

    ``by_chance``: while it waits, it is right now and then.
    """

    name: str
    right: str
    check: Check
    waiting: str = ""
    by_chance: bool = False


def passes(*words: str) -> Check:
    """A pass, every declared link included, whose report says ``words`` somewhere."""

    def check(seen: Seen) -> str:
        if seen.exit_code != 0 or seen.report is None:
            return f"exit {seen.exit_code}"
        bad = [link.name for link in seen.report.links if link.verdict != "pass"]
        if seen.report.verdict != "pass" or bad or not seen.report.outputs:
            return f"exit 0 with the verdict {seen.report.verdict}; not passed: {bad}"
        return _says(seen, words)

    return check


def fails_at(link: str) -> Check:
    """A fail (never a crash) whose first failing comparison is ``link``."""

    def check(seen: Seen) -> str:
        if seen.exit_code != 1 or seen.report is None:
            return f"exit {seen.exit_code}"
        failing = [each.name for each in seen.report.links if each.verdict == "fail"]
        return "" if failing[:1] == [link] else f"the first comparison that fails is {failing[:1]}"

    return check


def refused(*words: str) -> Check:
    """Exit 2 with a remedy (a second line) and ``words``."""

    def check(seen: Seen) -> str:
        if seen.exit_code != 2:
            return f"exit {seen.exit_code}"
        if "\n  " not in seen.text[seen.text.find("error:") :]:
            return "no remedy"
        return _says(seen, words)

    return check


def ambiguous(*words: str) -> Check:
    """Neither right nor wrong, and counted as such: exit 1, verdict ``ambiguous``."""

    def check(seen: Seen) -> str:
        if seen.exit_code != 1 or seen.report is None or seen.report.verdict != "ambiguous":
            return f"exit {seen.exit_code}, {seen.verdict}"
        return _says(seen, words)

    return check


def finding(*words: str) -> Check:
    """A finding about the kernel: said, and never charged to a stage of the export."""

    def check(seen: Seen) -> str:
        if seen.exit_code not in (0, 1) or seen.report is None:
            return f"exit {seen.exit_code}"
        blamed = [each.layer for each in seen.report.culprits if each.stage == "export"]
        if blamed:
            return f"the export is blamed at {blamed}"
        return _says(seen, words)

    return check


def either(*checks: Check) -> Check:
    """Any of several right answers."""

    def check(seen: Seen) -> str:
        wrong = [check(seen) for check in checks]
        return "" if "" in wrong else "; ".join(wrong)

    return check


def _says(seen: Seen, words: tuple[str, ...]) -> str:
    text = seen.text + (seen.report.model_dump_json() if seen.report is not None else "")
    missing = [word for word in words if word.lower() not in text.lower()]
    return f"never says {missing}" if missing else ""


_DIFFERS = fails_at(EAGER_LINK)

TABLE = (
    Row(
        name="exporting",
        right="fail: eager and captured differ; the first comparison is the guilty one",
        check=_DIFFERS,
    ),
    Row(
        name="resampled",
        right="pass: the size that is computed from the input's follows it, at all sizes tried",
        check=passes("python_sizes"),
    ),
    Row(
        name="odd_length",
        right="fail, or refused: takes multiples of 4 only",
        check=either(_DIFFERS, refused("frames", "4")),
    ),
    Row(
        name="long_sum",
        right="pass: the order of a sum costs float32's own digits",
        check=passes(),
    ),
    Row(
        name="long_norm",
        right="a finding about onnxruntime's kernel; the graph is right",
        check=finding("kernel"),
    ),
    Row(
        name="allocated",
        right="pass: memory never written is no value",
        check=passes(),
        by_chance=True,
    ),
    Row(
        name="reshaped",
        right="pass: the shape of a view changes, no value is written",
        check=passes(),
    ),
    Row(
        name="spectrum",
        right="complex values are compared; onnxruntime's STFT is a finding about the kernel",
        check=finding("kernel"),
    ),
    Row(
        name="tied",
        right="ambiguous: which of equal values comes first is not defined",
        check=ambiguous("equal values"),
    ),
    Row(
        name="length_item",
        right="pass: a length read as a number is a size of the graph",
        check=passes(),
    ),
    Row(
        name="count_of_tensor",
        right="pass: len() of a tensor is its first size",
        check=passes(),
    ),
    Row(
        name="kept_table",
        right="pass: a table that grows is computed for every length",
        check=passes(),
    ),
    Row(
        name="positions",
        right="pass, with the largest size found and said: 209 samples",
        check=passes("209"),
    ),
    Row(
        name="lists",
        right="pass: lists, tuples and dicts of tensors in and out",
        check=passes(),
    ),
    Row(
        name="loop",
        right="pass with a Loop, or refused with a remedy",
        check=either(passes(), refused("a while_loop", "states")),
    ),
    Row(
        name="through",
        right="pass: an Identity where an output is an input or comes twice",
        check=passes(),
    ),
    Row(
        name="encoder",
        right="pass: torch's own encoder with a padding mask",
        check=passes(),
    ),
    Row(
        name="capped",
        right="pass, or refused with a remedy",
        check=either(passes(), refused("max_norm")),
    ),
    Row(
        name="stored",
        right="pass: bfloat16 weights behind a Cast",
        check=passes(),
    ),
    Row(
        name="flattened",
        right="pass: a value that is kept in another shape is compared after reshaping",
        check=passes(),
    ),
    Row(
        name="one_step",
        right="pass: one element at the example is no constant",
        check=passes(),
    ),
    Row(
        name="cached_step",
        right="pass: the cache of a decoder is a state, from an empty one on",
        check=passes(),
    ),
    Row(
        name="whole_decoder",
        right="pass: a class of transformers with its cache, as it is",
        check=passes(),
    ),
    Row(
        name="static_cache",
        right="pass: a cache that is written in place",
        check=passes(),
    ),
    Row(
        name="two_caches",
        right="pass: the caches of an encoder-decoder are states",
        check=passes(),
    ),
    Row(
        name="records",
        right="pass: records inside of records, a class of one's own, an argument without a name",
        check=passes(),
    ),
    Row(
        name="numbers",
        right="pass: scalars, int32 and bool in and out; a number of Python is a result",
        check=passes(),
    ),
    Row(
        name="complex_ends",
        right="pass: complex numbers come and go as pairs",
        check=passes(),
    ),
    Row(
        name="half_sums",
        right="pass: a sum in float16 comes out in float16",
        check=passes(),
    ),
    Row(
        name="squeeze_nothing",
        right="pass: squeeze of a larger axis does nothing",
        check=passes(),
    ),
)


def ask(name: str, output_dir: Path, *more: str) -> Seen:
    """Run one model's pipeline in this process, as the command line would."""
    words = io.StringIO()
    arguments = ["run", str(FOLDER / f"{name}.yaml"), "--trust", "--threads", "1"]
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = main([*arguments, "--output-dir", str(output_dir), *more])
    path = output_dir / "report.json"
    report = read_report(path) if path.is_file() else None
    return Seen(exit_code=code, text=words.getvalue(), report=report)
