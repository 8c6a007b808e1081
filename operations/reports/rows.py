"""A report's rows: a job each, with what it charged; and what they come to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from operations.payments.currencies import in_major_units
from operations.payments.models import Charge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from jobs.operations import JobSummary

CHARGES = "payments.charge"
# What spreadsheets take for the beginning of a formula, in any width: CWE-1236.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class Row(NamedTuple):
    """One job, in words. In the order of the columns, named as they are."""

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


class Money(NamedTuple):
    """What was charged, in minor units, and what of it was given back or is about to be."""

    charge_id: str
    amount: int
    currency: str
    refunded: int


@dataclass
class Figures:
    """What the rows come to."""

    rows: int = 0
    # Minor units by currency: charged, refunded.
    sums: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def totals(self) -> list[dict[str, str]]:
        """The sums as people write them, a currency each."""
        return [
            {"currency": currency, "charged": written(charged, currency), "refunded": written(back, currency)}
            for currency, (charged, back) in sorted(self.sums.items())
        ]


def rows_of(jobs: Sequence[JobSummary], *, scope: str, figures: Figures) -> list[Row]:
    """The rows of these jobs, which are counted in the figures."""
    book = _in_the_book(scope, [job.id for job in jobs if job.operation == CHARGES])
    rows = []
    for job in jobs:
        money = _charged(job.result, book.get(job.id))
        figures.rows += 1
        if money is not None:
            sums = figures.sums[money.currency]
            sums[0] += money.amount
            sums[1] += money.refunded
        rows.append(
            Row(
                str(job.id),
                job.operation,
                job.state,
                _instant(job.created_at),
                _instant(job.finished_at),
                job.attempts,
                *_in_words(money),
            )
        )
    return rows


def neutral(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula: an apostrophe first, where it begins like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def written(amount: int, currency: str) -> str:
    """The amount as people write it; of a currency that we do not know, the minor units, named so."""
    return in_major_units(amount, currency) or f"{amount} minor units"


def _in_the_book(scope: str, job_ids: Iterable[UUID]) -> dict[UUID, Charge]:
    """What the scope's book says of these jobs' charges. Served by payment_charge's primary key."""
    asked = list(job_ids)
    return {one.job_id: one for one in Charge.objects.filter(scope=scope, pk__in=asked)} if asked else {}


def _charged(result: Any, booked: Charge | None) -> Money | None:  # noqa: ANN401 - whatever the job returned
    """The job's charge by its result; by the book, where that was erased or is an operator's words."""
    refunded = 0 if booked is None else booked.refunded
    match result:
        case {"charge_id": str(charge_id), "amount": int(amount), "currency": str(currency)}:
            return Money(charge_id, amount, currency, refunded)
        case _ if booked is not None:
            return Money(booked.charge_id, booked.captured, booked.currency, refunded)
        case _:
            return None


def _in_words(money: Money | None) -> tuple[str, str, str, str]:
    if money is None:
        return "", "", "", ""
    amount, refunded = written(money.amount, money.currency), written(money.refunded, money.currency)
    return _printable(money.charge_id), amount, _printable(money.currency), refunded


def _printable(text: str) -> str:
    """On one line, whatever a provider calls its charges."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)


def _instant(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
