"""One module of an upstream package, without the package's own ``__init__``."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.models.import_alone import import_alone

_NAME = "eager_upstream"
_INIT = """
import importlib
RAN.append(1) if "RAN" in globals() else globals().update(RAN=[1])
VERSION = "7"
for name in ("parts", "parts.one", "parts.two"):
    importlib.import_module(f"{__name__}.{name}")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose ``__init__`` imports all of its modules."""
    folder = tmp_path / _NAME
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text(_INIT)
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "one.py").write_text(
        f"import {_NAME}\n\n\nclass One:\n    pass\n\n\ndef version():\n"
        f"    return {_NAME}.VERSION\n"
    )
    (folder / "parts" / "two.py").write_text("class Two:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [n for n in sys.modules if n.partition(".")[0] == _NAME]:
        del sys.modules[name]
    sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "package", "") != _NAME]


def test_only_the_module_that_was_asked_for_is_imported(package: Path):
    one = import_alone(f"{_NAME}.parts.one")
    assert one.One.__module__ == f"{_NAME}.parts.one"
    assert _NAME not in sys.modules
    assert f"{_NAME}.parts.two" not in sys.modules


def test_the_package_can_still_be_imported_whole_and_has_the_same_classes(package: Path):
    one = import_alone(f"{_NAME}.parts.one")
    whole = importlib.import_module(_NAME)
    assert whole.RAN == [1]
    assert whole.parts.one.One is one.One
    assert whole.parts.two.Two
    assert not any(getattr(f, "package", "") == _NAME for f in sys.meta_path)


def test_what_was_not_touched_brings_the_whole_package(package: Path):
    (package / "front.py").write_text("")
    import_alone(f"{_NAME}.parts.one")
    importlib.import_module(f"{_NAME}.front")
    assert sys.modules[_NAME].RAN == [1]


def test_a_module_that_holds_its_package_gets_what_it_has_later(package: Path):
    assert import_alone(f"{_NAME}.parts.one").version() == "7"


def test_a_second_module_leaves_the_package_alone_too(package: Path):
    import_alone(f"{_NAME}.parts.one")
    import_alone(f"{_NAME}.parts.two")
    assert _NAME not in sys.modules
    assert sum(getattr(f, "package", "") == _NAME for f in sys.meta_path) == 1


def test_what_needs_its_package_is_imported_as_usual(package: Path):
    (package / "parts" / "one.py").write_text(
        f"from {_NAME} import VERSION\n\n\nclass One:\n    pass\n"
    )
    one = import_alone(f"{_NAME}.parts.one")
    assert one.VERSION == "7"
    assert sys.modules[_NAME].RAN == [1]
    assert sys.modules[f"{_NAME}.parts.one"] is one


def test_a_package_that_is_imported_already_stays(package: Path):
    whole = importlib.import_module(_NAME)
    assert import_alone(f"{_NAME}.parts.one") is whole.parts.one
    assert sys.modules[_NAME] is whole


def test_what_does_not_exist_is_an_import_error(package: Path):
    with pytest.raises(ImportError):
        import_alone(f"{_NAME}.parts.three")
    with pytest.raises(ImportError):
        import_alone("no_such_upstream_package.part")


@pytest.mark.slow
def test_sensevoice_is_built_without_the_rest_of_funasr():
    pytest.importorskip("funasr")
    code = (
        "import sys\n"
        "from exporter import load_pipeline\n"
        "from exporter.graph.wrap import wrap\n"
        "wrap(load_pipeline('pipelines/sensevoice_tiny.yaml'))\n"
        "held = [n for n in sys.modules if n.startswith('funasr')]\n"
        "assert 0 < len(held) < 100, len(held)\n"
        "assert 'transformers' not in sys.modules and 'numba' not in sys.modules\n"
        "from funasr import AutoModel\n"
        "from funasr.register import tables\n"
        "assert 'Paraformer' in tables.model_classes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
