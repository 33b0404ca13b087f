"""Judgement: measure pairs of arrays, derive the limit, decide. Knows neither torch nor onnx."""
