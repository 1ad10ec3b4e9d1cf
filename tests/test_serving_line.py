"""The line of waiting jobs: bounded, fair between settings, and honest to those who wait when it closes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from r2gengpt.config import DecodeConfig
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.jobs import Job, Queue, new_future

GREEDY, BEAMS = (DecodeConfig(beam_size=size, min_new_tokens=0, max_new_tokens=9) for size in (1, 3))


def job(decode: DecodeConfig) -> Job:
    return Job(np.zeros((1, 3, 4, 4), np.float32), None, decode)


def line_of(*jobs: Job, share: int = 2) -> Queue:
    line = Queue(len(jobs) or 1, share)
    for one in jobs:
        line.put(one)
    return line


def status_of(one: Job) -> int:
    error = one.future.exception(0)
    assert isinstance(error, ApiError)
    return error.status


def test_jobs_of_the_runs_settings_join_it_in_their_order_and_seeds_do_not_part_them() -> None:
    first, other, second = job(BEAMS), job(GREEDY), job(DecodeConfig(**{**vars(BEAMS), "decode_seed": 7}))
    line = line_of(first, other, second)
    assert line.first() is first
    assert line.next_of(first, 1) is second
    assert line.next_of(first, 1) is None
    assert line.first() is other


def test_while_others_wait_a_run_takes_no_more_than_its_share() -> None:
    """Without the share, jobs of one setting that keep coming would let the others wait for ever."""
    jobs = [job(GREEDY) for _ in range(4)]
    line = line_of(*jobs, job(BEAMS), share=3)
    assert line.first() is jobs[0]
    assert line.next_of(jobs[0], 1) is jobs[1]
    assert line.next_of(jobs[0], 2) is jobs[2]
    assert line.next_of(jobs[0], 3) is None


def test_while_nobody_else_waits_a_run_goes_on() -> None:
    jobs = [job(GREEDY) for _ in range(4)]
    line = line_of(*jobs, share=1)
    assert [line.first(), *(line.next_of(jobs[0], taken) for taken in (1, 2, 3))] == jobs


@pytest.mark.parametrize("more", [{"evidence": True}, {"likeliest": 3}])
def test_a_run_whose_answers_come_at_its_end_ends_after_its_share_whoever_waits(more: dict[str, Any]) -> None:
    """Jobs that keep coming would else keep back the answers of all that are written."""
    jobs = [replace(job(GREEDY), future=new_future(), **more) for _ in range(3)]
    line = line_of(*jobs, share=2)
    assert [line.first(), line.next_of(jobs[0], 1), line.next_of(jobs[0], 2)] == [*jobs[:2], None]
    assert line.first() is jobs[2]


def test_a_dropped_job_is_neither_waiting_nor_wanted() -> None:
    gone, there = job(GREEDY), job(GREEDY)
    line = line_of(gone, there)
    line.drop(gone)
    assert (gone.unwanted, line.waiting) == (True, 1)
    assert line.first() is there
    line.drop(there)
    assert there.unwanted


def test_a_closed_line_tells_all_who_wait_and_who_come() -> None:
    waiting = [job(GREEDY), job(BEAMS)]
    line = line_of(*waiting)
    line.close("closed")
    assert [status_of(one) for one in waiting] == [503, 503]
    assert line.first() is None
    for ask in (line.take_place, lambda: line.put(job(GREEDY))):
        with pytest.raises(ApiError, match="closed") as refusal:
            ask()
        assert (refusal.value.status, "Retry-After" in refusal.value.headers) == (503, True)
