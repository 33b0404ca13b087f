"""Values that a case writes down: one for a whole input, or a list with one per row."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from exporter.cases.check_sizes import check_elements
from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec


def value_array(spec: TensorSpec, value: Any, where: str) -> np.ndarray:
    """A value, or a list of them, as an array of the input's dtype; names become their numbers.

    Raises:
        ConfigError: it is no value of that input, or its dtype cannot hold it.
    """
    listed = [_number(spec, item, where) for item in value] if _is_list(value) else None
    given = _number(spec, value, where) if listed is None else listed
    try:
        array = np.array(given, dtype=spec.dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{value} is no {spec.dtype} of '{spec.name}'", where=where, remedy=str(error)
        ) from error
    if spec.dtype.startswith(("int", "uint", "bool")) and not np.array_equal(array, given):
        raise ConfigError(
            f"{value} is no {spec.dtype}", where=where, remedy=f"'{spec.name}' takes whole numbers"
        )
    return array


def filled(spec: TensorSpec, array: np.ndarray, sizes: Mapping[str, int], where: str) -> np.ndarray:
    """A single value in the whole shape of its input; arrays that have axes stay what they are.

    Args:
        sizes: of symbolic axes, as the other inputs of the case have them.

    Raises:
        ConfigError: nothing says how long an axis is.
    """
    if array.ndim or not spec.shape:
        return array
    unknown = [size for size in spec.shape if isinstance(size, str) and size not in sizes]
    if unknown:
        raise ConfigError(
            f"nothing says how long the axis '{unknown[0]}' of '{spec.name}' is",
            where=where,
            remedy=f"write a list; the shape is {list(spec.shape)}",
        )
    shape = tuple(sizes[s] if isinstance(s, str) else s for s in spec.shape)
    check_elements(shape, where)
    return np.full(shape, array, dtype=array.dtype)


def check_shapes(
    specs: Mapping[str, TensorSpec], arrays: Mapping[str, np.ndarray], places: Mapping[str, str]
) -> None:
    """Every array has the shape of its input, and an axis has one size in all inputs.

    Args:
        places: input -> where the case gives it.

    Raises:
        ConfigError: says which input, which axis and both sizes.
    """
    first: dict[str, tuple[str, int]] = {}
    for name, array in arrays.items():
        shape = specs[name].shape
        if array.ndim != len(shape):
            raise ConfigError(
                f"'{name}' has {array.ndim} axes ({list(array.shape)}), its input has"
                f" {len(shape)} ({list(shape)})",
                where=places[name],
                remedy="give a value of that shape",
            )
        for position, (wanted, size) in enumerate(zip(shape, array.shape, strict=True)):
            if isinstance(wanted, int):
                other, right = "its input", wanted
            else:
                other, right = first.setdefault(wanted, (name, size))
            if size != right:
                label = f" ('{wanted}')" if isinstance(wanted, str) else ""
                raise ConfigError(
                    f"axis {position}{label} of '{name}' has {size} elements and {right} in"
                    f" {other}",
                    where=places[name],
                    remedy=f"the shape of '{name}' is {list(shape)}; an axis has one size in all"
                    " inputs",
                )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _number(spec: TensorSpec, value: Any, where: str) -> Any:
    if isinstance(value, str):
        if value not in spec.choices:
            near = difflib.get_close_matches(value, list(spec.choices), 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"'{value}' is not a value of '{spec.name}'",
                where=where,
                remedy=f"{hint}valid: {', '.join(spec.choices) or 'numbers only'}",
            )
        return spec.choices[value]
    if spec.choices and value not in spec.choices.values():
        raise ConfigError(
            f"{value} is not a value of '{spec.name}'",
            where=where,
            remedy="valid: " + ", ".join(f"{k} ({v})" for k, v in spec.choices.items()),
        )
    return value
