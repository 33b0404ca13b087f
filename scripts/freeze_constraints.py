"""Write constraints.txt: exact versions of what pyproject.toml needs, as installed here.

Run it in an environment whose tests have passed:  .venv/bin/python scripts/freeze_constraints.py
Only names and public versions are written, so the same file fits every build of a package.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# Exact versions that the tests ran with; written by scripts/freeze_constraints.py.\n"


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Return name -> public version of the requirements and everything that they need."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(item, extra) for item in requirements for extra in ("", *item.extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen or not _applies(requirement, ""):
            continue
        seen.add((name, extra))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is needed but not installed here")
        found[name] = Version(installed.version).public
        for line in installed.requires or ():
            below = Requirement(line)
            if _applies(below, extra):
                below.marker = None
                waiting += [(below, more) for more in ("", *below.extras)]
    return found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The runtime for a CPU is left out: it and the one for CUDA overwrite each other.
    extras = {k: v for k, v in project["optional-dependencies"].items() if k != "cpu"}
    lines = project["dependencies"] + sum(extras.values(), [])
    needed = [Requirement(line) for line in lines]
    found = closure([held for held in needed if held.name != project["name"]])
    text = HEAD + "".join(f"{name}=={found[name]}\n" for name in sorted(found))
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8")
    print(f"constraints.txt: {len(found)} packages")


if __name__ == "__main__":
    main()
