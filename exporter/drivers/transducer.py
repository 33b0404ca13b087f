"""RNN-T, greedy: frame by frame, tokens until the blank is likeliest or there are too many."""

from __future__ import annotations

import numpy as np

from exporter.config.driver import Transducer
from exporter.core.tensors import Arrays
from exporter.drivers.decisions import Decider, check_tokens, log_softmax
from exporter.drivers.frames import counted_frames
from exporter.drivers.graph import Graph, Outcome, Pool


def drive(config: Transducer, graphs: dict[str, Graph], case: Arrays, decider: Decider) -> Outcome:
    """The hypothesis of one utterance.

    Raises:
        DriverStoppedError: scores that are no numbers, or frames of another shape.
        ConfigError: the vocabulary has no such blank.
    """
    pool = Pool(case, config.feed)
    encoder, predictor = graphs[config.encoder], graphs[config.predictor]
    joiner = graphs[config.joiner]
    encoded = pool.call(encoder)
    frames = counted_frames(encoder, encoded, config.frames, config.lengths)
    states = predictor.first_states()
    dtype = predictor.inputs[config.tokens].dtype

    def predict(token: int) -> np.ndarray:
        nonlocal states
        own = {config.tokens: np.full((1, 1), token, dtype), **states}
        outputs = pool.call(predictor, **own)
        states = predictor.next_states(outputs)
        return outputs[config.predicted]

    predicted = predict(config.blank if config.start is None else config.start)
    said: list[int] = []
    total = 0.0
    for at, frame in enumerate(frames):
        for _ in range(config.max_symbols):
            own = {config.from_encoder: frame[None, None], config.from_predictor: predicted}
            outputs = pool.call(joiner, **own)
            scores = log_softmax(outputs[config.scores].reshape(-1))
            check_tokens((config.blank,), len(scores), "blank")
            (token,) = decider.choose(scores, of=joiner.name, what="frame", at=at)
            total += float(scores[token])
            if token == config.blank:
                break
            said.append(token)
            predicted = predict(token)
    return Outcome(tokens=tuple(said), score=total)
