"""Pipeline YAML -> frozen, validated ``Pipeline``. Needs neither torch nor onnx."""

from exporter.config.inputs import AxisSize, Case, Draw, InputSpec
from exporter.config.json_schema import pipeline_schema
from exporter.config.load import load_pipeline
from exporter.config.pipeline import GRAPH_SECTIONS, Pipeline
from exporter.config.schema import Export, Features, Model, Override, Parity, Vad

__all__ = [
    "GRAPH_SECTIONS",
    "AxisSize",
    "Case",
    "Draw",
    "Export",
    "Features",
    "InputSpec",
    "Model",
    "Override",
    "Parity",
    "Pipeline",
    "Vad",
    "load_pipeline",
    "pipeline_schema",
]
