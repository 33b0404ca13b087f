"""Running ONNX files; nothing else here imports onnxruntime."""

from exporter.core.extras import need
from exporter.core.runtimes import refuse_two_runtimes

need("onnxruntime", who="running ONNX files")
refuse_two_runtimes()
