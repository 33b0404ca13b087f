"""``export-verify report`` and ``export-verify explain`` need a report.json and nothing else."""

import sys

import pytest

from exporter.cli import main
from exporter.report.schema import write_report
from tests.support import reports


@pytest.fixture
def folder(tmp_path):
    write_report(reports.layer_fail(), tmp_path / "report.json")
    return tmp_path


def test_report_renders_again(folder, capsys):
    assert main(["report", str(folder), "--junit", str(folder / "junit.xml")]) == 0
    made = {path.name for path in folder.iterdir()}
    assert made == {
        "report.json",
        "report.html",
        "report.md",
        "model_explorer.json",
        "junit.xml",
    }
    printed = capsys.readouterr().out
    assert "FAIL" in printed and "worst layers" in printed and "report.html" in printed


def test_report_takes_the_file_too_and_can_be_quiet(folder, capsys):
    assert main(["report", str(folder / "report.json"), "--quiet"]) == 0
    assert "worst layers" not in capsys.readouterr().out


def test_explain_prints_what_was_found_and_what_to_do(folder, capsys):
    assert main(["explain", str(folder)]) == 0
    printed = capsys.readouterr().out
    for words in ("FAIL", "340x PyTorch's own", "wrong: onnx", "layers.py:31", "debug", "CUDA"):
        assert words in printed


@pytest.mark.parametrize("command", ["report", "explain"])
def test_a_report_that_cannot_be_read_is_the_users_input(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert "run the pipeline first" in capsys.readouterr().err
    for text in ("{", "[]", "{}", '{"schema_version": "1.0"}'):
        (tmp_path / "report.json").write_text(text)
        assert main([command, str(tmp_path / "report.json")]) == 2
        assert "report.json" in capsys.readouterr().err


def test_escapes_in_a_report_do_not_reach_the_terminal(tmp_path, capsys):
    write_report(reports.with_names("\x1b[31mred"), tmp_path / "report.json")
    for command in ("report", "explain"):
        assert main([command, str(tmp_path)]) == 0
        assert "\x1b" not in capsys.readouterr().out


def test_rendering_imports_neither_torch_nor_a_plot_library(folder):
    import subprocess

    code = (
        "import sys; from exporter.cli import main; assert main(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'bokeh', 'itables', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
