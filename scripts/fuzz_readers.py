"""Give every reader of files inputs that somebody has damaged, and count how that ends.

    python scripts/fuzz_readers.py [--seed 0] [--count 10000] [--seconds S] [--only KIND ...]
                                   [--by-command 0.03] [--corpus DIR] [--failed FILE]
    python scripts/fuzz_readers.py --again KIND:SEED    one input once more, with all that is said

An input is drawn from its kind and seed alone, so a seed that failed can be tried again. Most are
read in a process that reads many; ``--by-command`` is the share for which the command is started
as a user starts it. Exits 1 when fewer inputs than ``--least`` were tried, an exception was not
caught, a command ended with 3 or by a signal, took more than 60 s, or more than 4 GiB beyond what
its libraries take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.corpus import make_corpus  # noqa: E402
from tests.fuzz.kinds import KINDS, make  # noqa: E402
from tests.fuzz.worker import NOTHING_LEFT, UNCAUGHT  # noqa: E402

MOST_SECONDS, MOST_GIB = 60.0, 4.0
TRIAL_SECONDS, TRIAL_GIB = "20", "2"
"""What a foreign file may take in its own process here: less than is a hang."""
_LOOK_SECONDS, _RUN_SECONDS = 0.05, 600.0


@dataclass(slots=True)
class Row:
    """How the inputs of one kind ended."""

    tried: int = 0
    codes: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0
    most_bytes: int = 0


class Worker:
    """A process that tries inputs, started again when it has died or was ended."""

    def __init__(self, corpus: Path):
        self.corpus = corpus
        self.child: subprocess.Popen | None = None
        self.base = 0

    def start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", str(self.corpus), str(MOST_GIB)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=_environment(),
            start_new_session=True,
        )
        self.lines: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self.child.stdout, self.lines), daemon=True).start()
        if self.lines.get(timeout=300) != "ready\n":
            raise SystemExit("the worker does not start: python -m tests.fuzz.worker CORPUS 4")
        self.base = resident(self.child.pid)

    def stop(self) -> None:
        if self.child is not None:
            end(self.child)
        self.child = None

    def attempt(self, kind: str, seed: int, folder: Path) -> tuple[str, str, int]:
        """How it ended ("0".."3", "uncaught", "died", "hang", "memory"), what was said, bytes."""
        if self.child is None or self.child.poll() is not None:
            self.start()
        assert self.child is not None
        assert self.child.stdin is not None
        job = {"kind": kind, "seed": seed, "folder": str(folder)}
        self.child.stdin.write(json.dumps(job) + "\n")
        self.child.stdin.flush()
        began, most = time.monotonic(), 0
        while True:
            try:
                line = self.lines.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                most = max(most, resident(self.child.pid) - self.base)
                how = limit(time.monotonic() - began, most)
                if how:
                    self.stop()
                    return how, "", most
                continue
            if line is None:
                code = self.child.wait()
                self.stop()
                return "died", f"exit code {code}", most
            told = json.loads(line)
            code = told["code"]
            return "uncaught" if code == UNCAUGHT else str(code), told["said"], most


def by_command(kind: str, seed: int, corpus: Path, folder: Path) -> tuple[str, str, int]:
    """The same with a process of its own, started as users start it."""
    try:
        tried = make(kind, seed, corpus, folder)
    except NOTHING_LEFT:
        return "2", "nothing left to damage", 0
    argv = [word for word in tried.argv if "\0" not in word]
    argv = [word.encode("utf-8", "replace").decode() for word in argv]
    with (folder / "said.txt").open("w+b") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "exporter", *argv],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=tried.folder or folder,
            env=_environment(),
            start_new_session=True,
        )
        began, most, how = time.monotonic(), 0, ""
        # Where less than the command reads the input in process, the command is a whole run.
        seconds = MOST_SECONDS if tried.call is None else _RUN_SECONDS
        while child.poll() is None and not how:
            time.sleep(_LOOK_SECONDS)
            most = max(most, resident(child.pid) - (2 << 29))
            how = limit(time.monotonic() - began, most, seconds)
        end(child)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    code = child.returncode
    how = how or ("died" if code < 0 else str(code))
    if any(line.startswith("Traceback") for line in lines) and how != "3":
        how = "uncaught"
    return how, (lines[-1][:300] if lines else ""), most


def limit(seconds: float, taken: int, most: float = MOST_SECONDS) -> str:
    """Which limit is passed; "" for none."""
    if seconds > most:
        return "hang"
    return "memory" if taken > MOST_GIB * 2**30 else ""


def resident(process: int) -> int:
    """Bytes of a process and of its children."""
    total = 0
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
        total = int(pages) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += resident(int(child))
    except (OSError, IndexError, ValueError):
        pass
    return total


def end(child: subprocess.Popen) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "EXPORT_VERIFY_CACHE": "off",
        "EXPORT_VERIFY_TRIAL_SECONDS": TRIAL_SECONDS,
        "EXPORT_VERIFY_TRIAL_GIB": TRIAL_GIB,
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def _pump(stream, lines: queue.SimpleQueue) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def plan(seed: int, count: int, only: list[str]) -> list[tuple[str, int]]:
    """Kind and seed of every input, mixed."""
    kinds = only or list(KINDS)
    shares = [KINDS[kind][1] for kind in kinds]
    draw = Random(seed)
    found, next_seed = [], Counter()
    for kind in draw.choices(kinds, shares, k=count):
        found.append((kind, seed * 1_000_000 + next_seed[kind]))
        next_seed[kind] += 1
    return found


def sweep(args: argparse.Namespace, corpus: Path) -> tuple[dict[str, Row], list[dict]]:
    rows = {kind: Row() for kind in args.only or KINDS}
    failed: list[dict] = []
    worker = Worker(corpus)
    draw = Random(args.seed + 1)
    began = time.monotonic()
    for number, (kind, seed) in enumerate(plan(args.seed, args.count, args.only), 1):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=args.scratch))
        command = draw.random() < args.by_command
        start = time.monotonic()
        how, said, most = (
            by_command(kind, seed, corpus, folder)
            if command
            else worker.attempt(kind, seed, folder)
        )
        shutil.rmtree(folder, ignore_errors=True)
        row, seconds = rows[kind], time.monotonic() - start
        row.tried += 1
        row.codes[how] += 1
        row.seconds += seconds
        row.slowest = max(row.slowest, seconds)
        row.most_bytes = max(row.most_bytes, most)
        if how not in ("0", "1", "2"):
            held = {"kind": kind, "seed": seed, "how": how, "command": command, "said": said}
            failed.append(held)
            print(json.dumps(held), flush=True)
        late = args.seconds is not None and time.monotonic() - began > args.seconds
        if number % 250 == 0 or late:
            print(
                f"{number} tried, {len(failed)} findings, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            if args.failed:
                write_failed(args.failed, failed)
        if late:
            break
    worker.stop()
    return rows, failed


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown."""
    heads = ("0", "1", "2", "3", "uncaught", "died", "hang", "memory")
    lines = [
        "| input | tried | exit 0 | 1 | 2 | 3 | uncaught | died | over 60 s | over 4 GiB "
        "| slowest, s | most memory, MiB |",
        "|---|" + "--:|" * 11,
    ]
    total = Row()
    for row in rows.values():
        total.tried += row.tried
        total.codes += row.codes
        total.slowest = max(total.slowest, row.slowest)
        total.most_bytes = max(total.most_bytes, row.most_bytes)
    for kind, row in (*rows.items(), ("**all**", total)):
        counts = " | ".join(f"{row.codes[head]:,}" for head in heads)
        lines.append(
            f"| {kind} | {row.tried:,} | {counts} | {row.slowest:.1f} | {row.most_bytes >> 20:,} |"
        )
    return "\n".join(lines)


def write_failed(path: Path, failed: list[dict]) -> None:
    path.write_text("".join(json.dumps(held) + "\n" for held in failed))


def again(name: str, corpus: Path) -> int:
    """Try one input in this process, and say everything."""
    import traceback

    kind, _, seed = name.rpartition(":")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tried = make(kind, int(seed), corpus, folder)
    print("in", folder, "\n$ export-verify", *tried.argv, flush=True)
    os.environ.update(_environment())
    os.chdir(tried.folder or folder)
    if tried.call is not None:
        try:
            tried.call()
        except Exception:  # noqa: BLE001 - shown
            traceback.print_exc()
            return 1
        return 0
    from exporter.cli import main

    return main(list(tried.argv))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, help="stop after so long, whatever the count")
    parser.add_argument("--least", type=int, default=1, help="fewer inputs than these are no pass")
    parser.add_argument("--only", action="append", default=[], choices=list(KINDS))
    parser.add_argument("--by-command", type=float, default=0.03, metavar="SHARE")
    parser.add_argument("--corpus", type=Path, help="healthy files, made when they are not there")
    parser.add_argument(
        "--scratch", type=Path, help="folder for what is tried; made when it is not there"
    )
    parser.add_argument("--failed", type=Path, help="one line of JSON per input that failed")
    parser.add_argument("--again", metavar="KIND:SEED")
    args = parser.parse_args()
    if args.scratch:
        args.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as made:
        corpus = make_corpus((args.corpus or Path(made)).resolve())
        if args.again:
            return again(args.again, corpus)
        rows, failed = sweep(args, corpus)
    print(table(rows))
    if args.failed:
        write_failed(args.failed, failed)
    tried = sum(row.tried for row in rows.values())
    print(f"{tried:,} inputs tried from seed {args.seed}, {len(failed)} findings")
    if tried < args.least:
        print(f"fewer than {args.least:,} were tried: that is no pass")
    return 1 if failed or tried < args.least else 0


if __name__ == "__main__":
    sys.exit(main())
