"""The guard in conftest.py stops tests that leave their folder or this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")

BAD = {
    "wrote outside of its temporary folder": [
        "open(OUTSIDE / 'new.txt', 'w')",
        "(OUTSIDE / 'there.txt').open('r+')",
        "(OUTSIDE / 'there.txt').unlink()",
        "(OUTSIDE / 'folder').mkdir()",
        "(OUTSIDE / 'there.txt').rename(OUTSIDE / 'moved.txt')",
        "os.open(OUTSIDE / 'low.txt', os.O_CREAT | os.O_WRONLY)",
        "import shutil; shutil.rmtree(OUTSIDE)",
    ],
    "reached for the network": [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=0.01)",
        "import socket; socket.getaddrinfo('example.org', 443)",
    ],
}


def run_pytest(folder: Path, body: str) -> str:
    outside = folder / "outside"
    inside = folder / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "there.txt").write_text("kept")
    shutil.copy(CONFTEST, inside / "conftest.py")
    (inside / "test_it.py").write_text(
        f"import os\nfrom pathlib import Path\n\nOUTSIDE = Path({str(outside)!r})\n\n\n{body}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider", "test_it.py"],
        cwd=inside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (outside / "there.txt").read_text() == "kept"
    return done.stdout + done.stderr


def test_tests_that_break_out_fail_even_if_they_swallow_the_error(tmp_path):
    statements = [(said, line) for said, lines in BAD.items() for line in lines]
    body = "\n\n\n".join(
        f"def test_{number}():\n    try:\n        {line}\n    except Exception:\n        pass"
        for number, (_, line) in enumerate(statements)
    )
    output = run_pytest(tmp_path, body)
    assert f"{len(statements)} failed" in output
    for said, lines in BAD.items():
        assert output.count(f"this test {said}") == len(lines)


def test_a_fixture_is_watched_too(tmp_path):
    body = (
        "import pytest\n\n\n@pytest.fixture\ndef spill():\n    (OUTSIDE / 'x').write_text('')\n\n\n"
        "def test_it(spill):\n    pass"
    )
    output = run_pytest(tmp_path, body)
    assert "1 error" in output
    assert "wrote outside" in output


def test_honest_tests_pass(tmp_path):
    body = (
        "def test_it(tmp_path):\n    import socket, tempfile\n"
        "    (tmp_path / 'a').write_text('x')\n    tempfile.mkstemp()\n"
        "    (OUTSIDE / 'there.txt').read_text()\n    open('/dev/null', 'w').close()\n"
        "    socket.getaddrinfo('localhost', 80)"
    )
    assert "1 passed" in run_pytest(tmp_path, body)
