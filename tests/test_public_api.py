"""What `import exporter` gives: small, typed, looked up when it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import exporter
from exporter.config.run_options import RunOptions

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    *("Report", "RunOptions", "SpeechRunner"),
    *("check", "debug", "export", "load_pipeline", "run", "verify"),
}


def fresh(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_these_and_each_is_what_it_says():
    assert set(exporter.__all__) == {*NAMES, "__version__"} == set(dir(exporter))
    for name in NAMES:
        assert getattr(exporter, name).__name__ == name


def test_a_type_checker_sees_every_name_where_it_really_lives():
    tree = ast.parse((ROOT / "exporter" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == exporter._HOMES and set(seen) == NAMES


def test_no_name_is_that_of_a_folder_which_would_take_its_place():
    inside = {path.stem for path in (ROOT / "exporter").iterdir()}
    assert not NAMES & inside


@pytest.mark.parametrize("name", ["RunOptions", "Report", "load_pipeline", "SpeechRunner"])
def test_what_needs_no_torch_loads_none(name):
    code = f"import sys, exporter; exporter.{name}; print('torch' in sys.modules)"
    assert fresh(code) == "False"


def test_the_functions_stay_functions_after_everything_was_imported():
    code = (
        "import exporter.debugging.debug_layers, exporter.flows.check\n"
        "import exporter.flows.golden_check\n"
        "import exporter\n"
        "print(*(callable(getattr(exporter, name)) for name in exporter.__all__[:3]),"
        " callable(exporter.debug), callable(exporter.run))"
    )
    assert set(fresh(code).split()) == {"True"}


def test_no_flow_has_a_parameter_that_the_record_of_options_has():
    from exporter.flows import check, debug, golden_check, golden_record, run, verify

    flows = (
        run.run,
        verify.verify,
        check.check,
        golden_check.check,
        golden_record.record,
        debug.debug,
    )
    for flow in flows:
        parameters = inspect.signature(flow).parameters
        assert {"options", "progress", "fields"} <= set(parameters), flow
        assert not set(parameters) & set(RunOptions.model_fields), flow


def test_the_wheel_says_that_it_is_typed(tmp_path: Path):
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        names = wheel.namelist()
    assert "exporter/py.typed" in names and "exporter/flows/run.py" in names


def test_a_pipeline_is_typed_wherever_it_is_handed_on():
    folder = ROOT / "exporter"
    loose = [
        f"{path.relative_to(folder)}:{number}"
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "pipeline: Any" in line
    ]
    assert not loose
