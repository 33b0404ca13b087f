"""The deployments that a pipeline declares, on this machine and as a command line narrows them."""

from __future__ import annotations

from exporter.config import Pipeline
from exporter.config.schema import Deployed
from exporter.core.errors import UserInputError
from exporter.execution.deployment import Deployment
from exporter.execution.providers import check_provider, present_providers


def declared_deployments(
    pipeline: Pipeline, provider: str | None, threads: int
) -> tuple[Deployment, ...]:
    """Every way in which the shipped file is to be run, in the order of the YAML.

    Args:
        provider: what ``--provider`` says: only deployments on it are run. None for all that the
            pipeline declares; one that names no provider is run on every one that is present.
        threads: of deployments that say no number of their own.

    Raises:
        UserInputError: a provider is unknown, not present, or does not load; or the pipeline
            declares no deployment on the one that was asked for.
    """
    if provider is not None:
        check_provider(provider)
    deployments: list[Deployment] = []
    for number, item in enumerate(pipeline.deploy):
        if item.provider is None:
            names = (provider,) if provider else present_providers()
        elif provider not in (None, item.provider):
            continue
        else:
            names = (_declared(pipeline, number, item.provider),)
        deployments += [_deployment(item, check_provider(name), threads) for name in names]
    if not deployments:
        raise UserInputError(
            f"no deployment on '{provider}' is declared",
            where=pipeline.where("deploy"),
            remedy=f"add one: deploy: [{{provider: {provider}}}], or leave --provider out",
        )
    return tuple(dict.fromkeys(deployments))


def _declared(pipeline: Pipeline, number: int, name: str) -> str:
    """A provider that the YAML names; its absence is said with the line that names it."""
    try:
        return check_provider(name)
    except UserInputError as error:
        raise UserInputError(
            error.problem,
            where=pipeline.where("deploy", number, "provider"),
            remedy=f"{error.remedy}; --provider cpu runs what is declared for the CPU alone",
        ) from error


def _deployment(item: Deployed, provider: str, threads: int) -> Deployment:
    settings = {key: _text(value) for key, value in sorted(item.options.items())}
    return Deployment(
        provider=provider,
        level=item.level,
        threads=item.threads or threads,
        tf32=item.tf32,
        settings=tuple(settings.items()),
    )


def _text(value: str | int | float | bool) -> str:
    """As onnxruntime writes options: booleans are 0 and 1."""
    return str(int(value)) if isinstance(value, bool) else str(value)
