"""Late labels meet what was answered, whichever comes first, and say whether it was right.

Belongs here: joining, counting, realised performance. Not here: the tables (`answers.py`), the
judgement (`outcomes.py`).

A label joins the answers to its request id; the first label of an answer counts, another is a
duplicate. Right and wrong are counted per version for as long as the state lasts: the gate's
indicator ``outcome`` reads how much they rose.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from davy.detector.answers import Answers, Source
from davy.detector.labels import Label
from davy.detector.ledger import CounterKey, Ledger
from davy.detector.metrics import EXPIRED, JOINED, OUTCOMES, UNUSED, DetectorMetrics
from davy.detector.outcomes import Answer, Joined, join, judged, measures
from davy.detector.packages import PREDICTED, Subject
from davy.detector.pairing import Exchange
from davy.detector.samples import pick_row

# Services are named by the network: so many are told apart.
SOURCES = 256


class Joiner:
    """Joins labels and answers.

    Parameters
    ----------
    answers : Answers
        Where both wait.
    ledger : Ledger
        Where outcomes are counted; every method here runs in one of its transactions.
    metrics : DetectorMetrics
        Where realised performance is shown.
    limits : mapping of str to float
        By model: see `davy.detector.outcomes.join`.
    recent : int
        Labels of a version over which its performance is measured.
    """

    def __init__(
        self,
        answers: Answers,
        ledger: Ledger,
        metrics: DetectorMetrics,
        *,
        limits: Mapping[str, float],
        recent: int,
    ) -> None:
        self._answers = answers
        self._ledger = ledger
        self._metrics = metrics
        self._limits = limits
        self._recent = recent
        self._looked = False
        self._changed = {
            (source.model, source.version, source.kind) for source in answers.sources()
        }

    def answered(self, subject: Subject, exchange: Exchange, now: datetime) -> None:
        """Keep what a request was answered, and join its label if that came before."""
        source = self._source(subject, exchange)
        answer = _answer(subject, exchange)
        if answer is None:
            return
        number = self._answers.keep(exchange.id, source, answer, now.timestamp())
        found = self._answers.waiting(exchange.id, source.model)
        if found is not None:
            waiting, label = found
            self._answers.met(waiting)
            self._join(number, source, answer, label)

    def label(self, label: Label, now: datetime) -> None:
        """Join a label to the answers to its request, or keep it until one comes."""
        found = self._answers.find(label.request_id, label.model)
        if not found:
            if not self._answers.wait(label.request_id, label.model, label.values, now.timestamp()):
                self._unused("duplicate")
            return
        for item in found:
            if item.labelled:
                self._unused("duplicate")
            else:
                self._join(item.number, item.source, item.answer, label.values)

    def tick(self, now: datetime) -> None:
        """Let go of what is past its horizon, and show the performance that has changed."""
        self._looked = False
        for source, lost in self._answers.expire(now.timestamp()).items():
            self._ledger.count(EXPIRED, (source.model, source.version), lost)
        if unmatched := self._answers.expire_labels(now.timestamp()):
            self._unused("unmatched", unmatched)
        for model, version, kind in self._changed:
            joined, hard = self._answers.joined(model, version)
            found = measures(kind, joined, hard=hard)  # type: ignore[arg-type]
            for metric, value in found.items():
                self._metrics.realised.labels(model, version, metric, "all").set(value)
        self._changed.clear()

    def _source(self, subject: Subject, exchange: Exchange) -> Source:
        event = exchange.request.event
        source = Source(
            subject.model, subject.version, event.namespace, event.service, subject.kind
        )
        if not self._answers.knows(source) and self._answers.number_of_sources >= SOURCES:
            self._forget_idle()
            if self._answers.number_of_sources >= SOURCES:
                source = source._replace(namespace="", service="")
        if self._answers.meet(source):
            arm = (source.model, source.version)
            self._ledger.count(JOINED, arm, 0)
            self._ledger.count(EXPIRED, arm, 0)
            # A gate waits for a series that is not there; one at 0 says that no label has come.
            if judged(subject.kind, self._limits.get(source.model)):
                for outcome in ("right", "wrong"):
                    self._count_outcome(source, outcome, 0)
        return source

    def _forget_idle(self) -> None:
        """Make room: the counters of whoever has no answer left end."""
        if self._looked:  # at most once between two ticks: it looks at every answer
            return
        self._looked = True
        gone = self._answers.forget_idle()
        known = {(source.model, source.version) for source in self._answers.sources()}
        for source in gone:
            arm = (source.model, source.version)
            counters: list[CounterKey] = [
                (OUTCOMES, (*arm, outcome, source.namespace, source.service))
                for outcome in ("right", "wrong")
            ]
            if arm not in known:
                counters += [(JOINED, arm), (EXPIRED, arm)]
            for name, labels in counters:
                self._ledger.drop_counter(name, labels)
                self._metrics.drop_counter(name, labels)

    def _join(self, number: int, source: Source, answer: Answer, label: tuple[float, ...]) -> None:
        found = join(answer, label, self._limits.get(source.model))
        if not isinstance(found, Joined):
            self._unused(found)
            return
        self._answers.labelled(number)
        self._answers.add_joined(source, found, hard=answer.hard, most=self._recent)
        self._ledger.count(JOINED, (source.model, source.version))
        if found.outcome is not None:
            self._count_outcome(source, found.outcome, 1)
        self._changed.add((source.model, source.version, source.kind))

    def _count_outcome(self, source: Source, outcome: str, value: int) -> None:
        labels = (source.model, source.version, outcome, source.namespace, source.service)
        self._ledger.count(OUTCOMES, labels, value)

    def _unused(self, reason: str, value: int = 1) -> None:
        self._ledger.count(UNUSED, (reason,), value)


def _answer(subject: Subject, exchange: Exchange) -> Answer | None:
    """Return what was answered, one number a row; None where the outputs have no such shape."""
    if exchange.response is None:
        return None
    tensors = {tensor.name: tensor for tensor in exchange.response.sample.tensors}
    hard = subject.kind == "classification" and PREDICTED in tensors
    tensor = tensors.get(PREDICTED if hard else subject.output)
    if tensor is None or not tensor.shape or tensor.data.dtype.kind not in "fiub":
        return None
    rows = tensor.shape[0]
    if rows == 0 or tensor.data.size != rows:
        return None
    scores = tensor.data.reshape(-1).astype(np.float64)
    return Answer(subject.kind, scores, pick_row(exchange.id, rows), hard)
