"""Several runs at once, and runs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.cache.store import Store
from tests.cache.filled import holds, key, put
from tests.cache.test_store import ENTRY, MORE

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from exporter.cache import store as under
from tests.cache.filled import put

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[2]
if where == "before the manifest":
    under.write_manifest = die
elif where == "before the move":
    under.Store._move_in = die
elif where == "between two files":
    place, count = under.place, []
    def second(*args):
        die() if count else count.append(place(*args))
    under.place = second
elif where == "while it takes away":
    under.shutil.rmtree = die
store = under.Store(Path(sys.argv[1]) / "cache", int(sys.argv[3]))
put(store, Path(sys.argv[1]) / "killed", "b")
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("where", ["between two files", "before the manifest", "before the move"])
def test_a_run_killed_while_it_stores_leaves_nothing_that_is_believed(tmp_path, where):
    store = Store(tmp_path / "cache", MORE)
    put(store, tmp_path / "out", "a")
    done = python(KILLED, tmp_path, where, MORE)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((store.root / "parts").iterdir())
    assert store.take(key("b"), tmp_path / "two").entry is None
    assert [entry.label for entry in store.entries()] == ["pipeline a"]
    put(store, tmp_path / "out", "b")
    assert store.take(key("b"), tmp_path / "two").entry is not None
    # What the killed run left has gone, the locks of parts as well.
    assert list((store.root / "parts").iterdir()) == []
    assert {path.name for path in (store.root / "locks").iterdir()} == {key("a"), key("b")}


def test_a_run_killed_while_it_takes_away_leaves_no_half_entry(tmp_path):
    store = Store(tmp_path / "cache", ENTRY)
    put(store, tmp_path / "out", "a")
    done = python(KILLED, tmp_path, "while it takes away", ENTRY)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for name in "ab":
        found = store.take(key(name), tmp_path / "two")
        assert found.problem == ""
    store.trim()
    assert list((store.root / "parts").iterdir()) == []


BUSY = """
import random, sys
from pathlib import Path
from exporter.cache.store import Store
from tests.cache.filled import holds, key, put, FILES, parts, write_files

root, number, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(number)
store, hits = Store(root / "cache", limit), 0
for turn in range(60):
    name, out = draw.choice("abcd"), root / f"out{number}"
    found = store.take(key(name), out)
    assert found.problem == "", found.problem
    if found.entry is not None:
        hits += 1
        assert holds(out, name)
    else:
        done = store.put(key(name), write_files(out, name), list(FILES), parts=parts(name),
                         label=name, facts={}, digests={})
    if turn % 20 == 19:
        store.clear()
print(hits)
"""


def test_many_runs_share_a_cache_that_is_too_small_for_them(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: python(BUSY, tmp_path, n, 2 * ENTRY), range(4)))
    for held in done:
        assert held.returncode == 0, held.stderr
    assert sum(int(held.stdout) for held in done) > 0
    store = Store(tmp_path / "cache", 2 * ENTRY)
    store.trim()
    assert sum(entry.bytes for entry in store.entries()) <= 2 * ENTRY
    assert list((store.root / "parts").iterdir()) == []
    for entry in store.entries():
        assert store.take(entry.key, tmp_path / "last").entry is not None
        assert holds(tmp_path / "last", entry.label.removeprefix("pipeline "))


def test_two_runs_that_store_the_same_both_go_on(tmp_path):
    first, second = (Store(tmp_path / "cache", MORE) for _ in range(2))
    entry = put(first, tmp_path / "one")
    again = put(second, tmp_path / "two")
    assert again.key == entry.key and len(second.entries()) == 1
    assert list((first.root / "parts").iterdir()) == []
