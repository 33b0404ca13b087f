"""What the README and the pages of docs/ print is true."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from exporter.cli import cli
from exporter.config import load_pipeline
from exporter.config.pipeline import Pipeline
from exporter.config.shipped import shipped_pipeline
from tests.config.texts import refused, write

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
PIPELINE, PYTHON = DOCS["pipeline.md"], DOCS["python.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_it_opens_with_the_two_commands():
    first = [line for line in README.splitlines() if line.strip()][1:3]
    assert first[0].startswith("    scripts/export-verify run pipelines/sensevoice.yaml ")
    assert first[1].startswith("    scripts/test ")


def test_its_pipeline_loads_and_shows_every_section_that_a_speech_pipeline_has(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", PIPELINE, re.DOTALL)
    text = block.replace("../golden", str(ROOT / "golden"))
    pipeline = load_pipeline(write(tmp_path, text))
    assert pipeline.parity.overrides[0].reason
    only_own_models = {"inputs", "axes", "states", "description", "capture"}
    assert set(Pipeline.model_fields) - only_own_models <= set(re.findall(r"^(\w+):", block, re.M))


def test_its_error_is_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    text = (ROOT / "pipelines" / "sensevoice.yaml").read_text(encoding="utf-8")
    text = text.replace("../golden", str(ROOT / "golden")).replace("  threshold", "  treshold")
    message = refused(write(tmp_path / "pipelines", text, "mine.yaml"))
    shown = re.search(r"error: (pipelines/mine.yaml:)\d+(: .*?)\n {4}(  did you.*?)\n", PIPELINE)
    assert shown is not None
    assert (
        re.sub(r":\d+:", ":", message, count=1)
        == f"{shown[1]}{shown[2][2:]}".replace("yaml:", "yaml: ", 1) + f"\n{shown[3]}"
    )


def test_its_place_is_the_place():
    shown = re.search(r'where\("vad", "threshold"\)\)  # (\S+:\d+: \S+)', PYTHON)
    assert shown is not None
    pipeline = load_pipeline(ROOT / "pipelines" / "sensevoice_tiny.yaml")
    assert pipeline.where("vad", "threshold").endswith(shown[1].removeprefix("pipelines/"))


def anchors(text: str) -> set[str]:
    """Ids of a page's headings, as GitHub and Python-Markdown make them."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    bare = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).lower() for head in heads]
    return {re.sub(r"[^\w\- ]", "", head).strip().replace(" ", "-") for head in bare}


def broken_links(page: Path, text: str) -> list[str]:
    plain = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))
    found = []
    for link in LINK.findall(plain):
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        good = path.exists() and (not anchor or anchor in anchors(path.read_text("utf-8")))
        found += [] if good else [link]
    return found


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in sorted(DOCS))])
def test_its_links_lead_somewhere(page):
    path = ROOT / page
    assert broken_links(path, path.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_found():
    page = ROOT / "docs" / "index.md"
    assert broken_links(page, "[a](none.md) [b](debug.md#nowhere) [c](debug.md)") == [
        "none.md",
        "debug.md#nowhere",
    ]


def test_every_page_is_in_the_site_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = re.findall(r"[\w-]+\.md", str(site["nav"]))
    assert sorted(named) == sorted(DOCS)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "contracts" / "index.html").is_file()


def shown_commands(text: str) -> list[list[str]]:
    """Lines of the page's blocks that start with the program's name, without comments."""
    lines = re.findall(r"^(?:\$ |    )(?:scripts/)?export-verify (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md", "docs/install.md"])
def test_the_commands_that_it_shows_have_these_options(page):
    found = shown_commands((ROOT / page).read_text(encoding="utf-8"))
    assert found or page == "docs/install.md"
    for words in found:
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, words
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, words
        for word in words[1:]:
            if word.endswith(".yaml") and word.startswith("pipelines/"):
                assert (ROOT / word).is_file(), word
        if words[0] == "run" and "." not in words[1]:
            assert shipped_pipeline(words[1]) is not None, words


def test_the_commands_of_its_table_are_all_there_are():
    table = DOCS["commands.md"].split("## ", 1)[0]
    rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    named = {
        word for row in rows for code in re.findall(r"`([^`]+)`", row) for word in code.split()
    }
    assert set(cli.list_commands(click.Context(cli))) <= named


def test_its_figures_are_those_of_one_measured_run():
    """The row of sensevoice in docs/systems.md is made from one report; the README quotes it."""
    full = DOCS["systems.md"].split("<!-- full -->")[1]
    (row,) = re.findall(r"^\| `sensevoice` \|(.*)$", full, re.MULTILINE)
    weights, _, run, size, *_, values, links, contracts, verdict = (
        cell.strip() for cell in row.strip("|").split("|")
    )
    assert verdict == "pass" and verdict.upper() in README
    assert f"run sensevoice                 # on two cores: {run}\n" in README
    (row,) = re.findall(r"^\| `silero_vad` \|(.*)$", full, re.MULTILINE)
    assert (
        f"run silero_vad                 # on two cores: {row.split(' | ')[2].strip()}\n" in README
    )
    assert f"{weights.replace(' M', ' million')} seeded weights" in README
    assert f"`model.onnx` of {size}" in README
    assert f"{values.replace(',', '')} values inside" in README
    assert f"all {links.split()[0]} links agree" in README
    assert re.search(rf"{contracts.split()[0]} contract\W", README)


def test_its_seconds_are_those_of_the_page_on_performance():
    wanted = re.findall(r"^\| (.*?), 2 threads \| ([\d.]+) \|", README, re.MULTILINE)
    assert len(wanted) == 3
    rows = re.findall(r"^\| .* \| 60 \| 2 \| ([\d.]+) \|", DOCS["performance.md"], re.MULTILINE)
    assert {seconds for _, seconds in wanted} <= set(rows)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:exporter|tests|scripts)/[\w./]+)`", README)))
)
def test_the_files_it_names_exist(path):
    assert (ROOT / path).exists() or "yours" in path


@pytest.mark.slow
def test_its_example_for_long_recordings_runs(tiny_run, tmp_path, monkeypatch, capsys):
    block = next(
        text
        for text in re.findall(r"```python\n(.*?)```", PYTHON, re.DOTALL)
        if "SpeechRunner" in text
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sensevoice").symlink_to(tiny_run.folder)
    (tmp_path / "golden").symlink_to(ROOT / "golden")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_what_it_says_of_torchs_verifier_is_what_the_installed_torch_does():
    import torch
    from torch.onnx._internal.exporter import _verification

    (row,) = re.findall(r"^\| `torch.onnx.verification` \(torch (\S+)\) \|(.*)$", README, re.M)
    assert torch.__version__.startswith(row[0])
    source = inspect.getsource(_verification._VerificationInterpreter)
    limits = re.search(r"max_abs_diff > (\S+) or info.max_rel_diff > (\S+):", source)
    assert limits is not None and f"above {limits[1]}, or {limits[2]} relative" in row[1]
    assert "compute_values([node_name]" in source and "a run of the file for each value" in row[1]


def test_its_table_of_other_tools_has_only_what_is_installed_here():
    table = README.split("## Beside other tools")[1].split("\n\n")[1]
    named = [line.split(" | ")[0].strip("| `") for line in table.splitlines()[2:]]
    assert [name.split("`")[0] for name in named] == ["export-verify", "torch.onnx.verification"]


def test_every_page_on_how_to_use_it_is_linked():
    """A page that is on no way from the README is not read."""
    from_readme = {link.split("#")[0].removeprefix("docs/") for link in LINK.findall(README)}
    for page in ("streams.md", "situations.md", "lower.md", "monitor.md", "matrix.md"):
        assert page in from_readme, page
