"""Give every reader of files inputs that somebody has damaged, and count how that ends.

    python scripts/fuzz_readers.py [--seed 0] [--count 10000] [--seconds S] [--only KIND ...]
                                   [--by-command 0.03] [--corpus DIR] [--failed FILE]
                                   [--workers 1] [--log FILE]
    python scripts/fuzz_readers.py --again KIND:SEED    one input once more, with all that is said

An input is drawn from its kind and seed alone, so a seed that failed can be tried again. Most are
read in a process that reads many, where the child that looks at a stranger's file is a copy of a
process that has the libraries loaded (``tests/fuzz/forked.py``); ``--by-command`` is the share for
which the command is started as a user starts it, with the child that it starts. Exits 1 when fewer
inputs than ``--least`` were tried, an exception was not caught, a command ended with 3 or by a
signal, took more than 60 s, or more than 4 GiB beyond what its libraries take.

With ``--log`` each end is a line of that file, and a sweep that was stopped goes on behind the
last one: with the same words and the same state of the program, or not at all.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.corpus import make_corpus  # noqa: E402
from tests.fuzz.ends import Ended, Input, Log, rows_of, table, write_failed  # noqa: E402
from tests.fuzz.kinds import KINDS, make  # noqa: E402
from tests.fuzz.worker import NOTHING_LEFT, UNCAUGHT  # noqa: E402

MOST_SECONDS, MOST_GIB = 60.0, 4.0
TRIAL_SECONDS, TRIAL_GIB = "20", "2"
"""What a foreign file may take in its own process here: less than is a hang."""
_LOOK_SECONDS, _RUN_SECONDS = 0.05, 600.0


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

    def ready(self) -> None:
        """Start it if it is not there."""
        if self.child is None or self.child.poll() is not None:
            self.start()

    def stop(self) -> None:
        if self.child is not None:
            end(self.child)
        self.child = None

    def attempt(self, kind: str, seed: int, folder: Path) -> tuple[str, str, int]:
        """How it ended ("0".."3", "uncaught", "died", "hang", "memory"), what was said, bytes."""
        self.ready()
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


def sweep(args: argparse.Namespace, corpus: Path, log: Log) -> None:
    """Try what is not in the log yet; as many at once as there are workers."""
    draw = Random(args.seed + 1)
    told = {end.number for end in log.ends}
    waiting: queue.SimpleQueue[Input | None] = queue.SimpleQueue()
    for number, (kind, seed) in enumerate(plan(args.seed, args.count, args.only), 1):
        command = draw.random() < args.by_command
        if number not in told:
            waiting.put(Input(number=number, kind=kind, seed=seed, command=command))
    for _ in range(args.workers):
        waiting.put(None)
    began, lock, broken = time.monotonic(), threading.Lock(), threading.Event()

    def late() -> bool:
        return args.seconds is not None and time.monotonic() - began > args.seconds

    def work() -> None:
        worker = Worker(corpus)
        try:
            while not late() and not broken.is_set() and (given := waiting.get()):
                end = ended(given, worker, corpus, args.scratch)
                with lock:
                    note(end)
        except BaseException:
            broken.set()
            raise
        finally:
            worker.stop()

    def note(end: Ended) -> None:
        log.add(end)
        if end.found:
            print(json.dumps(asdict(end)), flush=True)
        if len(log.ends) % 250 == 0:
            found = [held for held in log.ends if held.found]
            seconds = time.monotonic() - began
            print(f"{len(log.ends)} tried, {len(found)} findings, {seconds:.0f} s", flush=True)
            if args.failed:
                write_failed(args.failed, found)

    with ThreadPoolExecutor(args.workers) as pool:
        try:
            for done in [pool.submit(work) for _ in range(args.workers)]:
                done.result()
        finally:
            broken.set()  # Ctrl-C comes here, and the others would go on


def ended(given: Input, worker: Worker, corpus: Path, scratch: Path | None) -> Ended:
    """Try one input in a folder of its own, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=scratch))
    if not given.command:
        worker.ready()
    start = time.monotonic()
    attempt = partial(by_command, corpus=corpus) if given.command else worker.attempt
    how, said, most = attempt(given.kind, given.seed, folder=folder)
    seconds = time.monotonic() - start
    shutil.rmtree(folder, ignore_errors=True)
    return Ended(**asdict(given), how=how, said=said, seconds=round(seconds, 3), bytes=most)


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
    parser.add_argument("--workers", type=int, default=1, help="processes that read, at once")
    parser.add_argument("--log", type=Path, help="each end; a sweep that was stopped goes on")
    parser.add_argument("--again", metavar="KIND:SEED")
    args = parser.parse_args()
    if args.scratch:
        args.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as made:
        corpus = make_corpus((args.corpus or Path(made)).resolve())
        if args.again:
            return again(args.again, corpus)
        words = ("seed", "count", "only", "by_command")
        log = Log(args.log, **{word: getattr(args, word) for word in words})
        sweep(args, corpus, log)
    print(table(rows_of(log.ends, args.only or KINDS)))
    found = [end for end in log.ends if end.found]
    if args.failed:
        write_failed(args.failed, found)
    tried, commands = len(log.ends), sum(end.command for end in log.ends)
    print(f"{tried:,} inputs tried from seed {args.seed} on {log.head['state']},", end=" ")
    print(f"{commands:,} of them by command, {len(found)} findings")
    if tried < args.least:
        print(f"fewer than {args.least:,} were tried: that is no pass")
    return 1 if found or tried < args.least else 0


if __name__ == "__main__":
    sys.exit(main())
