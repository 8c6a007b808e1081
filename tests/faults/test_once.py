"""One logical request takes effect once (I1), and every answer to it is the same (I3): counted at the provider."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import httpx2
import pytest

from jobs.models import Violation
from jobs.selfaudit import run_once
from tests.support.stack import POLL_SECONDS, running_stack, unless_in_progress
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 16
# How many charges of each kind.
MIX = {
    "tok_visa": 130,
    "tok_declined": 20,
    "tok_slow": 10,
    "tok_500_then_ok": 15,
    "tok_429_then_ok": 8,
    "tok_cut": 15,
    "tok_timeout_after_charge": 2,
}


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    with (
        django_db_blocker.unblock(),
        # Audited all the while: what is merely under way is no violation.
        running_stack(
            folder,
            "--slow-seconds",
            "0.3",
            PAYMENT_PROVIDER_TIMEOUT_SECONDS="3",
            SELFAUDIT_SECONDS="1",
            API_WORKERS="2",
            LOG_LEVEL="INFO",
        ) as stack,
    ):
        stack.start_workers("worker", "maintenance", "beat")
        stack.start_api()
        yield stack


def charges_of(stack, job):
    """How often the provider charged for the job."""
    return len(stack.provider.charges(f"semel-{job['id']}-charge-1"))


def test_fifty_concurrent_requests_with_one_key_are_one_job_and_one_charge(stack, caller):
    start = Barrier(50)

    def ask(_number):
        start.wait()
        return caller.charge("one-key")

    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(ask, range(50)))
    kept = [answer for answer in answers if answer.status_code == 202]
    # Duplicates beyond the few that may wait get 409 and retry; then they get the same response.
    for answer in answers:
        if answer.status_code != 202:
            assert answer.json()["code"] == "idempotency-request-in-progress"
            assert int(answer.headers["Retry-After"]) >= 1
            kept.append(caller.charge("one-key"))
    assert {answer.status_code for answer in kept} == {202}
    assert len({answer.content for answer in kept}) == 1
    assert Counter(answer.headers["Idempotency-Replayed"] for answer in kept) == {"false": 1, "true": 49}
    [job] = caller.when_ended(1, seconds=60, stack=stack)
    assert job["state"] == "succeeded"
    assert charges_of(stack, job) == 1
    assert [effect["state"] for effect in job["effects"]] == ["done"]


def test_two_hundred_charges_with_retries_and_lost_answers_are_each_made_once(stack, caller):
    sources = random.sample([source for source, count in MIX.items() for _ in range(count)], sum(MIX.values()))

    def charge_until_answered(numbered):
        """What a client with a bad network does: some answers never reach it, and it asks again."""
        number, source = numbered
        chance = random.Random(number)
        ask = partial(caller.charge, f"order-{number}", source, amount=100 + number)
        answers = []
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            if chance.random() < 0.2:
                give_up_on(caller, f"order-{number}", source, amount=100 + number)
            answers.append(until(lambda: unless_in_progress(ask()), pause_seconds=POLL_SECONDS))
        return answers

    with ThreadPoolExecutor(CLIENTS) as clients:
        responses = list(clients.map(charge_until_answered, enumerate(sources)))
    for answers in responses:
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
    # Some of the unread responses were to first requests.
    assert any(answers[0].headers["Idempotency-Replayed"] == "true" for answers in responses)
    jobs = caller.when_ended(len(sources), seconds=90, stack=stack)
    assert len(jobs) == len(sources)
    assert {job["id"] for job in jobs} == {answers[0].json()["id"] for answers in responses}
    for job in jobs:
        declined = job["params"]["source"] == "tok_declined"
        assert job["state"] == ("failed" if declined else "succeeded"), job
        assert charges_of(stack, job) == (0 if declined else 1), job
        if declined:
            assert job["error"]["code"] == "operation-failed"
            assert job["error"]["cause"] == "card_declined"
        else:
            assert job["result"]["amount"] == job["params"]["amount"]
    charged = [charge["amount"] for charge in stack.provider.charges()]
    expected = [100 + number for number, source in enumerate(sources) if source != "tok_declined"]
    assert Counter(amount for amount in charged if amount != 1999) == Counter(expected)
    assert stack.running["maintenance"].log.read_text().count('"event": "selfaudit"') > 1
    assert not Violation.objects.exists()
    assert run_once(window=timedelta(hours=1)).jobs == len(sources)
    assert not Violation.objects.exists()


def give_up_on(caller, key, source, *, amount):
    """Send a request and close the connection at once, or a little later, without reading the response."""
    body = {"operation": "payments.charge", "params": {"amount": amount, "currency": "usd", "source": source}}
    request = caller.http.build_request("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
    try:
        with httpx2.Client(trust_env=False, timeout=httpx2.Timeout(10, read=0.001)) as impatient:
            impatient.send(request)
    except httpx2.TimeoutException:
        pass
