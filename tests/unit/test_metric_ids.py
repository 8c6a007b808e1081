"""Ids of processes that share a folder of metrics: unique among the living, and taken over from the dead."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager

import pytest

from observability.metrics.multiprocess_ids import ProcessIds, open_folder

FORK = multiprocessing.get_context("fork")


@contextmanager
def process(ids, *, fresh=True):
    """Start a process that has an id of the folder until it is killed; return the id and a function that kills it."""
    ours, theirs = FORK.Pipe()

    def hold():
        held = ProcessIds(ids.folder) if fresh else ids
        theirs.send(held.own())
        signal.pause()

    one = FORK.Process(target=hold)
    one.start()

    def kill():
        one.kill()
        one.join()

    try:
        yield ours.recv(), kill
    finally:
        kill()


@pytest.fixture
def ids(tmp_path):
    ids = ProcessIds(tmp_path / "metrics")
    yield ids
    ids._release()


def test_a_process_keeps_its_id(ids):
    assert ids.own() == ids.own() == "0"


def test_no_two_living_processes_have_the_same_id(ids):
    with process(ids) as (first, _), process(ids) as (second, _):
        assert {ids.own(), first, second} == {"0", "1", "2"}


def test_the_next_process_takes_over_the_id_of_a_killed_one(ids):
    ids.own()
    with process(ids) as (first, kill), process(ids) as (second, _):
        kill()
        with process(ids) as (third, _):
            assert (first, second, third) == ("1", "2", "1")


def test_a_forked_child_takes_its_own_id_and_its_parent_keeps_its_own(ids):
    own = ids.own()
    with process(ids, fresh=False) as (of_child, _):
        assert of_child != own
    assert ids.is_alive(own)
    with process(ids) as (other, _):
        assert other != own


def test_a_killed_process_is_known_to_be_dead(ids):
    with process(ids) as (process_id, kill):
        assert ids.is_alive(process_id)
        kill()
        assert not ids.is_alive(process_id)
    assert not ids.is_alive("99")


def test_a_successor_keeps_counters_and_drops_gauges_of_living_processes(ids):
    for name in ("counter_0.db", "gauge_max_0.db", "gauge_livesum_0.db", "gauge_livesum_1.db"):
        (ids.folder / name).touch()
    assert ids.own() == "0"
    left = {file.name for file in ids.folder.glob("*.db")}
    assert left == {"counter_0.db", "gauge_max_0.db", "gauge_livesum_1.db"}


def test_a_process_starts_without_a_usable_folder(tmp_path):
    (tmp_path / "file").touch()
    assert open_folder(str(tmp_path / "file")) is None
    assert open_folder("") is None
