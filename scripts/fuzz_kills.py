"""Kill commands at random moments, and see whether anything half-written is believed afterwards.

    python scripts/fuzz_kills.py [--seed 0] [--count 200] [--seconds S] [--folder DIR]
                                 [--failed FILE] [--forked]

Each round starts a command (a run, a verification, the recording of a golden, a run that fills
the cache, or two runs into one folder), kills it with SIGKILL after a random time, and looks at
what lies there: a report that parses must name files that are as it says, a certificate must hold
and be of a passing verdict, a golden and a cached entry must be absent or whole. After every tenth
kill, and at the end, one of the commands is run to its end in the same folders, and has to pass.
With ``--forked`` a command begins in a copy of a process that has
loaded all libraries, so that kills fall into its work and not into its imports.
Exits 1 when any of this does not hold. Rounds are drawn from the seed; the moment at which a
process is killed depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PIPELINE = ROOT / "pipelines" / "silero_vad_tiny.yaml"
KINDS = ("run", "verify", "golden record", "cache store", "two runs")
CHECK_EVERY = 10
MOST_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folders of one sweep."""

    root: Path
    forked: bool = False

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def golden(self) -> Path:
        return self.root / "golden"

    @property
    def cache(self) -> Path:
        return self.root / "cache"


def command(kind: str, place: Place) -> list[str]:
    """The command line of a kind."""
    start = [sys.executable, "-m", "exporter"]
    end = [str(PIPELINE), "--output-dir", str(place.out), "--threads", "1", "--quiet"]
    if kind == "verify":
        return [*start, "verify", *end, "--onnx", str(place.root / "given.onnx")]
    if kind == "golden record":
        words = ["--reason", "kills", "--golden-dir", str(place.golden), "--case", "silence"]
        return [*start, "golden", "record", *end, *words]
    return [*start, "run", *end, "--case", "silence"]


class Forked:
    """A command in a copy of this process; the part of ``Popen`` that is used here."""

    def __init__(self, words: list[str], place: Place, cache: str) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 3
        try:
            os.setsid()
            said = os.open(place.root / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.chdir(place.root)
            os.environ["EXPORT_VERIFY_CACHE"] = cache
            from exporter.cli import main as command_line

            code = command_line(words)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked", timeout or 0)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def load_libraries() -> None:
    """All that a command imports, so that copies of this process need not."""
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import onnxsim  # noqa: F401
    import torch

    import exporter.flows.golden_check
    import exporter.flows.run
    import exporter.flows.verify  # noqa: F401

    torch.set_num_threads(1)  # a copy has no other threads than the one that makes it


def started(kind: str, place: Place) -> subprocess.Popen[bytes] | Forked:
    """Start a command in a session of its own; its words go to a file."""
    cached = kind in ("cache store", "two runs")
    if place.forked:
        words = command(kind, place)[3:]
        return Forked(words, place, str(place.cache) if cached else "off")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "EXPORT_VERIFY_CACHE": str(place.cache) if cached else "off",
    }
    with (place.root / "said.txt").open("wb") as said:
        return subprocess.Popen(
            command(kind, place),
            cwd=place.root,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def whole(kind: str, place: Place) -> str:
    """Run a command to its end; returns what is wrong, "" for nothing."""
    child = started(kind, place)
    try:
        code = child.wait(MOST_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return f"{kind}: did not end within {MOST_SECONDS:g} s"
    if code:
        said = (place.root / "said.txt").read_text(errors="replace")
        return f"{kind}: exit {code}: {said[-2000:]}"
    return ""


def half_believed(place: Place) -> list[str]:
    """What lies there and would be believed, though it is not whole."""
    from exporter.core.errors import ExportVerifyError
    from exporter.golden.store import exists, read_golden
    from exporter.graph.certificate import check_certificate
    from exporter.report.beside import changed_files
    from exporter.report.schema import read_report

    found = []
    for report_path in (place.out / "report.json", place.out / "verify" / "report.json"):
        if report_path.is_file():
            try:
                found += changed_files(read_report(report_path), report_path)
            except ExportVerifyError as error:
                found.append(f"{report_path.name} is there and cannot be read: {error}")
    model = place.out / "model.onnx"
    if model.is_file():
        try:
            checked = check_certificate(model)
            certificate = checked.certificate
            if certificate is not None and (
                checked.changes or certificate.get("verdict") != "pass"
            ):
                found.append(f"the certificate: {checked.changes} {certificate.get('verdict')}")
        except ExportVerifyError as error:
            found.append(f"model.onnx is there and cannot be read: {error}")
    golden = place.golden / "silero_vad_tiny"
    if exists(golden):
        try:
            read_golden(golden)
        except ExportVerifyError as error:
            found.append(f"the golden: {error}")
    return [*found, *_damaged_entries(place)]


def _damaged_entries(place: Place) -> list[str]:
    from exporter.cache.entry import DamagedEntryError, read_entry

    found = []
    folder = place.cache / "entries"
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            read_entry(path).check()
        except DamagedEntryError as error:
            found.append(f"a cached entry: {error}")
    return found


def kill_one(kind: str, place: Place, random: Random, longest: float) -> tuple[int, list[str]]:
    """One round: returns how many processes were killed, and what those that ended did wrong."""
    children = [started(kind, place) for _ in range(2 if kind == "two runs" else 1)]
    killed, wrong = 0, []
    for child in children:
        wait = random.uniform(0, longest)
        deadline = time.monotonic() + wait
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
        code = child.wait()
        if code == -signal.SIGKILL:
            killed += 1
        elif code:
            wrong.append(f"ended by itself with exit {code}")
    return killed, wrong


def prepare(place: Place) -> float:
    """A finished run, and a file to verify; returns how long a run takes here."""
    began = time.monotonic()
    problem = whole("run", place)
    if problem:
        raise SystemExit(problem)
    took = time.monotonic() - began
    (place.root / "given.onnx").write_bytes((place.out / "model.onnx").read_bytes())
    return took


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--forked", action="store_true", help="begin with libraries loaded")
    parser.add_argument("--seconds", type=float, help="stop after so long, whatever the count")
    parser.add_argument("--failed", type=Path, help="what did not hold is written there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-kills-") as name:
        place = Place(root=given.folder or Path(name), forked=given.forked)
        place.root.mkdir(parents=True, exist_ok=True)
        if given.forked:
            load_libraries()
        return sweep(place, given)


def sweep(place: Place, given: argparse.Namespace) -> int:
    """All rounds; prints a table."""
    began, random = time.monotonic(), Random(given.seed)
    longest = prepare(place)
    killed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    wrong: list[str] = []
    rounds = whole_runs = 0
    last = False
    # A sweep in which nothing was killed has tried nothing: it goes on until something was.
    while not last:
        kind = random.choice(KINDS)
        here, problems = kill_one(kind, place, random, longest)
        killed[kind] += here
        ended[kind] += (2 if kind == "two runs" else 1) - here
        rounds += 1
        problems += half_believed(place)
        wrong += [f"round {rounds} ({kind}): {line}" for line in problems]
        late = given.seconds is not None and time.monotonic() - began > given.seconds
        last = late or (rounds >= given.count and killed.total() > 0)
        if rounds % CHECK_EVERY == 0 or last:
            problem = whole(random.choice(KINDS), place)
            whole_runs += 1
            wrong += [f"round {rounds}, the next one: {problem}"] if problem else []
            wrong += [f"round {rounds}, after it: {line}" for line in half_believed(place)]
            print(f"{rounds} rounds, {len(wrong)} problems", flush=True)
    for kind in KINDS:
        print(f"{kind:<16} {killed[kind]:>5} killed {ended[kind]:>5} ended")
    if not killed.total():
        wrong.append("nothing was killed: all processes had ended before their time came")
    print(f"{rounds} rounds, {whole_runs} runs to the end, {len(wrong)} problems")
    for line in wrong:
        print(f"  {line}")
    if given.failed:
        given.failed.write_text("\n".join(wrong), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
