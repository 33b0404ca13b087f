"""docs/architecture.md tells the truth: what it names is there, and every folder is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"


def named_paths(text: str) -> list[str]:
    """Paths below ``exporter/`` or ``tests/`` in backticks."""
    return re.findall(r"`((?:exporter|tests|pipelines)/[\w./]*)`", text)


def test_every_path_that_the_page_names_is_there():
    found = named_paths(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 20
    assert not [path for path in found if not (ROOT / path).exists()]


def test_every_folder_of_the_package_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    folders = {p.parent.name for p in (ROOT / "exporter").glob("*/__init__.py")}
    assert len(folders) > 15
    assert not [name for name in sorted(folders) if f"`{name}/`" not in text]


def test_the_questions_are_fifteen_and_each_has_an_answer_of_its_own():
    rows = re.findall(r"^\| (Where .*\?) \| `(.*)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 15
    assert len({path for _, path in rows}) == 15


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("CONTRACTS", "contracts/runner.py"),
        ("MODELS", "models/__init__.py"),
        ("PROVIDERS", "execution/deployment.py"),
    ],
)
def test_what_a_recipe_sends_people_to_is_defined_there(name: str, file: str):
    text = (ROOT / "exporter" / file).read_text(encoding="utf-8")
    assert re.search(rf"^{name}\b.*=", text, re.MULTILINE)
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
