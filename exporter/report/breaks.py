"""Where the text of a page without a script may break."""

from __future__ import annotations

import re

from markupsafe import Markup

_PLACES = re.compile(r"(?<=[^\W\d][._/])(?=[\w(])")


def breakable(value: object) -> Markup:
    """Escaped text whose names break behind their dots, not inside of a word or a figure."""
    return Markup("<wbr>").join(_PLACES.split(str(value)))
