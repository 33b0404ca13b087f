"""A user's manifest through a system: hundreds of utterances, one after the other.

Memory holds one utterance. Both sides are driven; where they say the same, that is a pass. Where
they do not, or where what comes out is no tokens, the utterance is judged as a case of the system
is: every call of every graph, and the choice that differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from exporter import __version__
from exporter.cases.audio import read_any_rate
from exporter.cases.manifest import Utterance, read_manifest
from exporter.config.inputs import Audio
from exporter.config.inputs import Case as CaseConfig
from exporter.core.artifact import sha256_of
from exporter.core.errors import UserInputError
from exporter.core.reading import first_problem
from exporter.core.tensors import Arrays, Case
from exporter.graph.contents import read_contents
from exporter.metrics.text import token_errors, word_errors
from exporter.parity.status import Status, is_differing, is_failing, is_good, severity, status_of
from exporter.report.system import ManifestRecord, ResultRecord
from exporter.systems.case_inputs import TOKENS, system_cases
from exporter.systems.judge_case import (
    Bench,
    JudgedCase,
    judge_case,
    of_all,
    quick_case,
    read_tokens,
)
from exporter.systems.manifest_rows import Row, Rows
from exporter.systems.manifest_summary import summary_of

Tell = Callable[[str, int, int], None]
Elsewhere = Callable[[Mapping[int, str]], Iterable[Row]]
"""Key of every line that has a result -> results of all others."""


def run_manifest(
    bench: Bench, path: Path, folder: Path, tell: Tell, elsewhere: Elsewhere | None = None
) -> ManifestRecord:
    """Run every utterance that has no result yet, and sum up all of them.

    Args:
        folder: holds the results, ``manifest.jsonl``.
        tell: is told the utterance, how many are done, and how many there are.
        elsewhere: gives the results in place of this process, in any order; see ``rows_of``.

    Raises:
        ConfigError: a line of the manifest is no utterance; nothing has been run then.
    """
    total = sum(1 for _ in read_manifest(path))
    rows = Rows(folder, _origin(bench, path))
    if elsewhere is None:
        for row in rows_of(bench, path, rows.done, lambda name, at: tell(name, at, total)):
            rows.add(row)
    else:
        done = len(rows.done)
        for row in elsewhere(rows.done):
            rows.add(row)
            done += 1
            tell(row.name, min(done, total), total)
    return summary_of(bench.system, path, rows, total)


def rows_of(
    bench: Bench,
    path: Path,
    done: Mapping[int, str],
    tell: Callable[[str, int], None],
    share: tuple[int, int] = (0, 1),
) -> Iterator[Row]:
    """Results of the utterances that have none yet, one by one.

    Args:
        done: key of every line that has a result. tell: is told the utterance and its place.
        share: ``(n, of)``: of so many processes the n-th one takes every of-th utterance.
    """
    for at, utterance in enumerate(read_manifest(path)):
        if at % share[1] != share[0]:
            continue
        try:
            case, seconds = _case(bench, utterance)
        except UserInputError as error:
            told = _told(utterance, utterance.key)
            yield Row(**told, verdict=Status.NOT_RUN.value, reason=str(error))
            continue
        key = key_of(utterance, case)
        if done.get(utterance.number) == key:
            continue
        tell(utterance.name, at)
        yield _row(bench, utterance, case, _told(utterance, key) | {"seconds": seconds})


def _origin(bench: Bench, path: Path) -> dict[str, str]:
    """What results are of: the files, and all that PyTorch's side is made of, its code too."""
    files = {f"graph {name}": _file_digest(graph.onnx) for name, graph in bench.graphs.items()}
    files |= {f"PyTorch {name}": graph.made_of for name, graph in bench.graphs.items()}
    tokenizer = bench.system.judge.text.tokenizer if bench.system.judge.text else None
    if tokenizer is not None:
        files["tokenizer"] = sha256_of(tokenizer)
    ways = " / ".join(bench.sessions)
    graph = {"tool": __version__, "manifest": sha256_of(path)}
    return {**graph, "system": bench.system.digest, "ways": ways, **files}


def _file_digest(path: Path) -> str:
    """Of graph and weights: the certificate says when it was made, and is another in every run."""
    contents = read_contents(path)
    beside = [sha256_of(path.parent / name) for name in sorted(contents.external)]
    parts = " ".join([contents.graph, contents.weights, *beside])
    return hashlib.sha256(parts.encode()).hexdigest()


def key_of(utterance: Utterance, case: Case) -> str:
    """What an earlier result has to be of: the line, and all that goes in.

    Recordings and files may be others than they were, under the same names.
    """
    digest = hashlib.sha256(utterance.key.encode())
    for name, array in sorted(case.inputs.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _told(utterance: Utterance, key: str) -> dict[str, Any]:
    return {
        "number": utterance.number,
        "key": key,
        "name": utterance.name,
        "tags": utterance.tags,
        "said": utterance.text,
    }


def _row(bench: Bench, utterance: Utterance, case: Case, told: dict[str, Any]) -> Row:
    tokens = quick_case(bench, case)
    if tokens and not utterance.empty:
        said = _said(bench, utterance, tokens, tokens)
        reason = f"all {len(tokens)} tokens equal"
        return Row(**told, verdict=Status.PASS.value, reason=reason, **said)
    try:
        judged = judge_case(bench, case)
    except UserInputError as error:  # the user's module cannot take this one; others it can
        return Row(**told, verdict=Status.NOT_RUN.value, reason=str(error))
    status, reason = verdict_of(judged)
    result = max(judged.results, key=lambda item: severity(item.verdict.verdict))
    said = {}
    if result.tokens is not None and result.onnx_tokens is not None:
        said = _said(bench, utterance, result.tokens, result.onnx_tokens)
    outcomes = judged.expected, judged.actual
    if bench.system.judge.embeddings is not None and outcomes[0] and outcomes[1]:
        name = bench.system.judge.embeddings.output
        said["embedding"] = _flat(outcomes[0].arrays, name)
        said["onnx_embedding"] = _flat(outcomes[1].arrays, name)
    graphs = sorted({c.graph for c in judged.calls if not is_good(c.verdict.verdict)})
    told |= {"verdict": status.value, "reason": reason, "graphs": graphs}
    return Row(**told, differs=differs_alone(judged), **said)


def verdict_of(judged: JudgedCase) -> tuple[Status, str]:
    """The worst of all deployments and of all calls of graphs, with its reason."""
    results = [(status_of(r.verdict.verdict), r.verdict.reason) for r in judged.results]
    calls = [
        (status_of(c.verdict.verdict), f"graph '{c.graph}': {c.verdict.reason}")
        for c in judged.calls
    ]
    return of_all([*results, *calls])


def differs_alone(judged: JudgedCase) -> bool:
    """True where tokens are all that fails: no call of a graph, and no number that came out."""
    failed = [record for record in judged.results if is_failing(record.verdict.verdict)]
    calls = any(is_failing(record.verdict.verdict) for record in judged.calls)
    return bool(failed) and not calls and all(map(_tokens_alone, failed))


def _tokens_alone(result: ResultRecord) -> bool:
    tokens = result.tokens is not None and result.tokens != result.onnx_tokens
    others = result.fails_beside_tokens
    return (
        tokens
        and not others
        and not any(is_differing(record.verdict) for record in result.outputs.values())
    )


def _case(bench: Bench, utterance: Utterance) -> tuple[Case, float]:
    """The utterance as a case, and its length."""
    system = bench.system
    default = next(case for case in system.cases if case.name == system.default_case)
    source: Audio | Path = utterance.audio
    if isinstance(default.audio, Audio):
        source = default.audio.model_copy(update={"file": utterance.audio})
    try:
        config = CaseConfig(
            name="utterance",
            audio=source,
            inputs={**default.inputs, **utterance.inputs},
            expect_empty=(TOKENS, *_outputs(bench)) if utterance.empty else (),
        )
    except ValidationError as error:
        raise UserInputError(
            f"inputs of the line: {first_problem(error)}", where=utterance.name, remedy="correct it"
        ) from error
    update = {"cases": (config,), "default_case": config.name}
    one = system.model_copy(update=update).with_pipelines(system.pipelines)
    (case,) = system_cases(one, bench.graphs, (config.name,))
    waveform, rate = read_any_rate(utterance.audio)
    return case, len(waveform) / rate


def _outputs(bench: Bench) -> list[str]:
    return [spec.name for graph in bench.graphs.values() for spec in graph.outputs]


def _said(
    bench: Bench, utterance: Utterance, expected: list[int] | tuple[int, ...], actual: Any
) -> dict[str, Any]:
    fields = read_tokens(expected, actual, bench.decode)
    errors = token_errors(expected, actual)
    told: dict[str, Any] = {key: fields.get(key) for key in ("tokens", "onnx_tokens")}
    told |= {"text": fields.get("text"), "onnx_text": fields.get("onnx_text")}
    told |= {"token_errors": [errors.count, errors.length], "alignment": errors.alignment}
    if utterance.text is not None and bench.decode is not None:
        both = [word_errors(utterance.text, str(fields[key])) for key in ("text", "onnx_text")]
        told["words"] = [both[0].count, both[1].count, both[0].length]
    return told


def _flat(arrays: Arrays, name: str) -> list[float] | None:
    array = next((v for key, v in arrays.items() if name in (key, key.partition(".")[2])), None)
    return None if array is None else np.asarray(array, dtype=np.float64).reshape(-1).tolist()
