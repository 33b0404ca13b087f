"""What was proved of an export at the lengths of its pipeline, kept with the export in the cache.

The links in front of the shipped file are functions of the export: eager PyTorch, the captured
program, the exported and the simplified file. Where all of that is byte for byte what it was, on
the same inputs, with the same limits, libraries, processor and code of this package, running them
again at every length can only say the same. So a proof is kept, with what PyTorch gave in float32
and float64, and the report of a run that leans on one says so. Cases and layers are always run,
and so is the shipped file, at every length: it is held against PyTorch's values.

Only what passed is kept: everything else is run and judged again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from exporter.build.build import BuildResult
from exporter.build.cache_key import package_digest
from exporter.cache.arrays_as_text import packed, unpacked
from exporter.cache.entry import canonical
from exporter.cache.store import Store
from exporter.core.tensors import Arrays, Case, TensorSpec
from exporter.execution.deployment import Deployment
from exporter.judge.outputs import OutputResult
from exporter.parity.rollup import Rollup
from exporter.parity.status import is_good
from exporter.parity.tolerance import Policy
from exporter.report.environment import describe_environment

_SHORT = 12
_LARGEST = 16 * 2**20
"""Bytes of PyTorch's outputs of one case and precision that are kept; above, PyTorch runs again."""

Values = tuple[Arrays, Arrays]
"""What PyTorch gave on one case: in float32, in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthProof:
    """A proof that was kept.

    Attributes:
        made: when, ISO 8601. digest: of what was proved, and how.
        cases: names of the sized cases. values: PyTorch's, of those for which they were kept.
    """

    made: str
    digest: str
    cases: tuple[str, ...]
    values: Mapping[str, Values] = field(default_factory=dict)

    def note(self, links: Sequence[str]) -> str:
        """What the report of a run says that leans on this proof."""
        return (
            f"{', '.join(self.cases)}: {'; '.join(links)} not run again: proved {self.made} with"
            f" the same bytes, inputs, limits, versions and processor (proof {self.digest})"
            f"{self._values_note()}"
        )

    def _values_note(self) -> str:
        if not self.values:
            return ""
        which = "" if len(self.values) == len(self.cases) else f" of {', '.join(self.values)}"
        return f"; PyTorch's values{which}, which the shipped file is held against, are from there"

    def on(self, rollup: Rollup) -> Rollup:
        """A link that leans on this proof."""
        said = f"{len(self.cases)} lengths proved {self.made}"
        return replace(rollup, reason="; ".join(text for text in (rollup.reason, said) if text))


class LengthProofs:
    """Finds and keeps the proof of one export under one way of judging.

    Args:
        store, key: where the export is cached, and under which key.
        artifacts: digests of its files.
        outputs: specs. policy: the limits. deployment: how the links' files are run.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        artifacts: Sequence[str],
        outputs: Sequence[TensorSpec],
        policy: Policy,
        deployment: Deployment,
    ):
        self._store = store
        self._key = key
        environment = describe_environment(deployment.threads, (deployment.provider,))
        self._how = canonical(
            {
                "key": key,
                "artifacts": list(artifacts),
                "outputs": [repr(spec) for spec in outputs],
                "policy": repr(policy),
                "deployment": repr(deployment),
                "environment": environment.model_dump(mode="json"),
                "code": package_digest(),
            }
        )

    @classmethod
    def of(cls, built: BuildResult, policy: Policy, deployment: Deployment) -> LengthProofs | None:
        """Those of an export; None where it is not cached."""
        if built.store is None or built.cache is None or not built.cache.stored:
            return None
        files = (built.exported.sha256, built.shipped.sha256)
        how: dict[str, Any] = {"outputs": built.wrapped.outputs, "policy": policy}
        return cls(built.store, built.cache.key, artifacts=files, deployment=deployment, **how)

    def find(self, sized: Sequence[Case]) -> LengthProof | None:
        """The proof of exactly these cases; None when there is none that can be believed."""
        name = self._name(sized)
        proof_text = self._store.read_proof(self._key, name) if sized else None
        if (
            proof_text is None
            or proof_text.get("proof") != name
            or not isinstance(proof_text.get("made"), str)
        ):
            return None
        return LengthProof(
            made=proof_text["made"],
            digest=name[:_SHORT],
            cases=tuple(case.name for case in sized),
            values=_values(proof_text.get("values"), sized),
        )

    def keep(
        self,
        sized: Sequence[Case],
        links: Sequence[str],
        results: Sequence[OutputResult],
        values: Mapping[str, Values],
    ) -> None:
        """Keep what was found, if all of it passed; a cache that cannot be written keeps nothing.

        Args:
            links: names of the links that are to be proved.
            results: of these links and others, on these cases and others.
            values: PyTorch's, of these cases and others.
        """
        names = {case.name for case in sized}
        here = [result for result in results if result.link in links and result.case in names]
        seen = {(result.link, result.case) for result in here}
        whole = seen == {(link, name) for link in links for name in names}
        if not here or not whole or not all(is_good(h.verdict.status) for h in here):
            return
        name = self._name(sized)
        content = {
            "proof": name,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "links": list(links),
            "results": [
                [result.link, result.case, result.name, result.verdict.status.value]
                for result in here
            ],
            "values": {
                case.name: [packed(part, _LARGEST) for part in values[case.name]]
                for case in sized
                if case.name in values and not case.later
            },
        }
        try:
            self._store.write_proof(self._key, name, content)
        except OSError:
            return  # the next run judges these links again

    def _name(self, sized: Sequence[Case]) -> str:
        digest = hashlib.sha256(self._how.encode())
        for case in sized:
            digest.update(f"{case.name}\n".encode())
            for name, value in sorted(case.inputs.items()):
                array = np.ascontiguousarray(value)
                digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()


def _values(content: Any, sized: Sequence[Case]) -> dict[str, Values]:
    """What was kept of PyTorch's values, of those cases that have them whole."""
    values = {}
    for case in sized:
        pair = content.get(case.name) if isinstance(content, Mapping) else None
        single, wide = (unpacked(part) for part in pair) if pair else (None, None)
        if single is not None and wide is not None:
            values[case.name] = (single, wide)
    return values
