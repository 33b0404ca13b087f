"""The command line: what it refuses, how it ends, and that it stays light until it must not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporter import cli
from exporter.core.errors import StageError, UserInputError

ROOT = Path(__file__).resolve().parents[1]
TINY = str(ROOT / "pipelines" / "sensevoice_tiny.yaml")
HEAVY = {"torch", "onnx", "onnxruntime", "onnxsim", "funasr", "silero_vad"}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """The default output folder lies below the folder that a command is called in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def failing(monkeypatch):
    """Make ``list`` end with an error."""

    def install(error: BaseException) -> None:
        def callback(**given: object) -> None:
            raise error

        from exporter.commands import list as list_command

        monkeypatch.setattr(list_command.command, "callback", callback)

    return install


@pytest.fixture
def pipeline_run(monkeypatch):
    """Replace ``exporter.flows.run``; returns what ``run`` was called with."""
    called = {}

    def run(pipeline, options, **_):
        called.update(options, pipeline=pipeline, output_dir=options.folder(pipeline))
        return SimpleNamespace(exit_code=called.get("answer", 0))

    monkeypatch.setitem(sys.modules, "exporter.flows.run", SimpleNamespace(run=run, verify=run))
    terminal = SimpleNamespace(print_report=lambda report, **_: None)
    monkeypatch.setitem(sys.modules, "exporter.report.terminal", terminal)
    return called


def test_an_error_of_the_user_is_one_message_and_exit_2(failing, capsys):
    failing(UserInputError("the sky is green", where="sky.yaml:3: colour", remedy="make it blue"))
    assert cli.main(["list"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: sky.yaml:3: colour: the sky is green\n  make it blue\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    "error", [ValueError("boom"), StageError("export", "boom"), AssertionError("boom")]
)
def test_anything_else_is_our_bug_with_a_traceback_and_exit_3(failing, capsys, error):
    failing(error)
    assert cli.main(["list"]) == 3
    printed = capsys.readouterr().err
    assert "This is a bug in export-verify" in printed
    assert "Traceback" in printed
    assert "boom" in printed


def test_control_characters_of_an_error_do_not_reach_the_terminal(failing, capsys):
    failing(UserInputError("bad \x1b[31mname\x07"))
    cli.main(["list"])
    assert "\x1b" not in (printed := capsys.readouterr().err)
    assert "\x07" not in printed


def test_an_interrupt_is_exit_130(failing, capsys):
    failing(KeyboardInterrupt())
    assert cli.main(["list"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rum"],
        ["run"],
        ["run", TINY, "--threads", "0"],
        ["run", TINY, "--memory-budget", "lots"],
        ["run", TINY, "--nonsense"],
        ["verify", TINY],
        ["judge", "report.json", "--factor", "1"],
    ],
)
def test_wrong_usage_is_exit_2_without_a_traceback(arguments, capsys):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert "Error" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "Did you mean 'run'?"),
        ([TINY], "Say what to do with it: run"),
        (["run", "nowhere.yaml"], "there is no such file"),
        (["run", TINY, "--case", "englsh"], "its cases: english"),
        (["verify", TINY, "--onnx", "nowhere.onnx"], "does not exist"),
        (["verify", TINY, "--onnx", str(ROOT)], "is a folder"),
        (["judge", "nowhere.json"], "run the pipeline first"),
    ],
)
def test_wrong_input_says_what_would_be_right(arguments, said, capsys):
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_code_named_by_a_yaml_runs_only_with_trust(tmp_path, capsys, pipeline_run):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmodel: {factory: 'os:getcwd'}\noutputs: [y]\n"
        "inputs: {x: {dtype: float32, shape: [batch, 4]}}\n"
        "cases: [{name: c, random: {x: {kind: normal, shape: [2, 4]}}}]\ndefault_case: c\n"
    )
    assert cli.main(["run", str(path)]) == 2
    assert "add --trust" in capsys.readouterr().err
    assert pipeline_run == {}
    assert cli.main(["run", str(path), "--trust"]) == 0
    assert pipeline_run["pipeline"].model.factory == "os:getcwd"


@pytest.mark.parametrize("answer", [0, 1])
def test_run_hands_over_its_options_and_returns_the_verdict(pipeline_run, answer):
    pipeline_run["answer"] = answer
    arguments = "--case english --case noisy --threads 2 --memory-budget 1.5GiB --weights w"
    code = cli.main(["run", TINY, *arguments.split(), "--audio", "my.wav", "--provider", "cpu"])
    assert code == answer
    assert pipeline_run["pipeline"].name == "sensevoice_tiny"
    assert pipeline_run["cases"] == ("english", "noisy")
    assert pipeline_run["memory_budget"] == 3 << 29
    assert pipeline_run["threads"] == 2
    assert pipeline_run["weights"] == "w"
    assert pipeline_run["audio"] == (Path("my.wav"),)
    assert pipeline_run["provider"] == "cpu"
    assert pipeline_run["output_dir"] == Path("runs/sensevoice_tiny")


def test_run_without_options_asks_for_the_defaults(pipeline_run):
    cli.main(["run", TINY])
    assert pipeline_run["cases"] is None
    assert pipeline_run["all_cases"] is False
    assert pipeline_run["threads"] is None
    assert pipeline_run["memory_budget"] is None


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 1 << 30), ("512MiB", 1 << 29), ("2G", 2 * 10**9), ("4096", 4096)]
)
def test_sizes(pipeline_run, text, size):
    cli.main(["run", TINY, "--memory-budget", text])
    assert pipeline_run["memory_budget"] == size


def test_schema_prints_json(capsys):
    assert cli.main(["schema"]) == 0
    assert "default_case" in json.loads(capsys.readouterr().out)["properties"]


def test_list_shows_models_and_pipelines_and_says_which_cannot_be_used(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "good.yaml").write_text(f"extends: {TINY}\nname: good\ndescription: a fine one\n")
    (folder / "bad.yaml").write_text("name: bad\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "  sensevoice\n" in printed
    assert "a fine one" in printed
    assert "cannot be used" in printed


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["list"], 0),
        (["schema"], 0),
        (["run", "nowhere.yaml"], 2),
        (["run", TINY, "--case", "nobody"], 2),
        (["judge", "tests/support/reports.py"], 2),
        (["rum"], 2),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(arguments, code):
    done = run_python(
        "import sys\nfrom exporter.cli import main\ncode = main(sys.argv[1:])\n"
        f"print('HEAVY', sorted(set(sys.modules) & {HEAVY!r}))\nsys.exit(code)",
        *arguments,
    )
    assert done.returncode == code, done.stderr
    assert "HEAVY []" in done.stdout


def test_help_of_the_group_names_every_command_file():
    done = run_python("from exporter.cli import main; main(['--help'])")
    for path in (ROOT / "exporter" / "commands").glob("[a-z]*.py"):
        assert f"  {path.stem.replace('_', '-')} " in done.stdout


def test_the_package_exports_its_python_interface_lazily():
    done = run_python(
        "import sys, exporter\nassert 'torch' not in sys.modules\n"
        "from exporter import load_pipeline\nassert 'torch' not in sys.modules\n"
        "print(exporter.__version__, load_pipeline('pipelines/sensevoice_tiny.yaml').name)\n"
        "try:\n    exporter.nonsense\nexcept AttributeError as error:\n    print(error)"
    )
    assert done.stdout.splitlines() == [
        "0.1.0 sensevoice_tiny",
        "module 'exporter' has no attribute 'nonsense'",
    ]


def test_the_version_is_the_one_of_the_project_file():
    import tomllib

    from exporter import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == __version__


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "run", "nowhere.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere.yaml: there is no such file")


_WITHOUT = """\
import sys
sys.modules[sys.argv[1]] = None
from exporter import cli
sys.exit(cli.main(sys.argv[2:]))
"""


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line where a package is not installed."""
    root = Path(__file__).resolve().parents[1]
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, package, *arguments],
        capture_output=True,
        text=True,
        cwd=root,
    )


def test_without_torch_a_run_says_what_to_install_and_what_works(tmp_path: Path):
    out = ["--output-dir", str(tmp_path)]
    done = without("torch", "run", "pipelines/silero_vad_tiny.yaml", *out)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "PyTorch is not installed here" in done.stderr and "bug" not in done.stderr
    assert "'inspect', 'golden check --onnx FILE'" in done.stderr


def test_without_onnx_a_file_cannot_be_inspected(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"x")
    done = without("onnx", "inspect", str(tmp_path / "m.onnx"))
    assert done.returncode == 2 and "onnx is not installed here" in done.stderr


def test_a_module_of_our_own_that_is_missing_stays_a_bug():
    done = without("exporter.config.json_schema", "schema")
    assert done.returncode == 3 and "This is a bug" in done.stderr
