"""Mean and variance normalisation with fixed statistics, and the file they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exporter.cases.array_file import read_kaldi
from exporter.core.errors import WeightsError
from exporter.core.reading import Door

_DOOR = Door(
    error=WeightsError,
    says="cannot read the normalisation statistics",
    remedy="give the am.mvn text file of the checkpoint",
    most_bytes=16 << 20,
)
_SUMS = Door(
    error=WeightsError,
    says="cannot be read as statistics of features",
    remedy="give FunASR's am.mvn, Kaldi's cmvn.ark or cmvn stats, or WeNet's global_cmvn",
    most_bytes=16 << 20,
)


class Cmvn(nn.Module):
    """``(x + shift) * scale``; frames behind a row's count become zero.

    Args:
        shift: ``[D]`` float, the negative mean.
        scale: ``[D]`` float, one over the standard deviation.
    """

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift.detach().clone().float())
        self.register_buffer("scale", scale.detach().clone().float())

    def forward(self, frames: Tensor, frame_counts: Tensor) -> Tensor:
        """Return normalised frames.

        Args:
            frames: ``[R, T, D]`` float.
            frame_counts: ``[R]`` int64, frames in use.

        Returns:
            ``[R, T, D]`` float, zero from each row's count on.
        """
        normalised = (frames + self.get_buffer("shift")) * self.get_buffer("scale")
        place = torch.arange(frames.shape[1], device=frames.device)
        used = (place < frame_counts.unsqueeze(1)).unsqueeze(2)
        # Chosen, not multiplied: whatever the padding holds, it cannot become NaN.
        return torch.where(used, normalised, torch.zeros_like(normalised))


def read_am_mvn(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read the statistics of FunASR's ``am.mvn``, a Kaldi nnet in text form.

    The values stand on the line after ``<AddShift>`` and after ``<Rescale>``:
    ``<LearnRateCoef> 0 [ v v v ... ]``.

    Args:
        path: the file.

    Returns:
        shift ``[D]`` and scale ``[D]``, float32.

    Raises:
        WeightsError: the file is missing, unreadable or has another form.
    """
    path = Path(path)
    lines = _DOOR.text(path).splitlines()
    shift = _values_after("<AddShift>", lines, path)
    scale = _values_after("<Rescale>", lines, path)
    if len(shift) != len(scale):
        raise _malformed(f"{len(shift)} shifts but {len(scale)} scales", path, None)
    return torch.from_numpy(shift), torch.from_numpy(scale)


def read_statistics(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read fixed statistics in any of the forms that toolkits write.

    FunASR's ``am.mvn``; Kaldi's accumulated sums, ``[2, D + 1]``, binary or text, with a key or
    without (``compute-cmvn-stats``); WeNet's JSON of the same sums.

    Returns:
        shift ``[D]`` and scale ``[D]``, float64: ``(x + shift) * scale``.

    Raises:
        UserInputError: the file is none of these, or its sums are no statistics.
    """
    path = Path(path)
    head = _SUMS.bytes(path)[:4096].lstrip()
    if head.startswith(b"<"):
        shift, scale = read_am_mvn(path)
        return shift.double().numpy(), scale.double().numpy()
    if head.startswith(b"{"):
        statistics = _SUMS.json(path)
        try:
            sums = np.array(statistics["mean_stat"], np.float64)
            squares = np.array(statistics["var_stat"], np.float64)
            count = float(statistics["frame_num"])
        except (KeyError, TypeError, ValueError) as error:
            raise _SUMS.bad(path, "mean_stat, var_stat and frame_num are not there") from error
    else:
        table = read_kaldi(path).astype(np.float64)
        if table.ndim != 2 or len(table) != 2 or table.shape[1] < 2:
            raise _SUMS.bad(path, f"shape {list(table.shape)} is not [2, D + 1]")
        sums, squares, count = table[0, :-1], table[1, :-1], float(table[0, -1])
    if sums.ndim != 1 or sums.shape != squares.shape or not count > 0:
        raise _SUMS.bad(path, "its sums have other sizes, or no frames were counted")
    mean = sums / count
    variance = squares / count - mean * mean
    if not np.isfinite(mean).all() or not (variance > 0).all():
        raise _SUMS.bad(path, "a variance is not above zero")
    return -mean, 1.0 / np.sqrt(variance)


def seeded_cmvn(dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw statistics like those of log mel energies of speech, never the identity.

    Args:
        dim: number of features.
        seed: of numpy's PCG64.

    Returns:
        shift ``[dim]`` in [-14, -8] and scale ``[dim]`` in [0.15, 0.35], float32.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    shift = draw.uniform(-14.0, -8.0, dim).astype(np.float32)
    scale = draw.uniform(0.15, 0.35, dim).astype(np.float32)
    return torch.from_numpy(shift), torch.from_numpy(scale)


def _values_after(tag: str, lines: list[str], path: Path) -> np.ndarray:
    at = [number for number, line in enumerate(lines) if line.split()[:1] == [tag]]
    if len(at) != 1:
        raise _malformed(f"{tag} stands on {len(at)} lines, not on one", path, None)
    number = at[0] + 1
    words = lines[number].split() if number < len(lines) else []
    if len(words) < 5 or words[0] != "<LearnRateCoef>" or words[2] != "[" or words[-1] != "]":
        raise _malformed(
            f"the line after {tag} is not '<LearnRateCoef> number [ values ]'", path, number + 1
        )
    try:
        values = np.array(words[3:-1]).astype(np.float32)
    except ValueError as error:
        raise _malformed(
            f"a value after {tag} is not a number ({error})", path, number + 1
        ) from error
    if not np.isfinite(values).all():
        raise _malformed(f"a value after {tag} is NaN or infinite", path, number + 1)
    return values


def _malformed(problem: str, path: Path, line: int | None) -> WeightsError:
    return WeightsError(
        problem,
        where=f"{path}:{line}" if line else str(path),
        remedy="give the am.mvn text file of the checkpoint, unchanged",
    )
