"""RNN-T, greedy: frame by frame, tokens until the blank is likeliest or there are too many.

A predictor has states and reads one token a call, or has none and reads the last few of them.
"""

from __future__ import annotations

import numpy as np

from exporter.config.driver import Transducer
from exporter.core.tensors import Arrays, TensorSpec
from exporter.drivers.decisions import Decider, check_tokens, log_softmax
from exporter.drivers.frames import counted_frames
from exporter.drivers.graph import DriverStoppedError, Graph, Outcome, Pool


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
    spec = predictor.inputs[config.tokens]
    start = config.blank if config.start is None else config.start
    before = config.blank if config.before is None else config.before
    read = [before] * (config.context - 1) + [start]

    def predict() -> np.ndarray:
        nonlocal states
        tokens = np.array(read[-config.context :], spec.dtype)
        outputs = pool.call(predictor, **{config.tokens: _like(tokens, spec), **states})
        states = predictor.next_states(outputs)
        found = outputs[config.predicted]
        if not found.ndim or not found.size:
            why = f"'{config.predicted}' is {list(found.shape)}; [1, 1, D] or [1, D] is wanted"
            raise DriverStoppedError(why, graph=predictor.name)
        return found.reshape(-1, found.shape[-1])[-1]

    predicted = predict()
    said: list[int] = []
    total = 0.0
    for at, frame in enumerate(frames):
        for _ in range(config.max_symbols):
            both = {config.from_encoder: frame, config.from_predictor: predicted}
            own = {name: _like(held, joiner.inputs[name]) for name, held in both.items()}
            outputs = pool.call(joiner, **own)
            scores = log_softmax(outputs[config.scores].reshape(-1))
            check_tokens((config.blank,), len(scores), "blank")
            (token,) = decider.choose(scores, of=joiner.name, what="frame", at=at)
            total += float(scores[token])
            if token == config.blank:
                break
            said.append(token)
            read.append(token)
            predicted = predict()
    return Outcome(tokens=tuple(said), score=total)


def _like(value: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """``[D]`` with as many axes as the input has: ``[1, D]``, ``[1, 1, D]``."""
    return value.reshape((*(1 for _ in spec.shape[1:]), -1))
