"""Compensation: done effects are undone, the last first, if a job is canceled or fails for good, wherever its worker dies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from jobs.errors import CompensatedJobCannotSucceed
from jobs.models import Job, JobStep
from jobs.operations import Compensation, EffectNotDone, EffectRefused, PermanentError, RetryableError
from jobs.payloads import decode_payload
from jobs.provider_events import ProviderEvent, record_provider_event
from jobs.services import cancel_job, redrive_job, resolve_job
from jobs.states import State
from tests.support.downstreams import Downstream, run, step_of
from tests.support.factories import end_lease, queued_job
from tests.support.scenarios import everything, history, write
from workers import sweep
from workers.testing import every_crash, run_to_end

pytestmark = pytest.mark.django_db

DAY = timedelta(hours=24)
# A dying worker: no code handles it, the attempt ends, and its lease expires.
DIES = KeyboardInterrupt


class Place:
    """An external system in which an effect can be done and undone; it records every call."""

    def __init__(self, name, log, *undoings, answer=None, finds=None):
        self.name, self.log = name, log
        self.forward = Downstream(answer or {"id": name})
        self.back = Downstream(*undoings or [{"undone": name}], finds=finds)

    def call(self, key):
        self.log.append(self.name)
        return self.forward.call(key)

    def undo(self, result, key):
        assert result == {"id": self.name}
        self.log.append(f"-{self.name}")
        return self.back.call(key)

    def compensation(self, **options):
        asks = options.pop("asks", False)
        return Compensation(call=self.undo, reconcile=self.ask if asks else None, **options)

    def ask(self, result, key):
        assert result == {"id": self.name}
        return self.back.reconcile(key)


def travel(*places, end, **options):
    """Return a script that does an effect at each place, and then calls `end`."""

    def perform(job):
        for place in places:
            job.effect(place.name, place.call, compensate=place.compensation(**options))
        end(job)

    return perform


def refuse(_job):
    raise PermanentError("sold out", code="sold_out")


def cancel(job):
    cancel_job(tenant_id=Job.objects.get(pk=job.id).tenant_id, mode="test", job_id=job.id)
    job.progress(1, 1)


def each_time(*ends):
    """Return an end that differs between attempts."""
    left = list(ends)

    def end(job):
        left.pop(0)(job)

    return end


def killed(job_id):
    """Return the job after its worker died and the sweep ended its lease."""
    with pytest.raises(DIES):
        run(job_id)
    end_lease(job_id)
    sweep.run_once()
    return Job.objects.get(pk=job_id)


def test_a_deadline_that_passes_during_compensation_does_not_stop_it(tenant, script):
    log = []
    place = Place("a", log, EffectNotDone("busy", retry_after=timedelta(0)), {"undone": "a"})
    job = run(queued_job(tenant, script=script(travel(place, end=cancel))).id)
    assert (job.state, states(job)) == (State.QUEUED, {"a": "done", "a:undo": "not_done"})
    write(job.id, "deadline_at = clock_timestamp(), run_at = clock_timestamp()")
    assert sweep.run_once().lapsed == 0
    job = run(job.id)
    assert (job.state, states(job)) == (State.CANCELED, {"a": "compensated", "a:undo": "done"})


def unknown(tenant, script, end):
    """Return a job whose one compensation has an unknown outcome, because its worker died."""
    queued = queued_job(tenant, script=script(travel(Place("a", [], DIES()), end=end)))
    killed(queued.id)
    job = run(queued.id)
    assert (job.state, states(job)) == (State.UNKNOWN, {"a": "done", "a:undo": "started"})
    return job


def resolve(job, verdict, then):
    verdict_data = {"step": "a:undo", "verdict": verdict, "note": "the book says so", "by": "me"}
    return resolve_job(tenant_id=job.tenant_id, mode="test", job_id=job.id, then=then, **verdict_data)


def states(job):
    return {step.name: str(step.state) for step in JobStep.objects.filter(job_id=job.id)}


def test_a_permanent_failure_undoes_the_done_effects_the_last_first(tenant, script):
    log = []
    job = run(queued_job(tenant, script=script(travel(Place("a", log), Place("b", log), end=refuse))).id)
    assert log == ["a", "b", "-b", "-a"]
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 0)
    error = decode_payload(job.error)
    assert (error["code"], error["cause"], error["detail"]) == ("operation-failed", "sold_out", "sold out")
    assert states(job) == {"a": "compensated", "b": "compensated", "a:undo": "done", "b:undo": "done"}


def test_a_compensation_is_sent_under_its_own_key(tenant, script):
    place = Place("a", [])
    job = run(queued_job(tenant, script=script(travel(place, end=refuse))).id)
    assert place.back.calls == [step_of(job, "a:undo").downstream_key] != place.forward.calls
    assert step_of(job, "a:undo").undoes == "a"


def test_a_late_cancel_request_is_granted_once_everything_is_undone(tenant, script):
    log = []
    job = run(queued_job(tenant, script=script(travel(Place("a", log), Place("b", log), end=cancel))).id)
    assert log == ["a", "b", "-b", "-a"]
    assert (job.state, job.done_effects, job.error) == (State.CANCELED, 0, None)
    assert history(job.id)[-2:] == ["cancel-requested", "canceled"]


def test_a_cancel_request_is_declined_if_an_effect_cannot_be_undone(tenant, script):
    log = []
    first, second = Place("a", log), Place("b", log)

    def perform(job):
        job.effect("a", first.call, compensate=first.compensation())
        job.effect("b", second.call)
        cancel(job)
        return "done"

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (job.state, log) == (State.SUCCEEDED, ["a", "b"])
    assert history(job.id).count("cancel-declined") == 1


def test_a_cancel_request_granted_by_the_reconcile_only_attempt_was_never_declined(tenant, script):
    place = Place("a", [], DIES(), finds={"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=cancel, asks=True)))
    write(queued.id, "attempts_left = 1")
    assert killed(queued.id).reconcile_only
    job = run(queued.id)
    assert (job.state, job.done_effects) == (State.CANCELED, 0)
    assert "cancel-declined" not in history(job.id)


def test_compensation_stops_at_an_effect_that_cannot_be_undone(tenant, script):
    log = []
    places = [Place(name, log) for name in "abc"]

    def perform(job):
        for place in places:
            compensation = None if place.name == "b" else place.compensation()
            job.effect(place.name, place.call, compensate=compensation)
        refuse(job)

    job = run(queued_job(tenant, script=script(perform)).id)
    assert log == ["a", "b", "c", "-c"]
    assert (job.state, job.done_effects) == (State.FAILED, 2)
    assert decode_payload(job.error)["code"] == "partially-done"


def test_an_attempt_that_will_be_retried_undoes_nothing(tenant, script):
    log = []

    def fail_for_now(_job):
        raise RetryableError

    job = run(queued_job(tenant, script=script(travel(Place("a", log), end=fail_for_now))).id)
    assert (job.state, job.done_effects, log) == (State.QUEUED, 1, ["a"])


def test_after_a_worker_died_in_a_compensation_the_next_repeats_it_and_continues(tenant, script):
    log = []
    a, b = Place("a", log), Place("b", log, DIES(), {"undone": "b"})
    queued = queued_job(tenant, script=script(travel(a, b, end=refuse, key_window=DAY)))
    job = killed(queued.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.QUEUED, 1, 2)
    job = run(job.id)
    assert log == ["a", "b", "-b", "-b", "-a"]
    assert len(set(b.back.calls)) == 1
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 0)
    assert (decode_payload(job.error)["cause"], decode_payload(job.error)["detail"]) == ("sold_out", "sold out")


def test_after_a_worker_died_between_two_compensations_the_next_neither_repeats_nor_runs_effects(tenant, script):
    log = []
    a, b = Place("a", log, DIES(), {"undone": "a"}), Place("b", log)
    end = each_time(cancel, lambda _job: log.append("forward"))
    queued = queued_job(tenant, script=script(travel(a, b, end=end, key_window=DAY)))
    killed(queued.id)
    job = run(queued.id)
    assert log == ["a", "b", "-b", "-a", "-a"]
    assert (job.state, job.done_effects) == (State.CANCELED, 0)


def test_a_begun_compensation_is_completed_even_if_the_operation_would_now_succeed(tenant, script):
    log = []
    place = Place("a", log, DIES(), {"undone": "a"})
    end = each_time(refuse, lambda _job: log.append("forward"))
    queued = queued_job(tenant, script=script(travel(place, end=end, key_window=DAY)))
    killed(queued.id)
    job = run(queued.id)
    assert log == ["a", "-a", "-a"]
    assert (job.state, decode_payload(job.error)["cause"]) == (State.FAILED, "sold_out")


def test_a_compensation_with_an_unknown_outcome_is_reconciled(tenant, script):
    log = []
    place = Place("a", log, DIES(), finds={"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=refuse, asks=True)))
    killed(queued.id)
    job = run(queued.id)
    assert (log, len(place.back.questions)) == (["a", "-a"], 1)
    assert (job.state, job.done_effects, states(job)["a"]) == (State.FAILED, 0, "compensated")


def test_a_compensation_that_cannot_be_reconciled_leaves_the_job_unknown_until_resolved(tenant, script):
    log = []
    place = Place("a", log, DIES())
    queued = queued_job(tenant, script=script(travel(place, end=refuse)))
    killed(queued.id)
    job = run(queued.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.UNKNOWN, 1, 1)
    verdict_data = {"step": "a:undo", "verdict": JobStep.State.DONE, "note": "the book says so", "by": "me"}
    job = resolve_job(tenant_id=tenant.id, mode="test", job_id=job.id, then=State.FAILED, **verdict_data)
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 0)
    assert states(job) == {"a": "compensated", "a:undo": "done"}


def test_the_reconcile_only_attempt_begins_no_compensation(tenant, script):
    log = []
    a, b = Place("a", log), Place("b", log, *[DIES()] * 3, finds={"undone": "b"})
    queued = queued_job(tenant, script=script(travel(a, b, end=refuse, key_window=DAY, asks=True)))
    for _ in range(3):
        job = killed(queued.id)
    assert (job.state, job.reconcile_only) == (State.QUEUED, True)
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 1)
    assert (decode_payload(job.error)["code"], log) == ("partially-done", ["a", "b", "-b", "-b", "-b"])


def test_a_compensation_that_was_not_done_is_retried(tenant, script):
    log = []
    place = Place("a", log, EffectNotDone("busy"), {"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=refuse)))
    assert run(queued.id).state == State.QUEUED
    job = run(queued.id)
    assert (job.state, job.done_effects, log) == (State.FAILED, 0, ["a", "-a", "-a"])


def test_a_refused_compensation_leaves_the_job_partially_done(tenant, script):
    log = []
    a, b = Place("a", log, EffectRefused("too late", code="too_late")), Place("b", log)
    job = run(queued_job(tenant, script=script(travel(a, b, end=refuse))).id)
    assert (job.state, job.done_effects) == (State.FAILED, 1)
    assert (decode_payload(job.error)["code"], decode_payload(job.error)["cause"]) == (
        "partially-done",
        "compensation-refused",
    )
    assert states(job) == {"a": "done", "b": "compensated", "a:undo": "refused", "b:undo": "done"}


def test_a_redrive_repeats_undone_effects_under_other_keys_and_can_undo_them_again(tenant, script):
    log = []
    place = Place("a", log, {"undone": 1}, {"undone": 2})
    place.forward.answers.append({"id": "a"})
    job = run(queued_job(tenant, script=script(travel(place, end=refuse))).id)
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = run(job.id)
    assert log == ["a", "-a", "a", "-a"]
    assert len({*place.forward.calls, *place.back.calls}) == 4
    assert (job.state, job.done_effects, states(job)["a"]) == (State.FAILED, 0, "compensated")


def test_a_done_effect_that_this_attempt_has_not_met_prevents_compensation(tenant, script):
    log = []
    a, b = Place("a", log), Place("b", log)

    def perform(job):
        job.effect("a", a.call, compensate=a.compensation())
        if job.attempt == 2:
            refuse(job)
        job.effect("b", b.call, compensate=b.compensation())
        raise RetryableError

    queued = queued_job(tenant, script=script(perform))
    run(queued.id)
    job = run(queued.id)
    assert log == ["a", "b"]
    assert (job.state, job.done_effects, decode_payload(job.error)["code"]) == (State.FAILED, 2, "partially-done")


@pytest.mark.parametrize(("end", "state"), [(refuse, State.FAILED), (cancel, State.CANCELED)])
def test_wherever_its_worker_dies_each_effect_is_done_once_and_undone_once(tenant, script, end, state):
    """Within the key window a repeat does nothing: the number of different keys counts, and the job's state."""

    def journey(crash=None):
        places = [Place(name, []) for name in "ab"]
        for place in places:
            place.forward.answers *= 3
            place.back.answers *= 3
            journeys.append(place)

        def perform(job):
            for place in places:
                options = {"compensate": place.compensation(key_window=DAY), "key_window": DAY}
                job.effect(place.name, place.call, **options)
            job.step("count", lambda: 2)
            end(job)

        return run_to_end(queued_job(tenant, script=script(perform)).id, crash=crash)

    journeys = []
    crashes = list(every_crash(journey))
    assert {"after_effect", "after_record", "mid_step", "before_settle"} <= {one.place for one in crashes}
    for crash in crashes:
        journeys.clear()
        finished = journey(crash)
        assert finished.has_crashed, crash
        assert (finished.job.state, finished.job.done_effects) == (state, 0), crash
        assert states(finished.job) == {
            "a": "compensated",
            "b": "compensated",
            "a:undo": "done",
            "b:undo": "done",
            **({"count": "done"} if "count" in states(finished.job) else {}),
        }, crash
        call_counts = [len(set(side.calls)) for place in journeys for side in (place.forward, place.back)]
        assert call_counts == [1, 1, 1, 1], crash


def test_a_stale_attempt_that_closes_a_compensation_leaves_evidence_only(tenant, script):
    def overtaken(_key):
        end_lease(queued.id)
        sweep.run_once()
        return {"undone": "by the stale attempt"}

    place = Place("a", [], overtaken, {"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=refuse, key_window=DAY)))
    job = run(queued.id)
    assert history(job.id)[-2:] == ["expire", "late-effect"]
    assert (job.state, job.open_effects, job.done_effects) == (State.QUEUED, 1, 1)
    assert states(job) == {"a": "done", "a:undo": "started"}
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 0)
    assert (len(place.back.calls), len(set(place.back.calls))) == (2, 1)


def test_a_compensation_that_was_not_done_keeps_its_key_when_the_job_is_redriven(tenant, script):
    """If an earlier call arrives late, the downstream recognizes the next one as a repeat."""
    place = Place("a", [], *[EffectNotDone("busy")] * 3, {"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=refuse)))
    for _ in range(3):
        job = run(queued.id)
    assert (job.state, states(job)) == (State.FAILED, {"a": "done", "a:undo": "not_done"})
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = run(job.id)
    assert (job.state, job.done_effects, states(job)["a"]) == (State.FAILED, 0, "compensated")
    assert (len(place.back.calls), len(set(place.back.calls)), len(place.forward.calls)) == (4, 1, 1)


@pytest.mark.parametrize(("end", "state"), [(refuse, State.FAILED), (cancel, State.CANCELED)])
def test_a_verdict_on_a_compensation_does_not_change_why_the_job_ends(tenant, script, end, state):
    job = unknown(tenant, script, end)
    resolve(job, JobStep.State.DONE, State.QUEUED)
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (state, 0, 0)
    assert (decode_payload(job.error)["cause"] if job.error else None) == ("sold_out" if end is refuse else None)


def test_a_compensation_resolved_as_not_done_is_sent_under_the_same_key(tenant, script):
    place = Place("a", [], DIES(), {"undone": "a"})
    queued = queued_job(tenant, script=script(travel(place, end=refuse)))
    killed(queued.id)
    job = run(queued.id)
    resolve(job, JobStep.State.NOT_DONE, State.QUEUED)
    job = run(job.id)
    assert (job.state, job.done_effects, states(job)["a"]) == (State.FAILED, 0, "compensated")
    assert (len(place.back.calls), len(set(place.back.calls))) == (2, 1)


def test_a_provider_event_about_a_compensation_resolves_the_job_with_its_original_error(tenant, script):
    job = unknown(tenant, script, cancel)
    key = step_of(job, "a:undo").downstream_key
    word = {"source": "s", "message_id": "evt_1", "type": "charge.refunded", "key": key, "result": {"id": "re"}}
    with transaction.atomic():
        record_provider_event(ProviderEvent(job_id=job.id, **word))
    assert Job.objects.get(pk=job.id).state == State.QUEUED
    job = run(job.id)
    assert (job.state, job.done_effects, states(job)["a"]) == (State.CANCELED, 0, "compensated")


def test_a_cancel_request_survives_a_resolving_provider_event_and_is_granted(tenant, script):
    """An operator who requeues the job also decides about the cancel request; a provider only reports what happened."""
    log = []
    place = Place("a", log)
    place.forward = Downstream(ConnectionError)
    job = run(queued_job(tenant, script=script(travel(place, end=lambda _job: log.append("forward")))).id)
    cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    for _ in range(job.attempts_left + 1):
        job = run(job.id)
    assert job.state == State.UNKNOWN
    word = {"source": "s", "message_id": "evt_1", "type": "made", "key": step_of(job, "a").downstream_key}
    with transaction.atomic():
        record_provider_event(ProviderEvent(job_id=job.id, **word, result={"id": "a"}))
    assert Job.objects.get(pk=job.id).cancel_requested_at is not None
    job = run(job.id)
    assert (job.state, states(job)["a"]) == (State.CANCELED, "compensated")
    assert "forward" not in log


def test_a_compensated_job_cannot_be_resolved_as_succeeded(tenant, script):
    job = unknown(tenant, script, refuse)
    before = everything(job.id)
    with pytest.raises(CompensatedJobCannotSucceed):
        resolve(job, JobStep.State.DONE, State.SUCCEEDED)
    assert everything(job.id) == before


def test_a_result_that_is_too_large_is_compensated_as_a_permanent_failure(tenant, script, settings):
    settings.RESULT_MAX_BYTES = 100
    log = []
    place = Place("a", log)

    def perform(job):
        job.effect("a", place.call, compensate=place.compensation())
        return "x" * 100

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (log, job.state, job.done_effects) == (["a", "-a"], State.FAILED, 0)
    assert decode_payload(job.error)["cause"] == "result-too-large"


@pytest.mark.parametrize("names", [("a", "a:undo"), ("a:undo", "a"), ("a" * 96,)])
def test_a_name_too_long_for_its_compensation_is_refused_before_anything_is_sent(tenant, script, names):
    places = [Place(name, []) for name in names]

    def perform(job):
        for place in places:
            compensation = None if place.name == "a:undo" else place.compensation()
            job.effect(place.name, place.call, compensate=compensation)

    job = run(queued_job(tenant, script=script(perform)).id)
    assert job.state == State.QUEUED
    assert places[-1].forward.calls == []
