"""Requests to one model that are there at the same time: checked, executed and counted as one.

Belongs here: which of them can be one, and what each of them gets.
Not here: what a request alone goes through (`davy.predictor.plane`), who waits for the worker
thread (`davy.predictor.batcher`).

To compare eight rows with their bounds takes as long as to compare one, and so does to execute
them. Where anything is wrong with the whole, each is looked at alone, which says whose it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from davy.predictor.batcher import Batcher
from davy.predictor.plane import DataPlane
from davy.predictor.work import Work, group, put_together, take_apart
from davy.protocol.v2 import InferRequest, InferResponse

Result = InferResponse | Work | Exception


def answer_together(
    plane: DataPlane, batcher: Batcher, requests: Sequence[InferRequest], read: float
) -> list[Result]:
    """Answer what is short at once, together where that may be.

    Parameters
    ----------
    plane : DataPlane
        The model that all of them ask.
    batcher : Batcher
        Executes.
    requests : sequence of InferRequest
        As decoded.
    read : float
        When the event loop had read them, on the monotonic clock.

    Returns
    -------
    list
        Of each its answer, what it raised, or the work that has to wait (`Batcher.run`).
    """
    # Values are held against the contract for all at once, where bounds are all there is to it.
    later = len(requests) > 1 and plane.policy.bounds_only
    works: list[Work | Exception] = []
    for request in requests:
        try:
            works.append(plane.outline(request) if later else plane.prepare(request))
        except Exception as error:
            works.append(error)
    results: list[Result | None] = [None] * len(requests)
    for places in _alike(works, batcher):
        members = [requests[place] for place in places]
        parts = [work for place in places if isinstance(work := works[place], Work)]
        answers = _as_one(plane, batcher, members, parts, read, unchecked=later)
        if answers is not None:
            for place, answer in zip(places, answers, strict=True):
                results[place] = answer
    return [
        result or _alone(plane, batcher, request, None if later else work, read)
        for request, work, result in zip(requests, works, results, strict=True)
    ]


def _alike(works: Sequence[Work | Exception], batcher: Batcher) -> list[list[int]]:
    """Return the places of works, those together that may be executed as one."""
    found: list[list[int]] = []
    begun: dict[object, tuple[list[int], int]] = {}
    for place, work in enumerate(works):
        if isinstance(work, Exception):
            continue
        # Of an answer for all, each gets its rows of all that is in it.
        key = (group(work), work.outputs)
        if key[0] is None:
            continue
        places, rows = begun.get(key, ([], 0))
        if places and batcher.is_short(work, rows + work.rows):
            places.append(place)
            begun[key] = places, rows + work.rows
        elif batcher.is_short(work, work.rows):
            begun[key] = [place], work.rows
            found.append(begun[key][0])
    return [places for places in found if len(places) > 1]


def _as_one(
    plane: DataPlane,
    batcher: Batcher,
    requests: Sequence[InferRequest],
    works: Sequence[Work],
    read: float,
    *,
    unchecked: bool,
) -> list[InferResponse | Exception] | None:
    """Return the answers, or what was raised; None when something is wrong with one of them."""
    whole = put_together(works)
    if unchecked and plane.policy.suspects(whole.feed):
        return None
    try:
        tensors = batcher.at_once(whole, read, requests=len(works))
        parts = take_apart(tensors, works)
    except Exception:
        return None
    counted = plane.count_together(tensors, whole.rows)
    answers: list[InferResponse | Exception] = []
    for request, work, part in zip(requests, works, parts, strict=True):
        try:
            answers.append(plane.respond(request, work.rows, part, counted=counted))
        except Exception as error:
            # It was executed and counted: not once more.
            answers.append(error)
    return answers


def _alone(
    plane: DataPlane,
    batcher: Batcher,
    request: InferRequest,
    work: Work | Exception | None,
    read: float,
) -> Result:
    try:
        if work is None:
            work = plane.prepare(request)
        if isinstance(work, Exception) or not batcher.is_short(work, work.rows):
            return work
        return plane.respond(request, work.rows, batcher.at_once(work, read))
    except Exception as error:
        return error
