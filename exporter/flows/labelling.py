"""Kept requests as recordings and lines to be labelled by people; ``monitor.words`` reads them."""

from __future__ import annotations

import json
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

from exporter.build.metadata import sample_rate_of
from exporter.core.errors import UserInputError
from exporter.core.files import replacing
from exporter.core.reading import Door, is_regular
from exporter.flows.monitor import served_file
from exporter.graph.contents import metadata_entries
from exporter.graph.segment_split import WAVEFORM
from exporter.monitor.kept import FOLDER, LETTERS, kept_in, request_of
from exporter.monitor.log import read_log
from exporter.monitor.shadow import DOOR, read_state
from exporter.monitor.spool import RESULTS, read_request
from exporter.monitor.words import DOOR as LABELS
from exporter.systems.tokenizer import Detokenize, detokenizer

LINES, TOKENS = "labels.jsonl", "tokens.json"
_TRIES, _WAIT_S = 50, 0.1
_TABLE = Door(error=UserInputError, says="no list of tokens", remedy="take it away, or mend it")


def offer(
    spool: Path, folder: Path, *, onnx: Path | None = None, earlier: Path | None = None
) -> list[tuple[str, int, int]]:
    """Write the kept requests of a spool as recordings, with a line for each.

    Args:
        folder: is made, for its owner alone; recordings are WAV of 16 bits.
        onnx: a copy of the served file. Tokens are text where ``tokens.json`` lies beside it.
        earlier: lines whose references are taken over.

    Returns:
        Of each stratum its name, how many are offered, and of how many these are.

    Raises:
        UserInputError: the spool is none, nothing was kept, or ``folder`` has labels already.
    """
    served = onnx or served_file(spool)
    rate = sample_rate_of({item.key: item.value for item in metadata_entries(served)}, served)
    frame, paths = _frozen(spool)
    known = {} if earlier is None else _references(earlier)
    judged = {str(row.get("id")): row for row in read_log(spool / RESULTS, DOOR)}
    if (folder / LINES).exists():
        raise UserInputError(
            "labels lie here already",
            where=str(folder / LINES),
            remedy="give a new folder with --output; --labels takes their references over",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text_of, lines = _text(served), []
    size = sum(frame["recordings"].values())
    for stratum, item in paths.items():
        for rank, path in enumerate(item):
            name, request = request_of(path), read_request(path)
            if WAVEFORM not in request.inputs:
                raise DOOR.bad(path, "no recording")
            _write_sound(folder / f"{name}.wav", request.inputs[WAVEFORM], rate)
            row = {
                "id": name,
                "stratum": stratum,
                "rank": rank,
                "recordings": frame["recordings"][stratum],
                "frame": size,
                "longest_s": round(frame["longest"] / rate, 3),
                "audio": f"{name}.wav",
                "state": judged.get(name, {}).get("state"),
                "margin": judged.get(name, {}).get("margin"),
                "hypothesis": _hypothesis(request.outputs, text_of),
                "reference": known.get(name),
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    with replacing(folder / LINES, private=True) as part:
        part.write_text("".join(lines), encoding="utf-8")
    return [(name, len(item), frame["recordings"][name]) for name, item in paths.items()]


def _frozen(spool: Path) -> tuple[dict[str, Any], dict[str, list[Path]]]:
    """Frame and sample of one moment, beside a worker that goes on."""
    for _ in range(_TRIES):
        state = read_state(spool)
        if state is None or not sum(state.get("frame", {}).get("recordings", {}).values()):
            raise DOOR.wrong(
                spool, "no request was kept: 'monitor shadow' keeps some with --keep N"
            )
        frame = state["frame"]
        paths = {
            name: kept_in(spool / FOLDER, frame, name)
            for name in LETTERS
            if frame["recordings"][name]
        }
        after = read_state(spool) or {}
        if state["seq"] == state.get("settled") == after.get("seq"):
            if not all(paths.values()):
                raise DOOR.wrong(spool / FOLDER, "recordings of a stratum are missing")
            return frame, paths
        time.sleep(_WAIT_S)
    raise DOOR.wrong(spool, "a worker was ended while it put a request away; let it run once more")


def _references(labels: Path) -> dict[str, str]:
    rows = [
        LABELS.json_of(s.encode(), labels) for s in LABELS.text(labels).splitlines() if s.strip()
    ]
    return {
        str(row["id"]): row["reference"]
        for row in rows
        if isinstance(row, dict) and "id" in row and isinstance(row.get("reference"), str)
    }


def _text(served: Path) -> Detokenize | None:
    """What makes text of tokens; marks that no one hears (``<|en|>``) are none."""
    path = served.parent / TOKENS
    if not is_regular(path):
        return None
    table = _TABLE.json(path)
    if not isinstance(table, list) or not all(isinstance(token, str) for token in table):
        raise _TABLE.bad(path, "it holds no list of texts")
    spoken = ["" if token[:2] == "<|" and token[-2:] == "|>" else token for token in table]
    return detokenizer(None, spoken, str(path))


def _hypothesis(outputs: Any, text_of: Detokenize | None) -> str | None:
    """What was served, as text; None where nobody knows how its tokens are written."""
    if text_of is None or not {"token_ids", "token_lengths"} <= set(outputs):
        return None
    rows = zip(outputs["token_ids"], outputs["token_lengths"], strict=True)
    said = (text_of([int(token) for token in ids[:count]]) for ids, count in rows)
    return " ".join(filter(None, said))


def _write_sound(path: Path, waveform: np.ndarray, rate: int) -> None:
    sound = np.clip(np.nan_to_num(waveform) * 32767, -32768, 32767).round().astype("<i2")
    with replacing(path, private=True) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())
