"""What a manifest says of tensors is all that there is to say of them."""

from __future__ import annotations

import json
from dataclasses import fields

from exporter.core.spec_row import SpecRow, spec_of, spec_to_json
from exporter.core.tensors import Axis, TensorSpec

FULL = TensorSpec(
    name="state",
    dtype="int64",
    shape=("batch", 3),
    axes=(Axis(name="batch", minimum=2, maximum=9, multiple_of=3),),
    choices={"yes": 1},
    discrete=True,
    unit="steps",
    initial=1.5,
    idle=True,
)


def test_every_field_of_a_specification_comes_back():
    plain = TensorSpec(name="", dtype="", shape=())
    saved = [f.name for f in fields(FULL) if f.name != "below"]  # found anew, never saved
    same = [name for name in saved if getattr(FULL, name) == getattr(plain, name)]
    assert not same, f"give these another value than their default: {same}"
    assert spec_of(SpecRow.model_validate_json(json.dumps(spec_to_json(FULL)))) == FULL


def test_a_specification_that_was_written_before_states_were_has_none():
    saved = spec_to_json(FULL)
    del saved["initial"]
    assert spec_of(SpecRow.model_validate(saved)).initial is None
