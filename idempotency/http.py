"""The DRF face: a view method that takes effect once for each Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.template.response import SimpleTemplateResponse
from rest_framework.status import is_client_error, is_server_error

from foundation.fault_points import reach
from idempotency import queries, signals
from idempotency.accept import Deadline, accept, find_live
from idempotency.compare import refuse_if_other
from idempotency.errors import KeyReused, RequestInProgress
from idempotency.records import Record, Reservation
from idempotency.requests import read_keyed_request
from idempotency.stored import REPLAYED, mark, replay, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from idempotency.records import KeyedRequest

    Handler = Callable[..., HttpResponseBase]
    Validate = Callable[..., object]

# Where the reservation lies in the WSGI environ.
_RESERVATION = "idempotency.reservation"
# Definite refusals that a view gives after its work began; 4xx of other kinds are about the request alone.
DEFINITE_ERRORS = (402, 409, 410, 412)


def idempotent(
    *,
    required: bool,
    validate: Validate | None = None,
    store_errors: Collection[int] = DEFINITE_ERRORS,
    ttl_seconds: int | None = None,
    wait_seconds: float | None = None,
    max_stored_bytes: int | None = None,
    subject: Callable[..., str] | None = None,
) -> Callable[[Handler], Handler]:
    """Make a DRF view method take effect once for each key: repeats of a request get its stored answer.

    The method runs within the one outermost transaction, which also stores the key and the rendered answer.
    It must make no network call, and finds its key by `reservation(request)`. Services it calls use plain
    `atomic()`.

    required: without a key, refuse (KeyMissing); else run the method plainly, with no transaction of ours.

    validate: called as `validate(view, request, *args, **kwargs)` before the key is reserved and outside of
    the transaction, but not for a replay: a retry gets its answer even where today's rules would refuse it.
    What it returns reaches the method as the keyword argument `validated`; what it raises leaves the key free.

    store_errors: statuses of errors, returned or raised, that are kept: the work is rolled back to a savepoint
    and the key means this refusal from now on. All other errors undo everything, and the key is free. Leave it
    empty where the method never refuses after its work began: that saves the savepoint.

    ttl_seconds: how long the key is remembered unless the client says so; IDEMPOTENCY_TTL_SECONDS by default.

    wait_seconds: how long a duplicate waits for the first request in all; IDEMPOTENCY_WAIT_SECONDS by default.

    max_stored_bytes: of an answer's body; IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES by default. A larger one is sent once and
    not kept: its replay has the same status and headers and no body, and says so (`Idempotency-Body-Omitted`).

    subject: called with what the address names (`job_id=…`), for requests about a thing that is there already; returns its
    resource. By it `queries.erase_about` finds the answers that hold a copy of the thing. Only for methods that make their
    answer under the thing's own lock.
    """
    kept = frozenset(store_errors)
    if any(status not in range(400, 500) for status in kept):
        raise ValueError("Only 4xx answers are definite; a 5xx must stay repeatable under its key.")

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        def handle(view: APIView, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
            about = subject and subject(*args, **kwargs)
            keyed = read_keyed_request(request, is_required=required, ttl_seconds=ttl_seconds, subject=about)
            record = keyed and find_live(scope=keyed.scope, key=keyed.key)
            if keyed and record:
                return _answer_again(keyed, record, has_waited=False)
            extra = {} if validate is None else {"validated": validate(view, request, *args, **kwargs)}
            call = _Call(view, request, handler, args, {**kwargs, **extra}, kept, max_stored_bytes)
            return _answer_once(keyed, call, wait_seconds) if keyed else call.run()

        return handle

    return decorate


def reservation(request: Request | HttpRequest) -> Reservation | None:
    """Return the reservation under which this request runs; None without a key. Set its `resource`."""
    found: Reservation | None = request.META.get(_RESERVATION)
    return found


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a view method."""

    view: APIView
    request: Request
    handler: Handler
    args: tuple[object, ...]
    kwargs: dict[str, object]
    store_errors: frozenset[int]
    max_stored_bytes: int | None

    def run(self) -> HttpResponseBase:
        return self.handler(self.view, self.request, *self.args, **self.kwargs)

    def run_under(self, held: Reservation) -> HttpResponseBase:
        """Leave in the transaction that holds the key the work together with its answer, or neither."""
        self.request.META[_RESERVATION] = held
        response = self._run_or_undo(held)
        if _is_error(response) and response.status_code not in self.store_errors:
            transaction.set_rollback(True)
            return response
        # Rendered before the commit: an answer that cannot be made must not leave its work behind.
        response = self._finalize(response)
        if isinstance(response, SimpleTemplateResponse):
            response.render()
        if not queries.store_response(held, snapshot(response, max_bytes=self.max_stored_bytes)):
            raise RuntimeError("The idempotency record changed hands within its own transaction.")
        mark(response, is_replayed=False, expires_at=held.expires_at)
        return response

    def _finalize(self, response: HttpResponseBase) -> HttpResponseBase:
        # DRF's stubs know no other response than its own, although its dispatch passes any.
        finalize: Handler = self.view.finalize_response
        return finalize(self.request, response, *self.args, **self.kwargs)

    def _run_or_undo(self, held: Reservation) -> HttpResponseBase:
        """Return the answer; if it is an error to be stored, its work is undone and the record stays held."""
        if not self.store_errors:
            return self.run()
        try:
            with transaction.atomic():
                response = self.run()
                if response.status_code not in self.store_errors:
                    return response
                transaction.set_rollback(True)
        except Exception as exc:  # noqa: BLE001 # what the view's own handler does not know, it raises again
            response = self.view.handle_exception(exc)
        held.resource = None  # undone as well
        return response


def _is_error(response: HttpResponseBase) -> bool:
    return is_client_error(response.status_code) or is_server_error(response.status_code)


def _answer_once(keyed: KeyedRequest, call: _Call, wait_seconds: float | None) -> HttpResponseBase:
    # From here on, and not from the request's beginning: it bounds the wait for another request, not a slow upload.
    deadline = Deadline(settings.IDEMPOTENCY_WAIT_SECONDS if wait_seconds is None else wait_seconds)
    try:
        outcome = accept(keyed, call.run_under, deadline=deadline)
    except RequestInProgress:
        signals.in_progress.send_robust(sender=None)
        raise
    reach("before_answer")
    if isinstance(outcome, Record):
        return _answer_again(keyed, outcome, has_waited=True)
    held = reservation(call.request)
    if held and outcome.has_header(REPLAYED):
        is_takeover = held.owner > 0
        signals.accepted.send_robust(sender=None, record_id=held.record_id, is_takeover=is_takeover)
    return outcome


def _answer_again(keyed: KeyedRequest, record: Record, *, has_waited: bool) -> HttpResponse:
    try:
        refuse_if_other(record, keyed.parts)
    except KeyReused:
        signals.mismatched.send_robust(sender=None, record_id=record.id)
        raise
    signals.replayed.send_robust(sender=None, record_id=record.id, record=record, has_waited=has_waited)
    return replay(record)
