"""The JSON schema that editors check pipeline YAML against."""

from __future__ import annotations

from typing import Any

from exporter.config.extends import EXTENDS
from exporter.config.pipeline import Pipeline
from exporter.config.system import System

PIPELINE_ID = "https://www.schemastore.org/export-verify.json"
"""What the schema is called wherever it lies; docs/schemastore.json is its entry in a catalogue."""


def system_schema() -> dict[str, Any]:
    """Return the schema of a system's YAML (JSON Schema, draft 2020-12).

    Its graphs are pipelines, or paths of their files; loading it checks them.
    """
    schema = System.model_json_schema()
    required = schema.pop("required")
    schema["properties"] = {
        EXTENDS: {"type": "string", "description": "another system's YAML that this one builds on"},
        **schema["properties"],
    }
    schema["if"] = {"required": [EXTENDS]}
    schema["else"] = {"required": required}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "export-verify system",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def pipeline_schema() -> dict[str, Any]:
    """Return the schema of a pipeline YAML (JSON Schema, draft 2020-12).

    A file that ``extends`` another may leave out what that one says, so no key is required at
    the top level or in a section of such a file; loading it checks the whole.
    """
    schema = Pipeline.model_json_schema()
    required = schema.pop("required")
    schema["properties"] = {
        EXTENDS: {
            "type": "string",
            "description": "another pipeline YAML that this one builds on; null takes a key away",
        },
        **schema["properties"],
    }
    # Names may be written in braces (exporter/config/braces.py).
    schema["properties"]["outputs"]["items"]["pattern"] = r"^[A-Za-z_{][A-Za-z0-9_.,{}-]*$"
    schema["if"] = {"required": [EXTENDS]}
    schema["else"] = {"required": required}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": PIPELINE_ID,
        "title": "export-verify pipeline",
        **{key: value for key, value in schema.items() if key != "title"},
    }
