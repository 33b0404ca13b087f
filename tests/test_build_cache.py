"""A second run takes what the first one made, and only when it would make the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import exporter.build.build as making
from exporter.build.cached_export import STAGES
from exporter.cache.place import FOLDER_VARIABLE
from exporter.cache.store import open_store
from exporter.graph.certificate import check_certificate
from tests.support.cached_project import MODULE, PARTS, YAML, run_cached, write


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished first run: project, output folder, cache, report."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder / "cache"))
        report = run_cached(write(folder / "toy"), folder / "out")
    assert report.exit_code == 0 and report.cache is not None
    assert report.cache.state == "stored"
    return folder, report


@pytest.fixture
def cache(first, tmp_path, monkeypatch):
    """A copy of the first run's cache, in use."""
    shutil.copytree(first[0] / "cache", tmp_path / "cache")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def exports(monkeypatch):
    """How often something was really exported. A user's own model is captured in every run: the
    program says what became of all that its code reads."""
    calls = []
    real = making.export
    monkeypatch.setattr(making, "export", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def outputs(report):
    return [
        (held.link, held.case, held.name, held.verdict.verdict, held.max_abs)
        for held in report.outputs
    ]


def test_the_second_run_exports_nothing_and_finds_the_same(first, cache, exports, tmp_path):
    before = first[1]
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert exports == []
    assert report.exit_code == 0
    assert report.cache is not None and before.cache is not None
    assert report.cache.state == "taken" and report.cache.key == before.cache.key
    assert report.cache.made == before.cache.made
    assert tuple(report.cache.stages) == STAGES[1:], "captured anew, the rest taken"
    kept = [row for row in outputs(before) if row in outputs(report)]
    assert kept == outputs(report)
    layers = [link.layers for link in report.links if link.layers]
    assert layers == [link.layers for link in before.links if link.layers]
    names = {held.name: held.sha256 for held in before.artifacts}
    assert {held.name: held.sha256 for held in report.artifacts if held.name != "model.onnx"} == {
        name: digest for name, digest in names.items() if name != "model.onnx"
    }
    assert check_certificate(tmp_path / "out" / "model.onnx").intact


def test_the_cached_file_never_gets_a_certificate(first, cache, tmp_path):
    run_cached(write(tmp_path / "toy"), tmp_path / "out")
    (entry,) = list((cache / "entries").iterdir())
    assert check_certificate(entry / "model.onnx").certificate is None
    # Nor does the next run, which takes the certificate off its own file, touch the cached one.
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.cache is not None and report.cache.state == "taken"
    assert report.exit_code == 0


JUDGING = {
    "a tolerance": YAML + "parity: {factor: 5}\n",
    "a contract": YAML.replace("{mutation: }", "{determinism: }"),
    "a case": YAML.replace("seed: 1", "seed: 2"),
    "one more case": YAML.replace(
        "default_case",
        "  - {name: more, random: {x: {kind: normal, seed: 3, sizes: {batch: 1, frames: 9}}}}\n"
        "default_case",
    ),
    "a length": YAML.replace("[3, 50]", "[4]"),
    "a level of deployment": YAML + "deploy: {levels: [basic]}\n",
    "coverage": YAML + "min_coverage: 0.5\n",
}


@pytest.mark.parametrize("what", JUDGING)
def test_what_only_judges_never_exports_again(cache, exports, tmp_path, what):
    report = run_cached(write(tmp_path / "toy", yaml=JUDGING[what]), tmp_path / "out")
    assert exports == []
    assert report.exit_code == 0
    assert report.cache is not None and report.cache.state == "taken"


MAKING = {
    "an option of the export": {"yaml": YAML + "export: {opset: 19}\n"},
    "no simplifier": {"yaml": YAML + "export: {simplify: false}\n"},
    "weights outside": {"yaml": YAML + "export: {external_data: true}\n"},
    "a setting of the model": {"yaml": YAML.replace("width: 8", "width: 9")},
    "a setting that no weight shows": {"yaml": YAML.replace("width: 8", "width: 8, eps: 0.1")},
    "an axis": {"yaml": YAML.replace("minimum: 1", "minimum: 2")},
    "weights": {"module": MODULE.replace("manual_seed(0)", "manual_seed(1)")},
    "code of the model": {"module": MODULE.replace("torch.relu", "torch.tanh")},
    "code next door": {"parts": PARTS.replace("abs()", "abs().sqrt()")},
}


@pytest.mark.parametrize("what", MAKING)
def test_what_makes_another_graph_is_exported_and_then_found(cache, exports, tmp_path, what):
    yaml = write(tmp_path / "toy", **MAKING[what])
    report = run_cached(yaml, tmp_path / "out")
    assert exports == [1]
    assert report.exit_code == 0
    assert report.cache is not None and report.cache.state == "stored"
    again = run_cached(yaml, tmp_path / "out")
    assert exports == [1]
    assert again.exit_code == 0
    assert again.cache is not None and again.cache.state == "taken"
    assert len(list((cache / "entries").iterdir())) == 2


def test_a_run_into_the_folder_of_another_export_changes_no_cached_file(cache, exports, tmp_path):
    # The folder holds other names of cached files; an exporter that wrote into them would be seen.
    run_cached(write(tmp_path / "toy"), tmp_path / "out")
    outside = write(tmp_path / "toy", yaml=MAKING["weights outside"]["yaml"])
    run_cached(outside, tmp_path / "out")
    assert (tmp_path / "out" / "exported.onnx.data").is_file()
    run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert not (tmp_path / "out" / "exported.onnx.data").exists()
    run_cached(write(tmp_path / "toy", yaml=MAKING["weights outside"]["yaml"]), tmp_path / "out")
    assert exports == [1]
    store = open_store()
    assert store is not None
    for entry in store.entries():
        entry.check()


def test_without_cache_nothing_is_taken_and_nothing_kept(cache, exports, tmp_path):
    yaml = YAML.replace("width: 8", "width: 10")
    report = run_cached(write(tmp_path / "toy", yaml=yaml), tmp_path / "out", cache=False)
    assert exports == [1]
    assert report.cache is None
    assert len(list((cache / "entries").iterdir())) == 1


def test_a_tampered_export_is_said_and_made_again(cache, exports, tmp_path):
    (entry,) = list((cache / "entries").iterdir())
    path = entry / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(bytes(content))
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert exports == [1] and report.exit_code == 0
    said = [note for note in report.notes if "thrown away" in note]
    assert len(said) == 1 and "model.onnx is not the file that was stored" in said[0]
    assert run_cached(write(tmp_path / "toy"), tmp_path / "out").exit_code == 0
    assert exports == [1]


def test_a_cache_that_cannot_be_used_stops_no_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.exit_code == 0
    assert report.cache is not None and report.cache.state == "not stored"
    assert any("the cache cannot be used" in note for note in report.notes)


def test_an_export_larger_than_the_cache_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("EXPORT_VERIFY_CACHE_SIZE", "1k")
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.exit_code == 0
    assert any("more than the cache may hold" in note for note in report.notes)
    assert not Path(tmp_path / "cache").exists()


def test_the_kinds_of_work_add_up_to_the_whole(first):
    report = first[1]
    assert sum(report.breakdown.values()) == pytest.approx(report.timings["total"])
    for kind in ("building the module", "building sessions", "running models", "metrics"):
        assert report.breakdown[kind] > 0
    assert list(report.breakdown)[-1] == "the rest"
