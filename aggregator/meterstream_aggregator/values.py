"""Reading an attribute of a whole batch as exact amounts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterstream_aggregator.batch import Amounts, Batch
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.quantity import parse_amount

_PLAIN_INTEGERS = "^-?[0-9]{1,18}$"


def column_amounts(batch: Batch, name: str) -> Amounts:
    """The amounts in attribute ``name``, read once per batch."""
    known = batch.amounts.get(name)
    if known is None:
        known = batch.amounts[name] = _read(batch, name)
    return known


def _read(batch: Batch, name: str) -> Amounts:
    column = batch.attribute(name)
    present = column.codes >= 0
    if not column.values:
        nothing = np.zeros(len(batch), dtype=np.int64)
        return Amounts(nothing, nothing, present, present)
    texts = pa.array(column.values, pa.string())
    # pyarrow makes its functions when it is imported: no checker sees them.
    plain = pc.match_substring_regex(texts, _PLAIN_INTEGERS)  # pyright: ignore[reportAttributeAccessIssue]
    if plain.false_count == 0:
        quantity = pc.cast(texts, pa.int64()).to_numpy()
        scale = np.zeros(len(quantity), dtype=np.int64)
        readable = np.ones(len(quantity), dtype=np.bool_)
    else:
        quantity, scale, readable = _parse(column.values)
    return Amounts(
        np.where(present, quantity[column.codes], 0),
        np.where(present, scale[column.codes], 0),
        present & readable[column.codes],
        present & ~readable[column.codes],
    )


def _parse(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    quantity = np.zeros(len(texts), dtype=np.int64)
    scale = np.zeros(len(texts), dtype=np.int64)
    readable = np.ones(len(texts), dtype=np.bool_)
    for at, text in enumerate(texts):
        try:
            quantity[at], scale[at] = parse_amount(text)
        except InvalidQuantity:
            readable[at] = False
    return quantity, scale, readable
