"""A user's own program that makes features of a recording, run without a shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np

from exporter.cases.array_file import SUFFIXES, read_array
from exporter.core.children import child_process
from exporter.core.errors import UserInputError
from exporter.core.extras import need
from exporter.core.files import temporary_folder

_SECONDS = 600
_OUT = "features"


def run_command(command: str, waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Features of ``waveform`` ``[N]`` in [-1, 1] by a program.

    Args:
        command: its words; ``{wav}`` is the recording, ``{out}`` the file that it writes: a
            ``.npy``, or what ``{out}.ark`` and so on say.

    Raises:
        UserInputError: the words lack one of both, or the program fails or writes nothing.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserInputError(f"cannot be split: {error}", where="--command") from error
    for needed in ("{wav}", "{out}"):
        if not any(needed in word for word in words):
            raise UserInputError(
                f"has no {needed}",
                where="--command",
                remedy="for example --command 'their-tool {wav} {out}'",
            )
    need("soundfile", who="--command", where="--command")
    import soundfile

    with temporary_folder() as folder:
        wav, out = folder / "recording.wav", folder / _OUT
        exact = bool((np.rint(waveform * 32768) == waveform * 32768).all())
        whole = exact and float(np.abs(waveform).max(initial=0)) < 1
        soundfile.write(wav, waveform, sample_rate_hz, subtype="PCM_16" if whole else "FLOAT")
        named = any("{out}." in word for word in words)
        given = out if named else out.with_suffix(".npy")
        _run([w.replace("{wav}", str(wav)).replace("{out}", str(given)) for w in words])
        made = [path for suffix in SUFFIXES for path in [Path(f"{out}{suffix}")] if path.is_file()]
        if len(made) != 1:
            raise UserInputError(
                f"the program wrote {len(made)} files of features",
                where="--command",
                remedy=f"let it write {{out}}, or {{out}}.npz and so on: {', '.join(SUFFIXES)}",
            )
        return read_array(made[0], None)


def _run(words: list[str]) -> None:
    try:
        with child_process(words) as child:
            child.communicate(timeout=_SECONDS)
            code = child.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserInputError(
            f"cannot be run: {str(error)[:200]}", where="--command", remedy="try it by hand"
        ) from error
    if code != 0:
        raise UserInputError(
            f"the program ended with {code}",
            where="--command",
            remedy="run it by hand; what it says is not shown here",
        )
