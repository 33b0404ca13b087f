"""A recording on disk to a waveform that a pipeline takes.

Conversion to float32: integers are divided by two to the number of their bits minus one (int16:
``/ 32768``, int24: ``/ 8388608``, 8-bit WAV is unsigned and is shifted to be signed first), so
they lie in [-1, 1); floats are taken as they are, even beyond 1. Nothing is resampled unless the
case says so, and nothing mixed down or normalised: what the user's own preparation should do is not
guessed. A WAV that is
shorter than its header says is read as far as it goes, since programs that write to a pipe leave
such headers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from exporter.core.errors import AudioError, UserInputError
from exporter.core.extras import need
from exporter.core.files import open_regular
from exporter.core.reading import is_regular, reason

if TYPE_CHECKING:
    import soundfile

_PIECE = 1 << 20
"""Frames that are read at a time."""


def _sound(stream: BinaryIO) -> soundfile.SoundFile:
    """An open file as libsndfile reads it: by its number, which it may not close.

    Given the object, it would call Python, whose errors are printed there and not raised.
    """
    import soundfile

    return soundfile.SoundFile(stream.fileno(), closefd=False)


def read_waveform(path: str | Path, sample_rate_hz: int) -> np.ndarray:
    """Read a mono recording, in any format that libsndfile decodes (WAV, FLAC, ...).

    Args:
        path: the file.
        sample_rate_hz: what the pipeline takes.

    Returns:
        ``[N]`` float32, N >= 1, all finite.

    Raises:
        AudioError: the file is missing, not audio, damaged, empty, not mono, of another sample
            rate, or has NaN or infinite samples.
    """
    return _read(Path(path), sample_rate_hz)[0]


def read_any_rate(path: str | Path) -> tuple[np.ndarray, int]:
    """The same of a recording at any sample rate, with its rate in Hz.

    Raises:
        AudioError: as ``read_waveform``, but for the rate.
    """
    return _read(Path(path), None)


def _read(path: Path, sample_rate_hz: int | None) -> tuple[np.ndarray, int]:
    where = str(path)
    if not is_regular(path):
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise AudioError(
            f"the recording {kind}", where=where, remedy="give the path of an audio file"
        )
    need("soundfile", who="reading a recording", where=where)
    import soundfile

    try:
        with open_regular(path) as stream, _sound(stream) as file:
            found_hz, channels, announced = file.samplerate, file.channels, file.frames
            # Read piece by piece: what a header announces need not be there.
            pieces = list(file.blocks(_PIECE, dtype="float32", always_2d=True))
            samples = np.concatenate([np.zeros((0, channels), np.float32), *pieces])
    except (soundfile.LibsndfileError, OSError, ValueError, UserInputError) as error:
        raise AudioError(
            f"cannot be decoded as audio ({reason(error)})",
            where=where,
            remedy="give a WAV or FLAC file that other programs play",
        ) from error
    if channels != 1:
        raise AudioError(
            f"has {channels} channels, a pipeline takes one",
            where=where,
            remedy=f"mix it down: sox {path.name} mono.wav remix -",
        )
    if sample_rate_hz is not None and found_hz != sample_rate_hz:
        raise AudioError(
            f"is sampled at {found_hz} Hz, the pipeline takes {sample_rate_hz} Hz",
            where=where,
            remedy=f"resample it: sox {path.name} -r {sample_rate_hz} resampled.wav; or declare it:"
            f" audio: {{file: {path.name}, input: NAME, resample: sinc}}",
        )
    if len(samples) == 0:
        raise AudioError("holds no samples", where=where, remedy="give a recording with sound")
    if len(samples) < announced:
        raise AudioError(
            f"ends after {len(samples)} of the {announced} samples that its header announces",
            where=where,
            remedy="copy the file again; it is cut off",
        )
    waveform = np.ascontiguousarray(samples[:, 0])
    unusable = np.flatnonzero(~np.isfinite(waveform))
    if unusable.size:
        first = int(unusable[0])
        raise AudioError(
            f"{unusable.size} of {waveform.size} samples are NaN or infinite, "
            f"the first at sample {first} ({first / found_hz:.3f} s)",
            where=where,
            remedy="repair the recording; a float WAV was probably written by a broken program",
        )
    return waveform, found_hz
