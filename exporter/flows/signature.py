"""Who vouches for an ONNX file: an SSH signature over the digests of the file and its weights.

The tool is OpenSSH's ``ssh-keygen -Y``: its keys, its list of allowed signers, no other trust. What
is signed is a short text that is made from the files each time, so nothing has to be believed
that lies beside the signature:

    export-verify digests 1
    model <sha256>
    external <sha256> "model.onnx.data"

The model's name is not in it (a file may be renamed), those of its external data are: the model
says what they are called.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from exporter.core.artifact import sha256_of
from exporter.core.errors import ArtifactError, UserInputError
from exporter.core.reading import is_regular

NAMESPACE = "export-verify"
_TOOL = "ssh-keygen"
_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What came of checking one: ``good``, by whom ("" when it is not), and the tool's words."""

    good: bool
    signer: str
    detail: str


def digests(path: Path, external: tuple[str, ...]) -> str:
    """The text that is signed.

    Raises:
        ArtifactError: a file is no regular one, or gone.
    """
    lines = ["export-verify digests 1", f"model {_digest(path)}"]
    lines += [
        f"external {_digest(path.parent / name)} {json.dumps(name)}" for name in sorted(external)
    ]
    return "\n".join(lines) + "\n"


def check_signature(
    path: Path,
    external: tuple[str, ...],
    *,
    allowed: Path,
    signature: Path | None = None,
    signer: str | None = None,
) -> Signature:
    """Hold a file against its signature.

    Args:
        external: names of its external data.
        allowed: OpenSSH's list of allowed signers: a line ``NAME KEYTYPE KEY`` for each.
        signature: ``<path>.sig`` by default.
        signer: only this one; None for anybody in the list.

    Raises:
        UserInputError: ``ssh-keygen`` or the list is not there.
    """
    tool = shutil.which(_TOOL)
    if tool is None:
        raise UserInputError(
            f"{_TOOL} is not installed, and it is what checks signatures",
            remedy="install OpenSSH's client (Debian: openssh-client)",
        )
    if not is_regular(allowed):
        raise UserInputError(
            "no such list of allowed signers",
            where=str(allowed),
            remedy="write a line 'NAME KEYTYPE KEY' for each, as in ssh-keygen's manual",
        )
    signature_path = signature or path.with_name(f"{path.name}.sig")
    if not is_regular(signature_path):
        return Signature(good=False, signer="", detail=f"there is no signature in {signature_path}")
    places = ["-f", str(allowed.absolute()), "-s", str(signature_path.absolute())]
    if signer is None:
        principals = _run([tool, "-Y", "find-principals", *places], "")
        names = principals.stdout.splitlines()
        if principals.returncode or not names:
            return Signature(
                good=False, signer="", detail=f"by nobody in {allowed}{_why(principals)}"
            )
        signer = names[0].split(",")[0]
    given = ["-I", signer, "-n", NAMESPACE]
    checked = _run([tool, "-Y", "verify", *places, *given], digests(path, external))
    if checked.returncode:
        return Signature(good=False, signer="", detail=f"not of these files{_why(checked)}")
    return Signature(good=True, signer=signer, detail=checked.stdout.strip())


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - the tool, on files that were named
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserInputError(
            f"{_TOOL} did not end within {_SECONDS} s", remedy="check the paths that it was given"
        ) from error


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return f" ({lines[0][:300]})" if lines else ""


def _digest(path: Path) -> str:
    if not is_regular(path):
        raise ArtifactError("no regular file", where=str(path), remedy="check the path")
    return sha256_of(path)
