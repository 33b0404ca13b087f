"""Whether an error is the user's: raised so, a package that is missing, a disk that refuses."""

from __future__ import annotations

from exporter.core.disk import disk_error
from exporter.core.errors import UserInputError
from exporter.core.extras import missing_package


def users_fault(error: BaseException) -> UserInputError | None:
    """What to tell the user; ``None`` for a bug of ours."""
    told = error if isinstance(error, UserInputError) else missing_package(error)
    return told or disk_error(error)
