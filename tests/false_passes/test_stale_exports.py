"""Yesterday's export under today's model: something that its code uses has changed since.

What changes acts beyond the sizes that the pipeline runs, so that no number shows it. A second run
must export anew; ``Told`` of a run that did not is a pass, and fails the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.build import cache_key as build_key
from exporter.cache.place import FOLDER_VARIABLE
from exporter.cache.sources import WITHOUT, sources_digest
from exporter.config import load_pipeline
from exporter.graph.wrap import wrap
from tests.false_passes.way import Told, way
from tests.support.cached_project import run_cached

FAR = "torch.arange(x.shape[1]) > LIMIT"
"""A place that is beyond every size that is run: LIMIT is 100000 or 200000."""
NET = f"""\
import torch
from torch import nn
{{imports}}

class Net(nn.Module):
    def forward(self, x):
        LIMIT = {{limit}}
        return {{{{"y": torch.where({FAR}, -x, x) * 2}}}}


def build():
    return Net()
"""
YAML = """\
name: stale
model: {factory: "stale_net:build"}
axes: {frames: {minimum: 1, example: 17}}
inputs: {x: {dtype: float32, shape: [batch, frames]}}
outputs: [y]
cases:
  - {name: noise, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 40}}}}
default_case: noise
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


def project(folder: Path, imports: str, limit: str) -> Path:
    (folder / "toy").mkdir()
    (folder / "lib").mkdir()
    net = NET.format(imports=imports, limit=limit)
    (folder / "toy" / "stale_net.py").write_text(net, encoding="utf-8")
    path = folder / "toy" / "stale.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


def told(folder: Path, yaml: Path, change: Callable[[], object], *, forget: str = "") -> Told:
    """Run, run again unchanged (which takes the cached export), change, run again.

    Args:
        forget: a module that the next process would import anew.
    """
    states = []
    for number, act in enumerate((lambda: None, lambda: None, change)):
        act()
        if forget:
            for name in [n for n in sys.modules if n.partition(".")[0] == forget]:
                del sys.modules[name]
        report = run_cached(yaml, folder / f"out{number}")
        assert report.exit_code == 0 and report.cache is not None
        states.append(report.cache.state)
    assert states[:2] == ["stored", "taken"]
    stale = states[2] == "taken"
    return Told(exit_code=0 if stale else 1, text=f"the export was {states[2]}")


def digest(yaml: Path) -> str:
    """What other commands know a model by: a run of another one is not taken for the present."""
    return wrap(load_pipeline(yaml, trust=True)).weights.digest


@way("a helper module outside the YAML's folder has changed", says="stored")
def test_helper_module(tmp_path: Path) -> Told:
    yaml = project(tmp_path, "import far_helper", "far_helper.LIMIT")
    helper = tmp_path / "lib" / "far_helper.py"
    helper.write_text("LIMIT = 100000\n")
    return told(tmp_path, yaml, lambda: helper.write_text("LIMIT = 200000 \n"), forget="far_helper")


@way("a constant that was imported by name from a helper's helper has changed", says="stored")
def test_helper_of_a_helper(tmp_path: Path) -> Told:
    yaml = project(tmp_path, "from far_package.middle import LIMIT as HELD", "HELD")
    package = tmp_path / "lib" / "far_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "middle.py").write_text("from .inner import LIMIT\n")
    inner = package / "inner.py"
    inner.write_text("LIMIT = 100000\n")
    return told(tmp_path, yaml, lambda: inner.write_text("LIMIT = 200000 \n"), forget="far_package")


@way("a helper that is imported inside of a function has changed", says="stored")
def test_late_import(tmp_path: Path) -> Told:
    yaml = project(tmp_path, "", "__import__('late_helper').LIMIT")
    helper = tmp_path / "lib" / "late_helper.py"
    helper.write_text("LIMIT = 100000\n")
    return told(
        tmp_path, yaml, lambda: helper.write_text("LIMIT = 200000 \n"), forget="late_helper"
    )


@way("a file that the factory reads has changed", says="stored")
def test_data_file(tmp_path: Path) -> Told:
    table = tmp_path / "table.txt"
    table.write_text("100000")
    yaml = project(tmp_path, "from pathlib import Path", f"int(Path({str(table)!r}).read_text())")
    return told(tmp_path, yaml, lambda: table.write_text("200000"))


@way("a file is read by another program, so that nobody sees which", says="stored")
def test_data_file_of_another_program(tmp_path: Path) -> Told:
    table = tmp_path / "table.txt"
    table.write_text("100000")
    read = f"int(subprocess.check_output(['cat', {str(table)!r}]))"
    yaml = project(tmp_path, "import subprocess", read)
    return told(tmp_path, yaml, lambda: table.write_text("200000"))


@pytest.mark.parametrize(
    "read",
    [
        "os.environ['FAR']",
        "os.getenv('FAR')",
        "os.environ.get('FAR', 1)",
        "dict(os.environ)['FAR']",
    ],
)
@way("a variable of the environment has changed", says="stored")
def test_environment(tmp_path: Path, read: str) -> Told:
    yaml = project(tmp_path, "import os", f"int({read})")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAR", "100000")
        return told(tmp_path, yaml, lambda: patch.setenv("FAR", "200000"))


@way("which files lie in a folder has changed", says="stored")
def test_folder_listing(tmp_path: Path) -> Told:
    (tmp_path / "parts").mkdir()
    count = f"100000 + len(os.listdir({str(tmp_path / 'parts')!r}))"
    yaml = project(tmp_path, "import os", count)
    return told(tmp_path, yaml, lambda: (tmp_path / "parts" / "one").touch())


@way("a global of the process has changed, which no file shows", says="stored")
def test_global_of_the_process(tmp_path: Path) -> Told:
    yaml = project(tmp_path, "import builtins", "getattr(builtins, 'far_limit', 100000)")
    with pytest.MonkeyPatch.context() as patch:
        change = lambda: patch.setattr("builtins.far_limit", 200000, raising=False)  # noqa: E731
        return told(tmp_path, yaml, change)


USES = {
    "helper module": ("import far_helper", "far_helper.LIMIT"),
    "constant of a helper": ("from far_helper import LIMIT as HELD", "HELD"),
    "data file": ("import pathlib", "int(pathlib.Path(__file__).with_name('t.txt').read_text())"),
    "variable": ("import os", "int(os.getenv('FAR', '100000'))"),
}


@pytest.mark.parametrize("what", USES)
@way("an earlier run's program is the reference for the changed model", says="another digest")
def test_reference_of_an_earlier_run(tmp_path: Path, what: str) -> Told:
    """``verify``, ``golden check`` and ``debug`` know a finished run by this digest."""
    yaml = project(tmp_path, *USES[what])
    (tmp_path / "lib" / "far_helper.py").write_text("LIMIT = 100000\n")
    (tmp_path / "toy" / "t.txt").write_text("100000")
    before = digest(yaml)
    assert digest(yaml) == before, "the same model keeps its digest in one process"
    (tmp_path / "lib" / "far_helper.py").write_text("LIMIT = 200000 \n")
    (tmp_path / "toy" / "t.txt").write_text("200000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAR", "200000")
        changed = digest(yaml) != before
    return Told(exit_code=int(changed), text="another digest" if changed else "the same digest")


def test_what_the_code_does_not_use_changes_nothing(tmp_path: Path, monkeypatch):
    yaml = project(tmp_path, "import far_helper", "far_helper.LIMIT")
    (tmp_path / "lib" / "far_helper.py").write_text("LIMIT = 100000\n")
    before = digest(yaml)
    (tmp_path / "lib" / "other.py").write_text("X = 1\n")
    (tmp_path / "toy" / "notes.txt").write_text("read by nobody")
    monkeypatch.setenv("FAR", "200000")
    assert digest(yaml) == before


@pytest.mark.slow  # starts another process, which imports torch
def test_another_process_finds_what_this_one_stored(tmp_path: Path):
    yaml = project(tmp_path, "from far_helper import LIMIT as HELD\nimport os", "HELD")
    (tmp_path / "lib" / "far_helper.py").write_text("LIMIT = 100000\n")
    report = run_cached(yaml, tmp_path / "out")
    assert report.cache is not None and report.cache.state == "stored"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.support.cached_project import run_cached\n"
        "print(run_cached(Path(sys.argv[1]), Path(sys.argv[2])).cache.state)"
    )
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), str(tmp_path / "lib")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(yaml), str(tmp_path / "again")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.split()[-1] == "taken", done.stderr


@way("a module of this package is added or changed, and the cache does not know", says="other")
def test_a_module_that_was_added(tmp_path: Path) -> Told:
    folder = tmp_path / "package"
    (folder / "graph").mkdir(parents=True)
    (folder / "graph" / "old.py").write_text("1")
    before = sources_digest(folder)
    (folder / "new_folder").mkdir()
    (folder / "new_folder" / "new.py").write_text("2")
    changed = sources_digest(folder) != before
    return Told(exit_code=int(changed), text="other sources" if changed else "the same")


def test_what_only_shows_is_left_out_and_every_other_module_counts(tmp_path: Path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "page.py").write_text("1")
    before = sources_digest(tmp_path)
    (tmp_path / "report" / "page.py").write_text("2")
    assert sources_digest(tmp_path) == before
    package = Path(build_key.__file__).parents[1]
    assert {path.name for path in package.iterdir() if path.is_dir()} >= WITHOUT
    assert not {"graph", "models", "speech", "execution", "parity", "cases"} & WITHOUT
