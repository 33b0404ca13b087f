"""The error tree, and the one mapping from errors to exit codes.

Every error that a user can cause says *where* it is and *what to do*; everything else that
escapes is a bug of ours. Nothing else in the package decides an exit code.
"""

from __future__ import annotations

from typing import Any

EXIT_PASS = 0
EXIT_PARITY_FAILED = 1
EXIT_USER_INPUT = 2
EXIT_BUG = 3


class ExportVerifyError(Exception):
    """Base of all errors raised on purpose by this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Come from another process as it was raised there, whatever ``__init__`` takes."""
        return _as_raised, (type(self), self.args, self.__dict__)


def _as_raised(kind: type[ExportVerifyError], args: tuple, state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserInputError(ExportVerifyError):
    """Something that the user gave is wrong: YAML, audio, ONNX, checkpoint, golden, option.

    Args:
        problem: one sentence, what is wrong.
        where: file, line and key (or file and tensor) that holds it; ``None`` for an option.
        remedy: what would be right, one sentence.
    """

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem = problem
        self.where = where
        self.remedy = remedy
        super().__init__(self.render())

    def render(self) -> str:
        """Return ``where: problem`` and, on a line of its own, the remedy."""
        head = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{head}\n  {self.remedy}" if self.remedy else head


class ConfigError(UserInputError):
    """A pipeline YAML is wrong."""


class AudioError(UserInputError):
    """A recording cannot be used as a case."""


class WeightsError(UserInputError):
    """A checkpoint is missing, unreadable or of another architecture."""


class ArtifactError(UserInputError):
    """An ONNX file (or its external data) cannot be used."""


class GoldenError(UserInputError):
    """A golden folder is missing, damaged or of another pipeline."""


class ModelError(UserInputError):
    """The user's own model code cannot be imported, built, run or exported."""


class MissingPackageError(UserInputError):
    """An optional upstream package is not installed."""


class StageError(ExportVerifyError):
    """A stage could not do its work on input that looked right; says which stages had run.

    Args:
        stage: the stage that failed.
        finished: the stages that had already finished, in order.
        detail: what went wrong.
        remedy: what would help, one sentence.
        frozen: an axis that was declared dynamic has become a constant.
        source: ``file:line`` of the user's code that torch names; "" where it names none.
        file: the file that the stage stopped at; "" where it was none.
    """

    def __init__(
        self,
        stage: str,
        detail: str,
        *,
        finished: tuple[str, ...] = (),
        remedy: str | None = None,
        frozen: bool = False,
        source: str = "",
        file: str = "",
    ):
        self.stage = stage
        self.remedy = remedy
        self.finished = finished
        self.detail = detail
        self.frozen = frozen
        self.source = source
        self.file = file
        done = ", ".join(finished) or "none"
        super().__init__(f"stage '{stage}' failed: {detail} (finished before it: {done})")


class OnnxStoppedError(ExportVerifyError):
    """onnxruntime could not load or run a graph; the message is its own words.

    Args:
        node: name of the node at which it stopped; "" where it names none.
    """

    def __init__(self, message: str, *, node: str = ""):
        self.node = node
        super().__init__(message)


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of what an error says, short; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def named_line(error: BaseException, most: int = 200) -> str:
    """``TypeError: first line``; the type alone where the error says nothing."""
    name, line = type(error).__name__, first_line(error, most)
    return line if line == name else f"{name}: {line}"


def exit_code(error: BaseException) -> int:
    """Map an error to the process exit code: 2 for the user's input, 3 for anything else."""
    return EXIT_USER_INPUT if isinstance(error, UserInputError) else EXIT_BUG
