"""An encoder once, then a decoder token by token with its cache: greedy, or a beam.

A decoder that keeps nothing from call to call reads all tokens so far in each.

The beam is the one of transformers' ``generate``: twice as many candidates as beams, a hypothesis
that ends among the best as many is set aside with its score divided by ``length ** penalty``, and
the search stops when nothing that goes on can be better than the worst that was set aside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.config.driver import Attention
from exporter.core.tensors import Arrays
from exporter.drivers.decisions import Decider, log_softmax
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome, Pool
from exporter.drivers.whisper_rules import allowed_scores


def drive(config: Attention, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
    """The hypothesis of one utterance; its tokens are those after the first ones, no end.

    Raises:
        DriverStoppedError: scores that are no numbers, or of another shape; no first token.
    """
    pool = Pool(case, config.feed)
    if config.encoder is not None:
        pool.call(graphs[config.encoder])
    decoder = _Decoder(config, graphs[config.decoder], pool, case)
    if config.beams == 1:
        return _greedy(config, decoder, decider)
    return _beam(config, decoder, decider)


class _Decoder:
    """The decoder with its states and what it is fed, one row per hypothesis."""

    def __init__(self, config: Attention, graph: Graph, pool: Pool, case: Arrays):
        self._config, self._graph, self._pool = config, graph, pool
        self._states = graph.first_states()
        self._read = 0
        self._all = not graph.states and isinstance(graph.inputs[config.tokens].shape[-1], str)
        self._said: np.ndarray | None = None
        prompt = config.start or case.get(config.tokens)
        if prompt is None or not np.size(prompt):
            raise DriverStoppedError("it has no first token to begin with", graph=graph.name)
        self.prompt = np.asarray(prompt, dtype=graph.inputs[config.tokens].dtype).reshape(1, -1)

    @property
    def name(self) -> str:
        return self._graph.name

    def scores(self, tokens: np.ndarray) -> np.ndarray:
        """Log probabilities [rows, vocabulary] behind tokens [rows, T], which are read."""
        config, graph = self._config, self._graph
        if self._all:
            said = () if self._said is None else (self._said,)
            tokens = self._said = np.concatenate([*said, tokens], axis=1)
        own = {config.tokens: tokens, **self._states}
        if config.position is not None:
            spec = graph.inputs[config.position]
            shape = [len(tokens) if isinstance(size, str) else size for size in spec.shape]
            own[config.position] = np.full(shape, self._read, spec.dtype)
        fed = self._pool.inputs_of(graph, own)
        fed = {name: _rows(value, len(tokens)) for name, value in fed.items()}
        outputs = graph({**fed, **own})
        self._states = graph.next_states(outputs)
        self._read += 0 if self._all else tokens.shape[1]
        found = outputs[config.scores]
        if found.ndim == 2 and len(found) == len(tokens):
            return log_softmax(found)
        if found.ndim != 3 or found.shape[:2] != tokens.shape:
            raise DriverStoppedError(
                f"'{config.scores}' is {list(found.shape)} for tokens {list(tokens.shape)};"
                " [rows, T, vocabulary] or [rows, vocabulary] is wanted",
                graph=graph.name,
            )
        return log_softmax(found[:, -1])

    def reorder(self, rows: np.ndarray) -> None:
        """Let each row go on from the state of another."""
        self._states = self._graph.chosen_rows(self._states, rows)
        if self._said is not None:
            self._said = self._said[rows]


def _rows(value: np.ndarray, rows: int) -> np.ndarray:
    """One row of an encoder for every hypothesis."""
    if rows == 1 or value.ndim == 0 or value.shape[0] != 1:
        return value
    return np.repeat(value, rows, axis=0)


def _greedy(config: Attention, decoder: _Decoder, decider: Decider) -> Outcome:
    said: list[int] = []
    total, tokens = 0.0, decoder.prompt
    while len(said) < config.max_tokens:
        scores = allowed_scores(config, decoder.scores(tokens)[0], said)
        (token,) = decider.choose(scores, of=decoder.name, what="token", at=len(said))
        total += float(scores[token])
        if token == config.end:
            break
        said.append(token)
        tokens = np.full((1, 1), token, decoder.prompt.dtype)
    return Outcome(tokens=tuple(said), score=total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beam:
    said: tuple[int, ...]
    score: float


def _beam(config: Attention, decoder: _Decoder, decider: Decider) -> Outcome:
    running = [_Beam(said=(), score=0.0)]
    ended: list[_Beam] = []
    tokens, wanted = decoder.prompt, config.beams
    for length in range(1, config.max_tokens + 1):
        logs = decoder.scores(tokens)
        scores = np.stack(
            [
                allowed_scores(config, row, beam.said) + beam.score
                for row, beam in zip(logs, running, strict=True)
            ]
        )
        vocabulary = scores.shape[1]
        chosen = decider.choose(
            scores.reshape(-1), of=decoder.name, what="token", at=length - 1, count=2 * wanted
        )
        going: list[_Beam] = []
        rows: list[int] = []
        for rank, index in enumerate(chosen):
            row, token = divmod(index, vocabulary)
            score, said = float(scores[row, token]), running[row].said
            if token == config.end or length == config.max_tokens:
                if rank < wanted:
                    kept = said if token == config.end else (*said, token)
                    ended.append(_Beam(said=kept, score=score / length**config.length_penalty))
            elif len(going) < wanted:
                going.append(_Beam(said=(*said, token), score=score))
                rows.append(row)
        ended = _best(decider, decoder, ended, wanted, length)
        if not going or _is_done(config, decoder, decider, ended, going, length):
            break
        running = going
        decoder.reorder(np.array(rows))
        tokens = np.array([[beam.said[-1]] for beam in running], decoder.prompt.dtype)
    if not ended:
        raise DriverStoppedError("no hypothesis came to an end", graph=decoder.name)
    return Outcome(tokens=ended[0].said, score=ended[0].score)


def _best(
    decider: Decider, decoder: _Decoder, ended: list[_Beam], wanted: int, length: int
) -> list[_Beam]:
    """Hypotheses that were set aside, the best first; which these are is a choice, too."""
    if len(ended) < 2:
        return ended
    scores = np.array([beam.score for beam in ended])
    order = decider.choose(scores, of=decoder.name, what="ended", at=length - 1, count=wanted)
    return [ended[index] for index in order]


def _is_done(
    config: Attention,
    decoder: _Decoder,
    decider: Decider,
    ended: list[_Beam],
    going: list[_Beam],
    length: int,
) -> bool:
    if len(ended) < config.beams:
        return False
    best = max(beam.score for beam in going) / length**config.length_penalty
    scores = np.array([min(beam.score for beam in ended), best])
    return decider.choose(scores, of=decoder.name, what="end", at=length - 1) == (0,)
