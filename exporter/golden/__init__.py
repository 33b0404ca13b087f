"""What a pipeline gave when PyTorch last vouched for it: written once, judged ever after.

Knows neither torch nor onnx: arrays and records come in, verdicts go out.
"""
