"""A record as sentences and a small picture: what the person on call reads first.

Belongs here: text made from a record. Not here: recomputing it (`davy.rollout.replay`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from davy.rollout.decide import INCONCLUSIVE, INDICATOR_FAILED, STARTED
from davy.rollout.record import DAVY, Header, LookLine, Record, VerdictLine
from davy.rollout.replay import Replay
from davy.rollout.standing import episodes, what
from davy.rollout.verdict import Criterion

WIDTH = 60
_BARS = "▁▂▃▄▅▆▇█"
# A picture of ratios runs from a tenth to tenfold, on a logarithmic scale.
_DECADES = 1.0


def explain(record: Record, replayed: Replay | None = None) -> str:
    """Return the whole explanation, lines ended by a line feed.

    Parameters
    ----------
    record : Record
        What is explained.
    replayed : Replay, optional
        Its replay: a record whose decisions do not follow from it is not told as if they did.
    """
    parts = (*_checked(record, replayed), *_heading(record), "", *_story(record), "")
    return "\n".join((*parts, *_picture(record))) + "\n"


def _checked(record: Record, replayed: Replay | None) -> Iterator[str]:
    if replayed is None:
        return
    if replayed.difference is None:
        yield f"Replayed: all {len(record.looks)} decisions follow from the record; {record.chain}"
        return
    yield f"WARNING: THIS RECORD DOES NOT REPLAY: {replayed.difference}"
    yield "It was changed, or decided by another version of Davy. What follows is what it says:"


def _heading(record: Record) -> Iterator[str]:
    header, spec = record.header, record.spec()
    weights = ", ".join(f"{step.weight} %" for step in spec.steps)
    yield f"Rollout {header.rollout}: {header.canary} against {header.arms().reference}"
    if header.baseline:
        yield "That is a fresh copy of the stable version, with the canary's share of the traffic"
    yield f"Steps {weights}; a look every {spec.analysis.interval.total_seconds():g} s"
    if spec.shadow is not None:
        yield (
            f"Before the first weight: {spec.shadow.requests} answers compared with those served, "
            f"the same within {spec.shadow.tolerance:g}"
        )
        for item in spec.shadow_criteria():
            yield f"  {item.name}: tolerable up to {item.allowance:.3%} of requests"
    whose = "baseline's" if header.baseline else "stable"
    for criterion in spec.criteria():
        yield (
            f"  {criterion.name}: tolerable up to {criterion.ratio:g} times the {whose} rate"
            f"{_allowance(criterion)}"
        )
    if not spec.criteria():
        yield "No indicator is judged: a person decides"
    else:
        yield (
            f"Promise over all looks: a tolerable canary is rolled back with chance at most "
            f"{spec.analysis.false_rollback:g}, an intolerable one promoted with at most "
            f"{spec.analysis.false_promotion:g}"
        )
    if record.cut_bytes:
        yield f"The last line was cut off by a crash ({record.cut_bytes} bytes); not counted"


def _allowance(criterion: Criterion) -> str:
    return f", or up to {criterion.allowance:.3%} of requests" if criterion.allowance else ""


def _story(record: Record) -> Iterator[str]:
    if not record.looks:
        yield "No look was taken yet"
        return
    start = record.looks[0].time
    # Looks that say the same follow each other by the hundred: one sentence for each such run.
    for episode in episodes(record.looks):
        first, last = episode.first, episode.last
        seconds = (first.time - start).total_seconds()
        span = f"look {first.look}" + (f"–{last.look}" if episode.looks > 1 else "")
        yield f"{seconds:8.1f} s  {span:<12} {_sentence(last, record.header)}"
        if (
            last.decision.action in {"rollback", "promote", "advance"}
            and last.decision.reason != STARTED
        ):
            for verdict in last.verdicts:
                yield f"{'':25}{verdict.indicator}: {verdict.outcome}: {verdict.reason}"


def _sentence(look: LookLine, header: Header) -> str:
    decision = look.decision
    if look.actor != DAVY:
        to = header.canary if decision.weight else header.stable
        return f"{look.actor} sent all traffic to {to}: {decision.message}"
    done = what(look)
    return f"{done[0].upper()}{done[1:]} ({decision.reason}): {_message(look)}"


def _message(look: LookLine) -> str:
    """Return the decision's message; the verdicts of a look that acted follow on their own."""
    if look.decision.action == "promote":
        return "all indicators pass at the last step"
    if look.decision.reason == INDICATOR_FAILED:
        return f"{', '.join(v.indicator for v in look.verdicts if v.outcome == 'fail')} failed"
    if look.decision.reason == INCONCLUSIVE and not any(_requests(look)):
        return "no request of the canary was counted yet"
    return look.decision.message


def _requests(look: LookLine) -> Iterator[bool]:
    for verdict in look.verdicts:
        # Nothing was seen: the bounds are those before the first request.
        yield (verdict.rate_lower, verdict.rate_upper) != (0.0, 1.0)


def _picture(record: Record) -> Iterator[str]:
    looks = _thinned(record.looks)
    if not looks:
        return
    yield f"weight        {_line([look.decision.weight / 100 for look in looks])}  0 to 100 %"
    for name in [verdict.indicator for verdict in looks[-1].verdicts]:
        chosen = [_of(look, name) for look in looks]
        last = chosen[-1]
        upper = "∞" if last.ratio_upper is None else f"{last.ratio_upper:.3g}"
        if not last.ratio_lower and last.ratio_upper is None:
            # Without an event a ratio says nothing: then the canary's own rate decides.
            bars = _line([_rate_height(verdict.rate_upper) for verdict in chosen])
            yield f"{name + ' rate':<13} {bars}  upper bound, 0.01 % to 100 %"
            yield f"{'':14}now {last.outcome}: at most {last.rate_upper:.3%} of requests"
            continue
        for label, value in (("lower", _lower), ("upper", _upper)):
            bars = _line([_ratio_height(value(verdict)) for verdict in chosen])
            yield f"{name + ' ' + label:<13} {bars}  ratio, 0.1 to 10"
        yield f"{'':14}now {last.outcome}: ratio {last.ratio_lower:.3g} to {upper}"


def _of(look: LookLine, name: str) -> VerdictLine:
    return next(verdict for verdict in look.verdicts if verdict.indicator == name)


def _lower(verdict: VerdictLine) -> float:
    return verdict.ratio_lower


def _upper(verdict: VerdictLine) -> float:
    return math.inf if verdict.ratio_upper is None else verdict.ratio_upper


def _ratio_height(ratio: float) -> float:
    if ratio <= 0:
        return 0.0
    if math.isinf(ratio):
        return 1.0
    return min(max((math.log10(ratio) + _DECADES) / (2 * _DECADES), 0.0), 1.0)


def _rate_height(rate: float) -> float:
    return min(max((math.log10(max(rate, 1e-9)) + 4) / 4, 0.0), 1.0)


def _line(heights: Sequence[float]) -> str:
    return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _thinned(looks: Sequence[LookLine]) -> list[LookLine]:
    if len(looks) <= WIDTH:
        return list(looks)
    return [looks[round(i * (len(looks) - 1) / (WIDTH - 1))] for i in range(WIDTH)]
