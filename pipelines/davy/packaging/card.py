"""What the model card says: the contract, in sentences and tables for a person.

Belongs here: choosing and wording the content. Not here: Markdown and HTML (`card_render`).

Every figure comes from the contract, so that a card cannot say more than was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from davy.packaging.contract import (
    CompressionCandidate,
    Contract,
    FeatureNull,
    Interval,
    Metric,
    Range,
    TensorSpec,
)

# Below this many units a segment's figure is said to be uncertain.
FEW = 100


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headers; ``mark`` is the index of the row to stand out, or -1."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    mark: int = -1


@dataclass(frozen=True, slots=True)
class Bar:
    """One measured value of a plot, with its interval."""

    label: str
    interval: Interval
    own: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A title with, in this order, sentences, a plot, tables and a list."""

    title: str
    sentences: tuple[str, ...] = ()
    plot: tuple[Bar, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[str, ...] = field(default=())


def sections(contract: Contract) -> tuple[Section, ...]:
    """Return the card's sections in the order in which they are read."""
    return (
        _summary(contract),
        _quality(contract),
        _data(contract),
        _inputs(contract),
        _compression(contract),
        _calibration(contract),
        _outliers(contract),
        _rollout(contract),
        Section("Limits", points=tuple(_limits(contract))),
    )


def figure(value: float) -> str:
    """Return a number with four significant digits, thousands apart."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def size(count: int) -> str:
    """Return a number of bytes in kB or MB (powers of ten)."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def between(interval: Interval, scale: float = 1.0) -> str:
    """Return ``value [lower, upper]``."""
    low, high = figure(interval.lower * scale), figure(interval.upper * scale)
    return f"{figure(interval.value * scale)} [{low}, {high}]"


def _summary(contract: Contract) -> Section:
    rows = [
        ("Task", f"{contract.task} ({contract.kind})"),
        ("Model", _model(contract)),
        ("Made", f"{contract.created:%Y-%m-%d %H:%M %Z}".strip()),
        ("Parent", contract.lineage.parent or "none"),
        ("Pipeline run", contract.lineage.pipeline_run or "not recorded"),
    ]
    return Section("Summary", tables=(Table(("", ""), tuple(rows)),))


def _model(contract: Contract) -> str:
    """Return the chosen candidate and its precision, once where they are one word."""
    words = (contract.compression.chosen, contract.quantization)
    return ", ".join(dict.fromkeys(word for word in words if word))


def _data(contract: Contract) -> Section:
    training = contract.training
    hidden = ", ".join(contract.privacy.pseudonymised) or "nothing"
    libraries = ", ".join(f"{name} {number}" for name, number in sorted(training.libraries.items()))
    rows = (
        ("Rows", f"{training.rows:,}"),
        ("From", f"{training.start:%Y-%m-%d}"),
        ("To", f"{training.end:%Y-%m-%d}"),
        ("Fingerprint", training.data_fingerprint),
        ("Pseudonymised", hidden),
        ("Code", training.code_version),
        ("Seed", str(training.seed)),
        ("Libraries", libraries or "not recorded"),
    )
    return Section("Data and training", tables=(Table(("", ""), rows),))


def _quality(contract: Contract) -> Section:
    sentences, tables, plot = [], [], []
    for metric in contract.metrics:
        rivals = {
            name: rival for name, rival in contract.baselines.items() if rival.name == metric.name
        }
        sentences.append(_verdict(metric, rivals))
        rows = [("this model", between(metric.overall), figure(metric.overall.n))]
        rows += [
            (name, between(rival.overall), figure(rival.overall.n))
            for name, rival in rivals.items()
        ]
        level = f"{metric.overall.level:.0%} interval"
        tables.append(Table((metric.name, level, "n"), tuple(rows), mark=0))
        plot += [Bar(f"{metric.name}: this model", metric.overall, own=True)]
        plot += [Bar(name, rival.overall, own=False) for name, rival in rivals.items()]
        if metric.segments:
            tables.append(_segments(metric, rivals))
    return Section("Quality on held-out data", tuple(sentences), tuple(plot), tuple(tables))


def _segments(metric: Metric, rivals: dict[str, Metric]) -> Table:
    rows = []
    for segment, interval in sorted(metric.segments.items()):
        others = [
            figure(rival.segments[segment].value) if segment in rival.segments else "not measured"
            for rival in rivals.values()
        ]
        rows.append((segment, between(interval), figure(interval.n), *others))
    return Table((f"{metric.name} by segment", "this model", "n", *rivals), tuple(rows))


def _verdict(metric: Metric, rivals: dict[str, Metric]) -> str:
    if not rivals:
        return f"{metric.name} is {between(metric.overall)}; no baseline was measured."
    best = max(rivals, key=lambda name: rivals[name].overall.value)
    gap = metric.overall.value - rivals[best].overall.value
    word = "above" if gap > 0 else "not above"
    sentence = (
        f"{metric.name} is {between(metric.overall)}: {word} the best baseline, {best} with "
        f"{figure(rivals[best].overall.value)} (difference {figure(gap)})."
    )
    if gap > 0 and metric.overall.lower <= rivals[best].overall.upper:
        sentence += " Their intervals overlap: this alone does not show that it is better."
    return sentence


def _inputs(contract: Contract) -> Section:
    headers = ("Input", "Type", "Unit", "Allowed", "Outside it", "Missing")
    rows = [_tensor(tensor) for tensor in contract.inputs]
    outputs = ", ".join(
        f"{tensor.name} ({tensor.datatype}, {_allowed(tensor)})" for tensor in contract.outputs
    )
    return Section("Inputs and outputs", (f"It answers {outputs}.",), tables=(
        Table(headers, tuple(rows)),
    ))  # fmt: skip


def _tensor(tensor: TensorSpec) -> tuple[str, ...]:
    unit = tensor.unit or ""
    return (tensor.name, tensor.datatype, unit, _allowed(tensor), tensor.policy, tensor.missing)


def _allowed(tensor: TensorSpec) -> str:
    if tensor.categories is not None:
        return f"{len(tensor.categories)} categories"
    return _range(tensor.range) if tensor.range else "anything"


def _range(allowed: Range) -> str:
    low = "-∞" if allowed.low is None else figure(allowed.low)
    high = "∞" if allowed.high is None else figure(allowed.high)
    return f"{low} to {high}"


def _compression(contract: Contract) -> Section:
    part = contract.compression
    headers = ("Candidate", "Size", "Latency, ms", "Quality", "Difference to fp32", "Verdict")
    rows = tuple(_candidate(item) for item in part.candidates)
    names = [item.name for item in part.candidates]
    mark = names.index(part.chosen) if part.chosen in names else -1
    asked = (
        f"Allowed to lose {figure(part.budget)} of quality; among those that do not, the best "
        f"by {part.prefer}."
    )
    chosen = f"Chosen: {part.chosen}. {part.why[:1].upper()}{part.why[1:]}"
    return Section("Compression", (asked, chosen), tables=(Table(headers, rows, mark),))


def _candidate(item: CompressionCandidate) -> tuple[str, ...]:
    return (
        item.name,
        size(item.bytes),
        f"{between(item.latency_seconds, 1e3)} at {item.batch} rows",
        between(item.quality),
        between(item.difference) if item.difference else "it is the measure",
        item.reason if item.eligible else f"not eligible: {item.reason}",
    )


def _calibration(contract: Contract) -> Section:
    part = contract.calibration
    sentence = (
        f"Windows of {part.window_rows:,} rows are compared with the reference. {part.blocks} past "
        "blocks of time were compared the same way; what they showed is what counts as normal."
    )
    headers = ("Feature", "Detector", "Smallest effect that matters", "Normal: median", "most")
    rows = tuple(_null(null) for null in part.nulls)
    tables = [Table(headers, rows)] if rows else []
    if part.score_shares:
        tables.append(_scores(part.score_buckets, part.score_shares))
    return Section("Calibration of the alarms", (sentence,), tables=tuple(tables))


def _null(null: FeatureNull) -> tuple[str, ...]:
    ordered = sorted(null.distances)
    middle = figure(ordered[len(ordered) // 2]) if ordered else "none"
    most = figure(ordered[-1]) if ordered else "none"
    return (null.feature, null.detector, figure(null.floor), middle, most)


def _scores(edges: Sequence[float], shares: Sequence[float]) -> Table:
    # Shares may be those between the edges, or have an open bucket at either end.
    if len(shares) == len(edges) - 1:
        names = [f"{figure(a)} to {figure(b)}" for a, b in itertools.pairwise(edges)]
    elif len(shares) == len(edges) + 1:
        inner = [f"{figure(a)} to {figure(b)}" for a, b in itertools.pairwise(edges)]
        names = [f"up to {figure(edges[0])}", *inner, f"above {figure(edges[-1])}"]
    elif len(shares) == len(edges):
        names = [f"up to {figure(edge)}" for edge in edges]
    else:
        names = [f"bucket {index}" for index in range(1, len(shares) + 1)]
    rows = tuple((name, f"{share:.1%}") for name, share in zip(names, shares, strict=True))
    return Table(("Score", "Expected share"), rows)


def _outliers(contract: Contract) -> Section:
    part = contract.outliers
    if part is None:
        return Section("Outliers", ("Single rows are not scored: the package holds no scorer.",))
    promise = (
        f"A row is an outlier when its {part.method.replace('_', ' ')} score is above "
        f"{figure(part.threshold)}: at most {part.false_positive_rate:.3g} of rows like the "
        f"{part.rows:,} held-out ones that this was calibrated on."
    )
    where = "as they are answered" if part.in_request else "only where the predictor is told to"
    return Section("Outliers", (promise, f"Rows are scored {where}: {part.why}."))


def _rollout(contract: Contract) -> Section:
    part = contract.rollout
    sentence = f"An answer is slow above {figure(part.latency_objective_seconds * 1e3)} ms."
    rows = tuple(
        (item.name, figure(item.ratio), figure(item.allowance)) for item in part.indicators
    )
    headers = ("Indicator", "Rate at most this many times the stable one's", "or at most")
    return Section("What the gate asks of a canary", (sentence,), tables=(Table(headers, rows),))


def _limits(contract: Contract) -> Iterator[str]:
    yield _times(contract)
    for metric in contract.metrics:
        small = [name for name, item in sorted(metric.segments.items()) if item.n < FEW]
        if small:
            yield f"{metric.name} rests on fewer than {FEW} units for: {', '.join(small)}."
        yield from _behind(metric, contract.baselines)
    if contract.compression.chosen not in {"", "fp32"}:
        yield from _cost(contract)
    if contract.calibration.blocks:
        yield (
            f"The alarms know {contract.calibration.blocks} past blocks of time: what is normal "
            "but did not happen in those (a season, a holiday) can still raise one."
        )
    else:
        yield "The alarms were not calibrated on past blocks of time."
    if contract.privacy.epsilon is None:
        yield "It was not trained with differential privacy."
    else:
        delta = "" if contract.privacy.delta is None else f", δ = {contract.privacy.delta:g}"
        yield f"Trained with differential privacy: ε = {contract.privacy.epsilon:g}{delta}."


def _times(contract: Contract) -> str:
    training, measured = contract.training, contract.measured
    learnt = f"It learnt from {training.start:%Y-%m-%d} to {training.end:%Y-%m-%d}"
    if measured is None:
        return f"{learnt}; the time that it was measured on is not recorded."
    return (
        f"{learnt} and was measured on {measured.start:%Y-%m-%d} to {measured.end:%Y-%m-%d}; "
        "how good it is at any other time is not known."
    )


def _behind(metric: Metric, baselines: dict[str, Metric]) -> Iterator[str]:
    for name, rival in baselines.items():
        if rival.name != metric.name:
            continue
        lost = [
            segment
            for segment, item in sorted(metric.segments.items())
            if segment in rival.segments and item.value < rival.segments[segment].value
        ]
        if lost:
            yield f"The baseline {name} has a higher {metric.name} for: {', '.join(lost)}."


def _cost(contract: Contract) -> Iterator[str]:
    chosen = contract.compression.chosen
    for item in contract.compression.candidates:
        if item.name == chosen and item.difference is not None:
            yield (
                f"Compression ({chosen}) changed quality by {between(item.difference)} "
                "against fp32."
            )
