"""What tasks of a model have cost, by the parameters that determine it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PriceRow:
    """A known price: the bucket of the tasks, its parameters for a person, and US dollars."""

    bucket: str
    label: str
    dollars: float


def price_rows(known: Mapping[str, float]) -> list[PriceRow]:
    """Return the known prices of one model by bucket, in the order of the buckets."""
    rows = [PriceRow(bucket=bucket, label=_label(bucket), dollars=price) for bucket, price in known.items()]
    return sorted(rows, key=lambda row: [(len(part), part) for part in row.bucket.split("/")])


def _label(bucket: str) -> str:
    parts = [f"{part} s" if part.isdigit() and part != "0" else part for part in bucket.split("/")[1:]]
    named = {"0": "length by the model", "off_peak": "off-peak", "videos": "with videos"}
    return ", ".join(named.get(part, part) for part in parts) or "any parameters"
