"""A copy in the place of a child that Python is started for: it ends, and is ended, as that one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.fuzz.corpus import ROOT

_ASKS = """
import contextlib, json, os, subprocess, sys, time
from tests.fuzz import forked
from exporter.execution import trial

def gone(pid):
    for _ in range(200):
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.05)
    return False

def asked(code, *words, **streams):
    return trial.child_process([sys.executable, "-P", "-c", code, *words], **streams)

forked.start()
"""
_NESTED = "import subprocess, sys, time; from exporter.execution import trial; "
_NESTED += "inner = trial.child_process([sys.executable, '-P', '-c', 'import os, time; "
_NESTED += "print(os.getpid(), flush=True); time.sleep(60)']); "
_NESTED += "held = inner.__enter__(); print(held.stdout.readline(), flush=True); time.sleep(60)"


def told(script: str) -> object:
    """What a process says, as JSON, that may ask for copies of itself."""
    done = subprocess.run(
        [sys.executable, "-c", _ASKS + script, _NESTED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import sys; print(sys.argv[1:]); sys.exit(3)", 3),
        ("print('x', end='')", 0),
        ("import sys; sys.exit('why')", 1),
        ("import sys; print('e', file=sys.stderr, flush=True)", 0),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("import os; os._exit(124)", 124),
    ],
)
def test_ends_as_python_would(code: str, ended: int):
    words = [sys.executable, "-P", "-c", code, "a", "b"]
    python = subprocess.run(words, capture_output=True, text=True)
    script = f"""
with asked({code!r}, "a", "b", stderr=subprocess.PIPE) as child:
    print(json.dumps([child.stdout.read(), child.stderr.read(), child.wait()]))
"""
    assert told(script) == [python.stdout, python.stderr, ended]
    assert python.returncode == ended


def test_an_exception_is_told_as_python_tells_it():
    script = """
with asked("raise ValueError('no')", stderr=subprocess.PIPE) as child:
    print(json.dumps([child.stderr.read().splitlines()[0::99], child.wait()]))
"""
    assert told(script) == [["Traceback (most recent call last):"], 1]


def test_it_is_waited_for_and_ended_with_all_that_it_started():
    script = """
with asked(sys.argv[1]) as child:
    inner = int(child.stdout.readline())
    late = False
    try:
        child.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        late = True
    alive = os.path.exists(f"/proc/{inner}")
print(json.dumps([late, alive, gone(child.pid), gone(inner), child.returncode]))
"""
    assert told(script) == [True, True, True, True, -signal.SIGKILL]


def test_it_ends_with_whoever_asked():
    script = """
with asked(sys.argv[1]) as child:
    inner = int(child.stdout.readline())
    os.kill(child.pid, 9)
    print(json.dumps([child.wait(), gone(inner)]))
"""
    assert told(script) == [-signal.SIGKILL, True]


def test_a_process_with_threads_is_not_copied():
    script = """
import threading
threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
try:
    forked.start()
except RuntimeError as error:
    print(json.dumps(str(error)))
"""
    assert "threads" in str(told(script))
