"""An ONNX model as onnx-ir has it: what that library cannot read is a sentence."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from exporter.core.errors import ArtifactError
from exporter.core.reading import reason


def ir_model(model: onnx.ModelProto) -> ir.Model:
    """The model in onnx-ir's form.

    Raises:
        ArtifactError: the library does not know what it holds (inputs that are maps).
    """
    try:
        return ir.from_proto(model)
    except (ir.serde.SerdeError, ValueError, NotImplementedError) as error:
        cause = reason(error.__cause__ or error)
        raise ArtifactError(
            f"onnx-ir cannot read the file ({cause})",
            remedy="export it again; onnx.checker.check_model may say more",
        ) from error
