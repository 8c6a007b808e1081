"""`@idempotent`: a DRF view method that takes effect once for each Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from rest_framework.request import Request

from foundation.fault_points import reach
from idempotency import queries, signals
from idempotency.accept import accept, accept_at_once, find_live
from idempotency.comparison import require_same_request
from idempotency.errors import KeyReused, RequestInProgress
from idempotency.parsers import read_keyed_request
from idempotency.records import Created, Record
from idempotency.replay_counter import replay_counter
from idempotency.stored_response import add_replay_headers, replay, snapshot

if TYPE_CHECKING:
    from rest_framework.views import APIView

    from idempotency.records import KeyedRequest, Reservation, Work

    Handler = Callable[..., HttpResponseBase | Created]
    Validate = Callable[..., object]
    Plan = Callable[..., Work | None]

# Statuses of final errors that depend on stored data. The other 4xx depend only on the request, so a retry gets them again.
DEFINITE_ERRORS = (402, 409, 410, 412)


def idempotent(
    *,
    required: bool,
    validate: Validate | None = None,
    at_once: Plan | None = None,
    creates: bool = False,
    store_errors: Collection[int] = DEFINITE_ERRORS,
    ttl_seconds: int | None = None,
    wait_seconds: float | None = None,
    max_stored_bytes: int | None = None,
    subject: Callable[..., str] | None = None,
) -> Callable[[Handler], Handler]:
    """Make a DRF view method take effect once for each key: a repeated request gets the stored response.

    The method runs in the outermost transaction, which also stores the key and the rendered response. It must not call
    the network; services that it calls use plain `atomic()`.

    required: refuse a request without a key (KeyMissing); otherwise run it plainly, without a transaction of ours.
    validate: called as `validate(view, request, *args, **kwargs)` before the key is reserved and outside the transaction;
        not called for a replay, which must get its response under today's rules too. Its result is passed as `validated`.
    at_once: called as `at_once(view, request, *args, validated=…, key=…, at=…, **kwargs)` for the first request with a key, `at`
        the database's clock; returns the rows to insert and the response (Work). One statement then commits them together with
        the key. If it returns None, or the key is taken meanwhile, the method runs in its transaction instead.
    creates: the method gets its `reservation` as an argument (None without a key) and may return `Created(response, resource)`.
    store_errors: statuses of errors, returned or raised, that are stored after the work is rolled back to a savepoint. Other
        errors roll back everything and leave the key free. Pass () if the method never returns such errors: it avoids a
        savepoint.
    ttl_seconds: lifetime of the key unless the client sets it; IDEMPOTENCY_TTL_SECONDS by default.
    wait_seconds: how long a duplicate waits for the first request in all; IDEMPOTENCY_WAIT_SECONDS by default.
    max_stored_bytes: limit of a stored body, IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES by default. The replay of a larger one has
        the same status and headers, no body, and `Idempotency-Body-Omitted`.
    subject: called with the URL's arguments (`job_id=…`); returns the existing resource that the request acts on.
    `queries.erase_by_subject` uses it to find stored responses. The method must lock that resource before it builds its response.
    """
    kept = frozenset(store_errors)
    if any(status not in range(400, 500) for status in kept):
        raise ValueError(
            "Only 4xx responses can be stored. A request answered with 5xx must stay repeatable under its key."
        )

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        def handle(view: APIView, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
            keyed = read_keyed_request(
                request, is_required=required, ttl_seconds=ttl_seconds, subject=subject and subject(*args, **kwargs)
            )
            found = find_live(scope=keyed.scope, key=keyed.key) if keyed else None
            if keyed and found and found.record:
                return _replay_or_refuse(keyed, found.record, has_waited=False)
            if validate is not None:
                kwargs["validated"] = validate(view, request, *args, **kwargs)
            call = _Call(view, request, handler, args, kwargs, creates, kept, max_stored_bytes)
            if keyed is None or found is None:
                return call.run(None).response
            if at_once is not None:
                work = at_once(view, request, *args, **kwargs, key=keyed.key, at=found.read_at)
                if work is not None and (response := _accept_at_once(keyed, work, found.read_at, max_stored_bytes)):
                    return response
            return _accept_or_replay(keyed, call, wait_seconds)

        return handle

    return decorate


def _accept_at_once(
    keyed: KeyedRequest, work: Work, at: datetime, max_stored_bytes: int | None
) -> HttpResponseBase | None:
    record_id = accept_at_once(keyed, work, at=at, max_stored_bytes=max_stored_bytes)
    if record_id is None:
        return None
    reach("before_answer")
    signals.accepted.send_robust(sender=None, record_id=record_id, is_takeover=False)
    expires_at = at + timedelta(seconds=keyed.ttl_seconds)
    add_replay_headers(work.response, is_replayed=False, expires_at=expires_at)
    return work.response


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A response that was stored under the reservation, or that is not stored (None)."""

    response: HttpResponseBase
    reservation: Reservation | None


@dataclass(frozen=True, slots=True)
class _Call:
    view: APIView
    request: Request
    handler: Handler
    args: tuple[object, ...]
    kwargs: dict[str, object]
    creates: bool
    store_errors: frozenset[int]
    max_stored_bytes: int | None

    def run(self, reservation: Reservation | None) -> Created:
        """Run the method and return its response with the resource that it made."""
        extra = {"reservation": reservation} if self.creates else {}
        made = self.handler(self.view, self.request, *self.args, **self.kwargs, **extra)
        return made if isinstance(made, Created) else Created(made, None)

    def run_under(self, reservation: Reservation) -> _Accepted:
        """Do the work and store its response in the transaction that holds the key, or leave neither."""
        made = self._run_or_undo(reservation)
        response = made.response
        if response.status_code >= HTTPStatus.BAD_REQUEST and response.status_code not in self.store_errors:
            transaction.set_rollback(True)
            return _Accepted(response, None)
        # Rendered before the commit: if rendering fails, the work must be undone.
        # DRF's stubs accept only DRF's own response, although its dispatch passes any.
        finalize: Callable[..., HttpResponseBase] = self.view.finalize_response
        response = finalize(self.request, response, *self.args, **self.kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.render()
        stored = snapshot(response, max_bytes=self.max_stored_bytes)
        if not queries.store_response(reservation, stored, resource=made.resource):
            raise RuntimeError("The idempotency record changed its owner within its own transaction.")
        add_replay_headers(response, is_replayed=False, expires_at=reservation.expires_at)
        return _Accepted(response, reservation)

    def _run_or_undo(self, reservation: Reservation) -> Created:
        """Return the response. If it is an error to be stored, undo its work but keep the reservation."""
        if not self.store_errors:
            return self.run(reservation)
        try:
            with transaction.atomic():
                made = self.run(reservation)
                if made.response.status_code not in self.store_errors:
                    return made
                transaction.set_rollback(True)
                return Created(made.response, None)  # the rollback removes the resource
        except Exception as exc:  # noqa: BLE001 # handle_exception raises again every exception that it does not handle
            return Created(self.view.handle_exception(exc), None)


def _accept_or_replay(keyed: KeyedRequest, call: _Call, wait_seconds: float | None) -> HttpResponseBase:
    seconds = settings.IDEMPOTENCY_WAIT_SECONDS if wait_seconds is None else wait_seconds
    try:
        outcome = accept(keyed, call.run_under, wait_seconds=seconds)
    except RequestInProgress:
        signals.in_progress.send_robust(sender=None)
        raise
    reach("before_answer")
    if isinstance(outcome, Record):
        return _replay_or_refuse(keyed, outcome, has_waited=True)
    if (reserved := outcome.reservation) is not None:
        signals.accepted.send_robust(sender=None, record_id=reserved.record_id, is_takeover=reserved.owner > 0)
    return outcome.response


def _replay_or_refuse(keyed: KeyedRequest, record: Record, *, has_waited: bool) -> HttpResponse:
    try:
        require_same_request(record, keyed.parts)
    except KeyReused:
        signals.mismatched.send_robust(sender=None, record_id=record.id)
        raise
    replay_counter.count(record.id)
    signals.replayed.send_robust(sender=None, record_id=record.id, record=record, has_waited=has_waited)
    return replay(record)
