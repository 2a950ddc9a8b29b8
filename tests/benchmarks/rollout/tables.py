"""The tables of a day of looks.

Belongs here: what a row says. Not here: the cases (`tests.benchmarks.bench_rollout_day`), the
streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from tests.benchmarks.rollout import nodes
from tests.benchmarks.rollout.day import Day
from tests.benchmarks.rollout.figures import duration, header, median, number, row, share
from tests.benchmarks.rollout.rivals import NEVER

# A threshold for each rival and weight.
Tuned = Mapping[tuple[str, float], float]


def healthy_rows(days: Sequence[tuple[str, Day]], tuned: Tuned) -> Iterator[str]:
    """Yield the table of tolerable canaries."""
    names = [judged.name for judged in days[0][1].rivals]
    yield from header(
        [
            *("canary, traffic", "weight", "rolled back (95 %)", "any fail in the day (95 %)"),
            *("promoted", "canary requests", "time"),
            *(f"{name}: default, adjusted" for name in names),
        ]
    )
    for name, day in days:
        cells = [
            name,
            f"{day.weight:.0%}",
            share(day.rolled_back),
            share(day.fails_ever < NEVER),
            f"{day.promoted.mean():.1%}",
            number(median(day.requests_at["passed"], day.promoted)),
            duration(day.passed, day.promoted),
        ]
        for judged in day.rivals:
            default = (judged.rolls_back(judged.default) < NEVER).mean()
            adjusted = (judged.rolls_back(tuned[judged.name, day.weight]) < NEVER).mean()
            cells.append(f"{default:.1%}, {adjusted:.1%}")
        yield row(cells)


def defect_rows(
    days: Sequence[Day], tuned: Tuned, without: str, tally: list[bool], *, strict: bool
) -> Iterator[str]:
    """Yield a table of canaries that are worse.

    `tally` takes whether Davy was soonest; `strict` is Davy that tolerates no ratio above 1;
    `without` names the rival that is asked another question.
    """
    rivals = [judged.name for judged in days[0].rivals if judged.name != without]
    own_head = ["rolled back", "canary requests", "time"]
    if not strict:
        own_head[1:1] = ["promoted", "undecided"]
    yield from header(
        ["defect", "weight", *own_head, *(f"{name}: rolled back, requests" for name in rivals)]
    )
    for day in days:
        look = day.fails_strict if strict else day.failed
        back = look < NEVER if strict else day.rolled_back
        own = median(day.requests_at["strict" if strict else "failed"], back)
        cells = [day.defect.name, f"{day.weight:.0%}", f"{back.mean():.1%}"]
        if not strict:
            undecided = ~back & ~day.promoted
            cells += [f"{day.promoted.mean():.1%}", f"{undecided.mean():.1%}"]
        cells += [number(own), duration(look, back)]
        soonest = True
        for judged in day.rivals:
            if judged.name == without:
                continue
            minute = judged.rolls_back(tuned[judged.name, day.weight])
            found = minute < NEVER
            theirs = median(day.requests_until(minute), found)
            better = found.mean() > back.mean() + 0.02 or (
                found.mean() >= back.mean() - 0.02 and theirs < own
            )
            soonest = soonest and not better
            text = f"{found.mean():.1%}, {number(theirs)}"
            cells.append(f"**{text}**" if better else text)
        tally.append(soonest)
        yield row(cells)


def default_rows(days: Sequence[Day]) -> Iterator[str]:
    """Yield what the others do by default: rolled back first, promoted first."""
    names = [judged.name for judged in days[0].rivals]
    yield from header(["canary", "weight", "Davy", *names])
    for day in days:
        cells = [day.defect.name, f"{day.weight:.0%}"]
        cells.append(f"{day.rolled_back.mean():.1%}, {day.promoted.mean():.1%}")
        for judged in day.rivals:
            back = judged.rolls_back(judged.default)
            if judged.promotes is None:
                cells.append(f"{(back < NEVER).mean():.1%}, –")
            else:
                first = (back <= judged.promotes) & (back < NEVER)
                promoted = (judged.promotes < NEVER) & ~first
                cells.append(f"{first.mean():.1%}, {promoted.mean():.1%}")
        yield row(cells)


def node_rows(runs: int) -> Iterator[str]:
    """Yield the table of pods that are not alike."""
    head = ["canary"] + [
        f"{pods} pod{'s' * (pods > 1)}: each fail believed, as it is" for pods in (1, 2, 4)
    ]
    yield from header(head)
    for index, effect in enumerate(nodes.EFFECTS):
        cells = [effect.name]
        for pods in (1, 2, 4):
            rng = np.random.default_rng([2017, 4, index, pods])
            found = nodes.run(effect, pods, 0.10, runs, rng)
            parts = []
            for look in (found.believing, found.robust):
                back = look < NEVER
                text = f"{back.mean():.1%}"
                if effect.model > 1 and back.any():
                    n = (np.median(look[back]) + 1) * found.requests_a_look
                    text += f" after {n:,.0f}"
                parts.append(text)
            cells.append(", ".join(parts))
        yield row(cells)
