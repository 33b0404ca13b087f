"""Running ONNX files; nothing else here imports onnxruntime."""

from exporter.core.runtimes import refuse_two_runtimes

refuse_two_runtimes()
