"""A seeded SenseVoice checkpoint in the forms that funasr-onnx and sherpa-onnx load.

    model.onnx          FunASR's own export: features in, logits out; both packages run it
    *.bpe.model         funasr-onnx's tokenizer: a SentencePiece model, here of one letter per token
    sherpa/model.onnx   the same bytes, with sherpa-onnx's metadata appended
    sherpa/tokens.txt   a token and its number per line

Every token is one letter, so that what the packages return as text can be turned back into ids.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

FIRST_LETTER = 0x20000
"""Tokens are letters from here on, in the order of their ids (see ``token_table``)."""
BPE_NAME = "chn_jpn_yue_eng_ko_spectok.bpe.model"
UNKNOWN = "<unk>"
_LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, "nospeech": 13}


def ids_of_letters(text: str, vocab_size: int) -> list[int]:
    """Text of either package back to token ids; the last id is the unknown token."""
    single = text.replace(UNKNOWN, chr(FIRST_LETTER + vocab_size - 1))
    return [ord(letter) - FIRST_LETTER for letter in single if not letter.isspace()]


def write_bpe_model(folder: Path, tokens: list[str]) -> Path:
    """A SentencePiece model whose pieces are ``tokens``; the last one is the unknown token."""
    from sentencepiece import sentencepiece_model_pb2 as protos

    model = protos.ModelProto()
    kinds = protos.ModelProto.SentencePiece
    for number, token in enumerate(tokens):
        kind = kinds.UNKNOWN if token == UNKNOWN else kinds.NORMAL
        model.pieces.add(piece=token, score=-float(number), type=kind)
    trainer = model.trainer_spec
    trainer.model_type = protos.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(tokens)
    trainer.unk_id = len(tokens) - 1
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    trainer.unk_surface = UNKNOWN
    path = folder / BPE_NAME
    path.write_bytes(model.SerializeToString())
    return path


def write_sherpa_files(exported: Path, statistics: Path, tokens: list[str]) -> Path:
    """Copy FunASR's export and append the metadata that sherpa-onnx reads.

    Source of the keys: ``offline-sense-voice-model.cc`` of sherpa-onnx.

    Args:
        exported: FunASR's ``model.onnx``, with or without data beside it.
        statistics: ``am.mvn``.

    Returns:
        the folder with ``model.onnx`` and ``tokens.txt``.
    """
    from exporter.graph.contents import metadata_field

    folder = exported.parent / "sherpa"
    folder.mkdir()
    for path in exported.parent.glob(f"{exported.name}*"):
        shutil.copyfile(path, folder / path.name)
    shift, scale = re.findall(r"<LearnRateCoef> 0 \[ (.*?) \]", statistics.read_text())
    metadata = {
        "comment": "seeded weights",
        "vocab_size": len(tokens),
        "lfr_window_size": 7,
        "lfr_window_shift": 6,
        "normalize_samples": 0,  # samples are multiplied by 32768
        "with_itn": 14,
        "without_itn": 15,
        **{f"lang_{name}": number for name, number in _LANGUAGES.items()},
        "neg_mean": ",".join(shift.split()),
        "inv_stddev": ",".join(scale.split()),
    }
    with (folder / exported.name).open("ab") as stream:
        for key, value in metadata.items():
            stream.write(metadata_field(key, str(value)))
    lines = [f"{token} {number}\n" for number, token in enumerate(tokens)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    return folder
