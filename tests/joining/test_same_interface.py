"""Inputs that a user gives for two files: whatever lies in the file, a value or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.core.errors import UserInputError
from exporter.joining.same_interface import read_case


def written(path: Path) -> bytes:
    np.savez_compressed(path, x=np.arange(400.0).reshape(20, 20), more=np.zeros(3))
    return path.read_bytes()


def test_inputs_are_taken_by_name(tmp_path: Path):
    written(tmp_path / "in.npz")
    found = read_case(tmp_path / "in.npz", ["x"])
    assert list(found) == ["x"] and found["x"].shape == (20, 20)


@pytest.mark.parametrize("damage", ["cut", "flipped", "a pickle", "lacking"])
def test_a_file_that_cannot_be_taken_is_the_users(tmp_path: Path, damage: str):
    path = tmp_path / "in.npz"
    data = written(path)
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:60] + bytes(255 - b for b in data[60:80]) + data[80:])
    elif damage == "a pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    else:
        np.savez(path, other=np.zeros(3))
    with pytest.raises(UserInputError):
        read_case(path, ["x"])
