"""Where the cache lies: what the environment says, else the user's cache folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporter.cache.place import DEFAULT_SIZE, cache_folder, cache_size
from exporter.core.errors import UserInputError


def test_the_variable_wins_and_its_tilde_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EXPORT_VERIFY_CACHE", "~/there")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == tmp_path / "there"


@pytest.mark.parametrize("text", ["off", "OFF", "none", "0", "", "  "])
def test_the_variable_switches_it_off(monkeypatch, text):
    monkeypatch.setenv("EXPORT_VERIFY_CACHE", text)
    assert cache_folder() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another system's own folder")
def test_without_it_the_users_cache_folder_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv("EXPORT_VERIFY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "export-verify"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/export-verify")
    # The specification wants a relative path to be ignored.
    monkeypatch.setenv("XDG_CACHE_HOME", "x")
    assert cache_folder() == tmp_path / ".cache" / "export-verify"


def test_where_nobody_knows_a_home_there_is_no_cache(monkeypatch):
    for name in ("EXPORT_VERIFY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cache_folder() is None


def test_the_size_has_units_and_a_default():
    assert cache_size({}) == DEFAULT_SIZE == 10 << 30
    assert cache_size({"EXPORT_VERIFY_CACHE_SIZE": "1.5 GiB"}) == 3 << 29
    assert cache_size({"EXPORT_VERIFY_CACHE_SIZE": "200mb"}) == 200_000_000


def test_a_size_that_is_none_is_the_users_error():
    with pytest.raises(UserInputError, match="EXPORT_VERIFY_CACHE_SIZE: 'much' is no size"):
        cache_size({"EXPORT_VERIFY_CACHE_SIZE": "much"})
