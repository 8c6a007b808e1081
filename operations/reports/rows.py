"""The rows of a report: one per job, with what it charged; and their totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from operations.payments.currencies import to_major_units
from operations.payments.ledger import charges_of

if TYPE_CHECKING:
    from jobs.operations import JobSummary
    from operations.payments.models import Charge

CHARGE_OPERATION = "payments.charge"
# Characters that make a spreadsheet read a text as a formula, in any width (CWE-1236).
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class Row(NamedTuple):
    """One job as text, in the order of the columns; the field names are the headings."""

    job: str
    operation: str
    state: str
    created_at: str
    finished_at: str
    attempts: int
    charge: str
    amount: str
    currency: str
    refunded: str


HEADINGS: tuple[str, ...] = Row._fields


class ChargedAmount(NamedTuple):
    """What a job charged, and what of it was refunded or is held for a refund, in minor units."""

    charge_id: str
    amount: int
    currency: str
    refunded: int


@dataclass
class Totals:
    """The number of rows and the sums of their charges."""

    rows: int = 0
    # By currency, in minor units: charged, refunded.
    sums: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def by_currency(self) -> list[dict[str, str]]:
        return [
            {
                "currency": currency,
                "charged": format_amount(charged, currency),
                "refunded": format_amount(refunded, currency),
            }
            for currency, (charged, refunded) in sorted(self.sums.items())
        ]


def rows_of(jobs: Sequence[JobSummary], *, scope: str, totals: Totals) -> list[Row]:
    """Return the rows of these jobs and add them to the totals."""
    ledger = charges_of([job.id for job in jobs if job.operation == CHARGE_OPERATION], scope=scope)
    rows = []
    for job in jobs:
        charged = _charged_amount(job.result, ledger.get(job.id))
        totals.rows += 1
        if charged is not None:
            sums = totals.sums[charged.currency]
            sums[0] += charged.amount
            sums[1] += charged.refunded
        rows.append(
            Row(
                str(job.id),
                job.operation,
                job.state,
                _format_instant(job.created_at),
                _format_instant(job.finished_at),
                job.attempts,
                *_charge_columns(charged),
            )
        )
    return rows


def escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would read as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def format_amount(amount: int, currency: str) -> str:
    """Return the amount in major units, or named as minor units for an unknown currency."""
    return to_major_units(amount, currency) or f"{amount} minor units"


def _charged_amount(result: Any, charge: Charge | None) -> ChargedAmount | None:  # noqa: ANN401 - any JSON value
    """Read the charge from the job's result, or from the ledger if the result was erased or written by an operator."""
    refunded = 0 if charge is None else charge.refunded
    match result:
        case {"charge_id": str(charge_id), "amount": int(amount), "currency": str(currency)}:
            return ChargedAmount(charge_id, amount, currency, refunded)
        case _ if charge is not None:
            return ChargedAmount(charge.charge_id, charge.captured, charge.currency, refunded)
        case _:
            return None


def _charge_columns(charged: ChargedAmount | None) -> tuple[str, str, str, str]:
    if charged is None:
        return "", "", "", ""
    amount = format_amount(charged.amount, charged.currency)
    refunded = format_amount(charged.refunded, charged.currency)
    return _printable(charged.charge_id), amount, _printable(charged.currency), refunded


def _printable(text: str) -> str:
    """Replace line breaks and other control characters that a provider's id may contain."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _format_instant(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
