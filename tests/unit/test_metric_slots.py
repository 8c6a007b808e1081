"""Processes that share a folder for their figures: no two living ones share a number, and a dead one's is taken over."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager

import pytest

from observability.metrics.multiprocess_ids import Slots, take_place

FORK = multiprocessing.get_context("fork")


@contextmanager
def process(slots, *, fresh=True):
    """A process that holds a number of the folder until it is killed: (its number, kill)."""
    ours, theirs = FORK.Pipe()

    def hold():
        mine = Slots(slots.folder) if fresh else slots
        theirs.send(mine.mine())
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
def slots(tmp_path):
    slots = Slots(tmp_path / "figures")
    yield slots
    slots._forget()


def test_a_process_keeps_its_number(slots):
    assert slots.mine() == slots.mine() == "0"


def test_no_two_living_processes_have_the_same_number(slots):
    with process(slots) as (first, _), process(slots) as (second, _):
        assert {slots.mine(), first, second} == {"0", "1", "2"}


def test_the_next_process_takes_over_the_number_of_one_that_was_killed(slots):
    slots.mine()
    with process(slots) as (first, kill), process(slots) as (second, _):
        kill()
        with process(slots) as (third, _):
            assert (first, second, third) == ("1", "2", "1")


def test_a_forked_child_has_a_number_of_its_own_and_leaves_its_parents_alone(slots):
    mine = slots.mine()
    with process(slots, fresh=False) as (childs, _):
        assert childs != mine
    assert slots.is_held(mine)
    with process(slots) as (stranger, _):
        assert stranger != mine


def test_whether_a_process_lives_is_known_whatever_its_end(slots):
    with process(slots) as (number, kill):
        assert slots.is_held(number)
        kill()
        assert not slots.is_held(number)
    assert not slots.is_held("99")


def test_a_successor_goes_on_with_counters_and_not_with_what_was_true_of_the_living(slots):
    for name in ("counter_0.db", "gauge_max_0.db", "gauge_livesum_0.db", "gauge_livesum_1.db"):
        (slots.folder / name).touch()
    assert slots.mine() == "0"
    left = {file.name for file in slots.folder.glob("*.db")}
    assert left == {"counter_0.db", "gauge_max_0.db", "gauge_livesum_1.db"}


def test_a_folder_that_cannot_be_used_costs_the_figures_and_not_the_service(tmp_path):
    (tmp_path / "file").touch()
    assert take_place(str(tmp_path / "file")) is None
    assert take_place("") is None
