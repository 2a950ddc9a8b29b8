"""A rollout in a terminal: the view of `status` and `watch`, the lines of `run`.

Belongs here: text of at most 79 columns. Not here: where a rollout stands
(`davy.rollout.standing`), options.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime

from davy.rollout.decide import INCONCLUSIVE, Decision
from davy.rollout.plan import duration
from davy.rollout.record import DAVY
from davy.rollout.standing import Happened, IndicatorStanding, Standing
from davy.rollout.verdict import Evidence

WIDTH = 79
BAR, WEIGHT_BAR = 40, 25
# The bars of bounds run from 0.001 % to all requests, and from a hundredth to a hundredfold.
RATES, RATIOS = (1e-5, 1.0), (1e-2, 1e2)


def view(standing: Standing, now: datetime, *, news: int = 5) -> Iterator[str]:
    """Yield the lines of a rollout's view."""
    yield f"{standing.name}: {standing.canary} against {standing.against}"
    yield from _wrapped("phase    ", f"{standing.phase} ({standing.reason})")
    steps = ", ".join(
        f"[{weight}]" if number == standing.step else str(weight)
        for number, weight in enumerate(standing.steps, 1)
    )
    read = "not said by the router" if standing.weight_read is None else f"{standing.weight_read} %"
    filled = round(WEIGHT_BAR * standing.weight / 100)
    bar = "█" * filled + "·" * (WEIGHT_BAR - filled)
    yield f"weight   {bar} {standing.weight} %, read back: {read}"
    yield f"steps    {steps} %"
    yield f"looks    {_looks(standing, now)}"
    if standing.step_requests is not None and not standing.ended:
        rate = (
            "" if standing.canary_rate is None else f"{standing.canary_rate:.3g} requests a second"
        )
        wanted = f"{standing.step_requests:,} at this weight, at least {standing.min_requests}"
        yield f"canary   {rate or 'no requests counted yet'}; {wanted}"
    for item in standing.indicators:
        yield ""
        yield from _indicator(item)
    if standing.vetoes:
        yield ""
        for veto in standing.vetoes:
            yield from _wrapped("veto     ", veto)
    yield ""
    for happened in standing.happened[-news:]:
        yield from _wrapped("", told(happened), limit=2)


def _looks(standing: Standing, now: datetime) -> str:
    if standing.seen is None:
        return f"{standing.looks}"
    ago = duration(max((now - standing.seen).total_seconds(), 0.0))
    text = f"{standing.looks}, the last {ago} ago"
    if standing.started is not None and standing.deadline is not None:
        text += f"; running {duration(standing.age)} of {duration(standing.deadline)}"
    return text


def _indicator(item: IndicatorStanding) -> Iterator[str]:
    seen = "" if item.requests is None else f"  {item.events:,} in {item.requests:,} requests"
    yield f"{item.name}: {item.outcome}{seen}"
    upper = math.inf if item.ratio_upper is None else item.ratio_upper
    text = f"{item.ratio_lower:.3g} to {'∞' if math.isinf(upper) else f'{upper:.3g}'}"
    limit = "" if item.tolerable_ratio is None else f" (≤ {item.tolerable_ratio:g})"
    yield f"  ratio  {_bar(item.ratio_lower, upper, item.tolerable_ratio, RATIOS)} {text}{limit}"
    text = f"{_percent(item.rate_lower)} to {_percent(item.rate_upper)} %"
    limit = f" (≤ {_percent(item.allowance)} %)" if item.allowance else ""
    yield f"  rate   {_bar(item.rate_lower, item.rate_upper, item.allowance, RATES)} {text}{limit}"
    if item.needed is not None:
        yield f"  needs  {_needed(item)}"


def _needed(item: IndicatorStanding) -> str:
    needed = item.needed
    if needed is None or needed.requests is None:
        return "more requests than are worth waiting for, if it goes on like this"
    time = "" if needed.seconds is None else f", {duration(needed.seconds)} at this rate"
    return f"about {needed.requests:,} more canary requests{time}, then: {needed.outcome}"


def _bar(low: float, high: float, limit: float | None, ends: tuple[float, float]) -> str:
    """Return the bounds as a stretch of a logarithmic line, and the limit as a stroke on it."""

    def place(value: float) -> int:
        inside = min(max(value, ends[0]), ends[1])
        share = math.log(inside / ends[0]) / math.log(ends[1] / ends[0])
        return round(share * (BAR - 1))

    cells = ["·"] * BAR
    for index in range(place(low), place(high) + 1):
        cells[index] = "━"
    if limit:
        cells[place(limit)] = "┃"
    return "".join(cells)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _wrapped(label: str, text: str, *, limit: int = 4) -> Iterator[str]:
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=" " * 9, max_lines=limit,
        placeholder=" …",
    )  # fmt: skip
    yield from lines or [label.rstrip()]


def told(happened: Happened) -> str:
    """Return one line of the story."""
    times = f" × {happened.looks}" if happened.looks > 1 else ""
    who = "" if happened.who == DAVY else f" by {happened.who}"
    return (
        f"{happened.time:%H:%M:%S} {happened.what}{who}{times} ({happened.reason}): "
        f"{happened.message}"
    )


def row(standing: Standing) -> str:
    """Return one rollout of a list."""
    worst = ", ".join(f"{item.name} {item.outcome}" for item in standing.indicators)
    text = (
        f"{standing.name:<20} {standing.phase:<12} {standing.weight:>3} %  "
        f"{standing.canary} against {standing.against}"
    )
    return f"{text}  {worst}".rstrip()


class LookLines:
    """The lines of a running rollout: what repeats itself is counted, not repeated.

    Parameters
    ----------
    write : callable
        Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last: tuple[str, ...] = ()
        self._more = 0

    def show(self, decision: Decision) -> None:
        """Write the decision, or count it when it is the one before."""
        state = decision.state
        outcomes = ", ".join(f"{v.indicator} {v.outcome}" for v in decision.verdicts)
        kind = (decision.action, decision.reason, str(state.step), str(state.weight), outcomes)
        if decision.action == "hold" and kind == self._last:
            self._more += 1
            return
        self.close()
        self._last = kind
        what = {
            "hold": f"holds at {state.weight} %",
            "advance": f"advances to {state.weight} %",
            "promote": "promotes the canary: 100 %",
            "rollback": "rolls back: 0 %",
            "finish": f"has ended: {state.phase}",
        }[decision.action]
        self._write(f"look {state.looks}: {what} ({decision.reason}): {_said(decision)}")

    def close(self) -> None:
        """Write how often the last line was repeated."""
        if self._more:
            self._write(f"  the same at {self._more} more look{'s' if self._more > 1 else ''}")
        self._more = 0


def _said(decision: Decision) -> str:
    """Return the decision's message; bounds that move at every look are the view's affair."""
    if decision.reason != INCONCLUSIVE:
        return decision.message
    evidence = decision.state.evidence
    if not any(item.rate.requests for item in evidence.values()):
        return "no request of the canary was counted yet"
    return ", ".join(
        f"{verdict.indicator} {verdict.outcome}{_counted(evidence.get(verdict.indicator))}"
        for verdict in decision.verdicts
    )


def _counted(evidence: Evidence | None) -> str:
    if evidence is None:
        return ""
    return f" ({evidence.rate.events:,} in {evidence.rate.requests:,})"
