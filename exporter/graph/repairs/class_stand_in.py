"""A class that stands in the place of another one in a model's code, and is called otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def stand_in(
    plain: type,
    called: Callable[..., Any],
    *,
    bases: tuple[type, ...] = (),
    also: tuple[type, ...] = (),
    **attributes: Any,
) -> type:
    """What passes for ``plain``, for code that also asks ``isinstance(x, plain)``.

    Args:
        called: what a call of it returns. bases: of what it is a class, for ``issubclass``.
        also: classes whose instances pass for its own. attributes: those that are to be its own.
    """

    class Meta(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return called(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, (plain, *also))

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, plain)

        def __eq__(cls, other: object) -> bool:
            return other is plain or other is cls

        def __hash__(cls) -> int:
            return hash(plain)

        def __getattr__(cls, name: str) -> Any:
            return getattr(plain, name)

    return Meta(plain.__name__, bases, attributes)
