"""The publisher sends hints and wake-ups from a thread of its own: callers never wait, and a queue stays short."""

from __future__ import annotations

import json
import os
from uuid import uuid4

import pytest
import redis

from broker.circuit_breaker import redis_breaker
from broker.hints import DueJob
from broker.publisher import Publisher, publisher
from broker.wakeups import JobChange
from tests.support.broker_proxy import BrokerProxy
from tests.support.waiting import until


@pytest.fixture
def broker(settings):
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def queue():
    return f"test-{uuid4()}"


@pytest.fixture
def proxy(settings):
    proxy = BrokerProxy(settings.REDIS_URL)
    settings.REDIS_URL = proxy.url
    yield proxy
    proxy.refuse()


def hints(queue, count):
    return [DueJob(uuid4(), queue) for _ in range(count)]


def publish(*due):
    """Publish hints that gather before the publisher takes any."""
    with publisher._changed:
        for job in due:
            publisher.publish_hint(job)
    assert publisher.flush(seconds=20.0)


def ids(broker, queue):
    """Return the ids of the waiting hints, the oldest first."""
    return [json.loads(message)["headers"]["id"] for message in reversed(broker.lrange(queue, 0, -1))]


def test_what_has_gathered_is_sent_in_one_round_trip(broker, queue, settings):
    other = f"{queue}-other"
    due = [*hints(queue, 3), *hints(other, 2)]
    publish(*hints(queue, 1))  # the server knows the script now
    change = JobChange(uuid4(), 7)
    with broker.monitor() as seen:
        with publisher._changed:
            publisher.wake_waiters(change)
            for job in due:
                publisher.publish_hint(job)
        assert publisher.flush(seconds=20.0)
        broker.echo("end")
        commands = []
        while (command := seen.next_command())["command"] != "ECHO end":
            commands.append(command)
    # Other tests use the same server.
    sent = [command for command in commands if command["client_type"] != "lua"]
    ours = [command for command in sent if queue in command["command"] or str(change.id) in command["command"]]
    assert [command["command"].split()[0] for command in ours] == ["EVALSHA", "EVALSHA", "PUBLISH"]
    assert len({command["client_port"] for command in ours}) == 1
    assert ids(broker, queue)[1:] == [str(job.id) for job in due[:3]]
    assert ids(broker, other) == [str(job.id) for job in due[3:]]


def test_a_queue_is_filled_only_up_to_its_limit(broker, queue, settings):
    settings.HINTS_MAX = 10
    due = hints(queue, 25)
    for job in due:
        publish(job)
    assert ids(broker, queue) == [str(job.id) for job in due[:10]]
    broker.rpop(queue, 3)
    publish(*hints(queue, 9))
    assert broker.llen(queue) == 10


def test_the_buffer_of_a_queue_holds_no_more_than_the_queue_itself(broker, queue, settings):
    settings.HINTS_MAX = 10
    with publisher._changed:
        for job in hints(queue, 1_000):
            publisher.publish_hint(job)
        assert len(publisher._hints[queue]) == 10
    assert publisher.flush(seconds=20.0)
    assert broker.llen(queue) == 10


def test_a_server_that_forgot_the_script_gets_it_again(broker, queue):
    publish(*hints(queue, 1))
    broker.script_flush()
    publish(*hints(queue, 2))
    assert broker.llen(queue) == 3


def test_a_foreign_value_under_a_queue_raises_nothing(broker, queue):
    broker.set(queue, "x")
    publish(*hints(queue, 1))
    broker.delete(queue)
    redis_breaker.succeeded()
    publish(*hints(queue, 1))
    assert broker.llen(queue) == 1


@pytest.mark.parametrize("way", ["refuse", "fall_silent"])
def test_a_caller_does_not_wait_for_a_broken_broker(proxy, queue, way, settings):
    settings.PUBLISH_BUDGET_SECONDS = settings.PUBLISH_CONNECT_SECONDS = 3600.0
    getattr(proxy, way)()
    tried = proxy.accepted
    # A caller that waited for the answer would wait for ever.
    for _ in range(3):
        publisher.publish_hint(DueJob(uuid4(), queue))
        publisher.wake_waiters(JobChange(uuid4(), 1))
    if way == "fall_silent":
        until(lambda: proxy.accepted > tried)
    proxy.come_back()


def test_a_hint_of_a_job_that_is_due_later_is_sent_when_it_is_due(broker, queue):
    later, soon = (DueJob(uuid4(), queue, in_seconds) for in_seconds in (3600.0, 0.01))
    publish(later, soon)
    until(lambda: ids(broker, queue) == [str(soon.id)])


def test_more_later_hints_than_fit_do_not_grow_the_buffer(queue, monkeypatch):
    monkeypatch.setattr("broker.publisher._LATER_MAX", 3)
    own = Publisher()
    for _ in range(5):
        own.publish_hint(DueJob(uuid4(), queue, 3600.0))
    assert len(own._later) == 3
    assert own.flush(seconds=20.0)


def test_a_forked_process_sends_with_a_thread_of_its_own_and_nothing_of_its_parent(broker, queue):
    with publisher._changed:  # the parent sends it after the fork
        publisher.publish_hint(DueJob(uuid4(), queue))
        child = os.fork()
        if child == 0:
            publisher.publish_hint(DueJob(uuid4(), queue))
            os._exit(0 if publisher.flush(seconds=20.0) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert publisher.flush(seconds=20.0)
    assert broker.llen(queue) == 2


def test_more_changes_than_fit_do_not_grow_the_buffer(monkeypatch):
    monkeypatch.setattr("broker.publisher._WAKEUPS_MAX", 3)
    changes = [JobChange(uuid4(), number) for number in range(5)]
    with publisher._changed:
        for change in changes:
            publisher.wake_waiters(change)
        assert list(publisher._wakeups) == [change.id for change in changes[:3]]


def test_an_error_of_ours_does_not_end_the_thread(broker, queue, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("broker.publisher._send", lambda *_args, **_values: 1 / 0)
        publish(*hints(queue, 1))
    publish(*hints(queue, 1))
    assert broker.llen(queue) == 1


def test_a_flush_that_takes_too_long_is_reported():
    held = Publisher()
    held._is_sending = True
    assert not held.flush(seconds=0.0)
    held._is_sending = False
    assert held.flush(seconds=0.0)
