"""``export-verify inspect``: what an ONNX file takes and gives, and what its certificate says."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.commands import _options as common
from exporter.commands._child import in_a_child
from exporter.core.errors import EXIT_PARITY_FAILED, EXIT_PASS


@click.command()
@click.argument("onnx_path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--require-certificate", is_flag=True, help="Exit 1 when FILE holds no certificate at all."
)
@click.option(
    "--kernels/--no-kernels",
    default=None,
    help="Which operators and types have kernels.  [default: of a file without certificate]",
)
@click.option("--format", "output_format", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--digests",
    is_flag=True,
    help="Print only what a signature is made of: the digests of FILE and its external data.",
)
@click.option(
    "--verify-signature", is_flag=True, help="Exit 1 unless FILE.sig is a signature of FILE."
)
@click.option(
    "--allowed-signers",
    type=click.Path(path_type=Path),
    metavar="LIST",
    help="Whose signature counts: a list as OpenSSH has it, a line 'NAME KEYTYPE KEY' for each.",
)
@click.option("--signer", metavar="NAME", help="Only this one of the list.")
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    metavar="SIG",
    help="Where the signature lies.  [default: FILE.sig]",
)
@click.option(
    "--model-card", is_flag=True, help="Print only the block for a Hugging Face model card."
)
@click.option(
    "-q", "--quiet", is_flag=True, help="Print the first line only, and that of the signature."
)
def command(
    onnx_path: Path,
    require_certificate: bool,
    kernels: bool | None,
    output_format: str,
    digests: bool,
    model_card: bool,
    verify_signature: bool,
    allowed_signers: Path | None,
    signer: str | None,
    signature: Path | None,
    quiet: bool,
) -> int:
    """Print what an ONNX file takes, is made of and is known to suffer from; check its certificate.

    \b
    Exits 0 when the file is as it was certified and its verdict is pass,
    1 when it was changed since, or the verdict is another one,
    0 when it holds no certificate (1 with --require-certificate), 2 when it cannot be read.
    With --verify-signature it is 1 as well unless somebody of LIST has signed this very file.
    """
    if verify_signature and allowed_signers is None:
        raise click.UsageError("--verify-signature needs --allowed-signers LIST.")
    if not verify_signature and (allowed_signers or signer or signature):
        raise click.UsageError("--allowed-signers, --signer, --signature: add --verify-signature.")
    common.require_file(onnx_path, "FILE", "give the path of an .onnx file")
    code = in_a_child(onnx_path)
    if code is not None:
        return code

    from exporter.flows import signature as signing
    from exporter.flows.inspect import inspect
    from exporter.report.inspection import (
        NONE,
        inspection_json,
        inspection_lines,
        signature_line,
    )

    inspected = inspect(onnx_path, kernels=kernels)
    if digests:
        click.echo(signing.digests(onnx_path, inspected.external), nl=False)
        return EXIT_PASS
    if model_card:
        from exporter.report import model_card as card

        click.echo(card.model_card(inspected), nl=False)
        return EXIT_PASS if inspected.verdict == "pass" else EXIT_PARITY_FAILED
    signed = None
    if allowed_signers is not None:
        signed = signing.check_signature(
            onnx_path,
            inspected.external,
            allowed=allowed_signers,
            signature=signature,
            signer=signer,
        )
    if output_format == "json":
        click.echo(inspection_json(inspected, signed))
    else:
        lines = inspection_lines(inspected)
        after = (
            [] if signed is None else [signature_line(signed.good, signed.signer, signed.detail)]
        )
        click.echo("\n".join([*lines[:1], *after, *([] if quiet else lines[1:])]))
    if signed is not None and not signed.good:
        return EXIT_PARITY_FAILED
    if inspected.state == NONE:
        return EXIT_PARITY_FAILED if require_certificate else EXIT_PASS
    return EXIT_PASS if inspected.verdict == "pass" else EXIT_PARITY_FAILED
