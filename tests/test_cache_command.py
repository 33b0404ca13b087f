"""``export-verify cache``: what it says, and what it takes away."""

from __future__ import annotations

from exporter import cli
from exporter.cache.place import FOLDER_VARIABLE, SIZE_VARIABLE
from exporter.cache.store import Store
from tests.cache.filled import key, put


def test_info_lists_what_is_there_and_clear_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "2GB")
    put(Store(tmp_path / "cache", 1 << 30), tmp_path / "out")
    assert cli.main(["cache", "info"]) == 0
    said = capsys.readouterr().out
    for text in (str(tmp_path / "cache"), "1 exports", "at most 2.00 GB", key("a")[:12]):
        assert text in said
    assert "pipeline a" in said
    assert cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("1 exports, ")
    assert cli.main(["cache", "info"]) == 0
    assert "0 exports" in capsys.readouterr().out


def test_an_empty_cache_is_no_error_and_makes_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    assert cli.main(["cache", "info"]) == cli.main(["cache", "clear"]) == 0
    assert not (tmp_path / "cache").exists()
    assert "0 exports" in capsys.readouterr().out


def test_a_cache_that_is_off_says_so(monkeypatch, capsys):
    monkeypatch.setenv(FOLDER_VARIABLE, "off")
    assert cli.main(["cache", "info"]) == cli.main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "the cache is off\n" * 2


def test_a_size_that_is_none_is_the_users_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "much")
    assert cli.main(["cache", "info"]) == 2
    assert SIZE_VARIABLE in capsys.readouterr().err
