"""Token ids to text, by the checkpoint's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from exporter.config.system import Text
from exporter.core.errors import UserInputError
from exporter.core.extras import need
from exporter.core.reading import Door, is_regular

_MOST = 1 << 32
"""The library takes ids of 32 bits; a graph gives whatever it gives: -1 is often padding."""
Detokenize = Callable[[Sequence[int]], str]
_DOOR = Door(
    error=UserInputError,
    says="no tokenizer",
    remedy="give a tokenizer.json, a SentencePiece .model, or a list of tokens, one a line",
)


def detokenizer(text: Text | None, table: Sequence[str] | None, where: str) -> Detokenize | None:
    """What makes text of ids; None where nothing is known of them.

    Args:
        text: as the YAML says. table: text of every id that a checkpoint brings.
        where: of the YAML's key, for messages.

    Raises:
        UserInputError: the file is missing or is no tokenizer.
        MissingPackageError: the library that reads it is not installed.
    """
    skip = frozenset(() if text is None else text.skip)
    path = None if text is None else text.tokenizer
    if path is None:
        return None if table is None else _of_table(table, skip)
    if not is_regular(path):
        raise UserInputError(
            f"there is no tokenizer '{path}'", where=where, remedy="give the path of its file"
        )
    if path.suffix == ".json":
        return _of_tokenizers(path, skip)
    if path.suffix == ".model":
        return _of_sentencepiece(path, skip)
    return _of_table(_DOOR.text(path).splitlines(), skip)


def _of_table(table: Sequence[str], skip: frozenset[int]) -> Detokenize:
    def decode(ids: Sequence[int]) -> str:
        words = [table[i] if 0 <= i < len(table) else f"<{i}>" for i in ids if i not in skip]
        # SentencePiece's mark of the beginning of a word.
        return "".join(words).replace("\u2581", " ").strip()

    return decode


def _of_tokenizers(path: Path, skip: frozenset[int]) -> Detokenize:
    need("tokenizers", who="this tokenizer")
    from tokenizers import Tokenizer

    try:
        read = Tokenizer.from_str(_DOOR.text(path))
    except UserInputError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise _DOOR.bad(path, str(error)[:200]) from error
    return lambda ids: read.decode([i for i in ids if i not in skip and 0 <= i < _MOST]).strip()


def _of_sentencepiece(path: Path, skip: frozenset[int]) -> Detokenize:
    need("sentencepiece", who="this tokenizer")
    from sentencepiece import SentencePieceProcessor

    read = SentencePieceProcessor()
    try:
        read.LoadFromSerializedProto(_DOOR.bytes(path))
    except RuntimeError as error:
        raise _DOOR.bad(path, str(error)[:200]) from error
    size = read.GetPieceSize()
    return lambda ids: str(
        read.DecodeIds([i for i in ids if i not in skip and 0 <= i < size])
    ).strip()
