"""Scripts that a clone begins with: installed once, continued when interrupted, never fooled."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    "awk bash cat chmod dirname env flock grep mkdir mv readlink rm sed sha256sum tail tee".split()
)

# Stands in for python: makes "virtual environments" of itself and writes down what pip is told.
FAKE_PYTHON = """#!/usr/bin/env bash
here=$(dirname "$(readlink -f "$0")")
case "$1 ${2:-}" in
  "-c "*) exit "${FAKE_TOO_OLD:-0}" ;;
  "--version "*) echo "Python 3.11.0" ;;
  "-m venv") mkdir -p "$3/bin"; cat "$FAKE" >"$3/bin/python"; chmod +x "$3/bin/python" ;;
  "-m pip")
    [[ $3 == --version ]] && exit 0
    echo "pip ${*:3}" >>"$FAKE_CALLS"
    echo "Collecting something"
    if [[ -n ${FAKE_FAILS:-} ]]; then echo "ERROR: the index is gone"; exit 1; fi
    printf '#!/usr/bin/env bash\\necho "ran in $PWD with $*"\\nexit 7\\n' >"$here/export-verify"
    chmod +x "$here/export-verify" ;;
esac
"""

FAKE_UPSTREAM = """#!/usr/bin/env bash
echo "upstream $* into $PYTHON" >>"$FAKE_CALLS"
if [[ -n ${FAKE_UPSTREAM_FAILS:-} ]]; then echo "ERROR: no such wheel"; exit 1; fi
"""


@pytest.fixture
def clone(tmp_path):
    """A clone with nothing but what bootstrap reads, and a fake python3 as the only one."""
    folder = tmp_path / "a clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/bootstrap", "scripts/export-verify"):
        shutil.copy(ROOT / name, folder / name)
    upstream = folder / "scripts" / "install-upstream"
    upstream.write_text(FAKE_UPSTREAM)
    upstream.chmod(upstream.stat().st_mode | stat.S_IXUSR)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    fake = tools / "python3"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return folder


def start(clone: Path, script="scripts/bootstrap", *arguments, cwd=None, **variables):
    tools = clone.parent / "bin"
    return subprocess.run(
        [str(clone / script), *arguments],
        cwd=cwd or clone,
        env={
            "PATH": str(tools),
            "FAKE": str(tools / "python3"),
            "FAKE_CALLS": str(clone.parent / "calls"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def calls(clone: Path) -> list[str]:
    path = clone.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_the_first_start_installs_torch_and_then_the_rest_with_constraints(clone):
    done = start(clone)
    assert done.returncode == 0, done.stderr
    first, second = calls(clone)
    assert "torch==" in first
    assert second.endswith((f"--editable {clone}[all,gpu]", f"--editable {clone}[all,cpu]"))
    for call in (first, second):
        assert f"--constraint {clone}/constraints.txt" in call
    assert "ready" in done.stderr


def test_a_second_start_does_nothing_and_is_instant(clone):
    start(clone)
    before = calls(clone)
    started = time.perf_counter()
    done = start(clone)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.perf_counter() - started < 0.3
    assert calls(clone) == before


def test_tests_need_more_and_bring_what_a_run_needs(clone):
    start(clone)
    start(clone, "scripts/bootstrap", "test")
    assert calls(clone)[-2].endswith((f"{clone}[test,gpu]", f"{clone}[test,cpu]"))
    assert calls(clone)[-1] == f"upstream all into {clone}/.venv/bin/python"
    count = len(calls(clone))
    start(clone)
    assert len(calls(clone)) == count


def test_a_failed_installation_shows_its_log_and_is_continued_by_the_next_start(clone):
    done = start(clone, FAKE_FAILS="1")
    assert done.returncode == 3
    assert "the index is gone" in done.stderr
    assert "install.log" in done.stderr
    assert not list((clone / ".venv").glob("stamp-*"))
    assert start(clone).returncode == 0
    assert len(calls(clone)) == 3


def test_upstream_packages_that_fail_show_the_log_and_are_tried_again(clone):
    done = start(clone, "scripts/bootstrap", "test", FAKE_UPSTREAM_FAILS="1")
    assert done.returncode == 3 and "no such wheel" in done.stderr
    assert not list((clone / ".venv").glob("stamp-*"))
    assert start(clone, "scripts/bootstrap", "test").returncode == 0


def test_an_environment_that_was_left_half_made_is_made_again(clone):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "made-by-export-verify").write_text(str(clone))
    assert start(clone).returncode == 0
    assert (clone / ".venv" / "bin" / "python").exists()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "scripts/install-upstream"])
def test_a_changed_requirement_is_installed(clone, name):
    start(clone)
    with (clone / name).open("a") as file:
        file.write("\n# changed\n")
    start(clone)
    assert len(calls(clone)) == 4


def test_an_environment_of_someone_else_is_left_alone(clone):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "precious").write_text("kept")
    done = start(clone)
    assert done.returncode == 2
    assert "move it away" in done.stderr
    assert (clone / ".venv" / "precious").read_text() == "kept"


def test_a_moved_clone_is_installed_again(clone):
    start(clone)
    moved = clone.rename(clone.parent / "moved")
    done = start(moved)
    assert "making" in done.stderr
    assert f"--editable {moved}[all," in calls(moved)[-1]


def test_an_old_python_is_refused_with_what_to_do(clone):
    done = start(clone, FAKE_TOO_OLD="1")
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (clone / ".venv").exists()


def test_export_verify_runs_where_the_user_is_and_keeps_arguments_and_exit_code(clone, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(clone / "scripts" / "export-verify")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for script in (clone / "scripts" / "export-verify", link):
        done = start(clone, script, "run", "a b.yaml", cwd=elsewhere)
        assert done.returncode == 7
        assert done.stdout == f"ran in {elsewhere} with run a b.yaml\n"


@pytest.mark.parametrize(
    "path",
    [
        ".ci/run",
        "scripts/bootstrap",
        "scripts/export-verify",
        "scripts/install-system-packages",
        "scripts/test",
        "scripts/test-python",
    ],
)
def test_scripts_are_executable_and_parse(path):
    assert os.access(ROOT / path, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / path)], check=True)


def test_constraints_are_names_and_public_versions_of_everything_declared():
    import re
    import tomllib

    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            assert re.fullmatch(r"[a-z0-9-]+", name), line
            assert re.fullmatch(r"[0-9][0-9a-z.]*", version), line
            pins[name] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *sum(extras.values(), [])]
    for requirement in set(declared) - set(extras["cpu"]):
        name = re.split(r"[\[<>=~!]", requirement)[0]
        if name == "export-verify":
            continue
        assert name in pins, f"run scripts/freeze_constraints.py: {name} is not pinned"
        assert "<" in requirement or "==" in requirement, f"{requirement} has no upper bound"
    assert pins["torch"] == "2.13.0"
    assert "onnxruntime" not in pins, "only onnxruntime-gpu; the two overwrite each other"


def test_install_upstream_names_what_it_knows(tmp_path):
    script = ROOT / "scripts" / "install-upstream"
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
    told = subprocess.run([script], capture_output=True, text=True, check=False)
    assert told.returncode == 0 and "scripts/install-upstream moshi" in told.stdout
    wrong = subprocess.run(
        [script, "moshy"], capture_output=True, text=True, check=False, env=environment
    )
    assert wrong.returncode == 2 and "known: moshi, transformers, speechbrain" in wrong.stderr
    without = subprocess.run(
        [script, "moshi"], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "python")},
    )  # fmt: skip
    assert without.returncode == 2 and "scripts/bootstrap" in without.stderr


def test_install_upstream_does_nothing_where_everything_is_there():
    done = subprocess.run(
        [ROOT / "scripts" / "install-upstream", "all"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
