"""Right or wrong: what a label says of what was answered.

Belongs here: the judgement of one label, and measures over many; pure. Not here: which answer a
label belongs to (`joiner.py`).

One request is one observation, however many rows it had: a ranking is judged by what it put first,
anything else by the one row that is watched (`samples.pick_row`).

| kind | right where |
|---|---|
| ranking | the row with the highest score has a label above 0 |
| classification | the output ``predicted`` is the label; or score and label lie on one side |
| regression | score and label are no further apart than the model's limit (none: not judged) |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["ranking", "classification", "regression"]
Outcome = Literal["right", "wrong"]
Unjudged = Literal["other_rows", "no_score"]
"""Why a label says nothing: its values are not as many as the rows; the score is no number."""

PROBABLE = 0.5
POSITIVE = 0.5
DEPTH = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered: one number a row.

    ``row`` is the watched one, ``hard`` says that the numbers are classes, not scores.
    """

    kind: Kind
    scores: Floats
    row: int = 0
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """A label that met its answer.

    ``first`` and ``second`` are score and label; of a ranking, whether the first was right and the
    NDCG of the first ten (NaN where the label says no more than the former).
    """

    outcome: Outcome | None
    first: float
    second: float


def join(answer: Answer, label: Sequence[float], limit: float | None) -> Joined | Unjudged:
    """Judge one label.

    Parameters
    ----------
    answer : Answer
        What it is about.
    label : sequence of float
        One value a row, in the order of the request; or one for the request: of a ranking,
        whether what stood first was chosen.
    limit : float, optional
        Classification: the score from which on a class is positive, 0.5 where absent.
        Regression: the largest error that is right; absent, nothing is right or wrong.

    Examples
    --------
    >>> join(Answer("ranking", np.array([0.1, 0.9, 0.3])), [1, 0, 0], None).outcome
    'wrong'
    >>> join(Answer("classification", np.array([0.4])), [0], None).outcome
    'right'
    >>> join(Answer("regression", np.array([10.0])), [12.5], 2.0).outcome
    'wrong'
    """
    rows = len(answer.scores)
    if answer.kind == "ranking":
        return _ranking(answer.scores, label)
    if len(label) != rows:
        return "other_rows"
    score, truth = float(answer.scores[answer.row]), float(label[answer.row])
    if not math.isfinite(score):
        return "no_score"
    right: bool | None
    if answer.kind == "regression":
        right = None if limit is None else abs(score - truth) <= limit
    elif answer.hard:
        right = score == truth
    else:
        right = (score >= (PROBABLE if limit is None else limit)) == (truth >= POSITIVE)
    return Joined(None if right is None else _outcome(right), score, truth)


def judged(kind: Kind, limit: float | None) -> bool:
    """Tell whether labels of such a model are right or wrong at all."""
    return kind != "regression" or limit is not None


def measures(kind: Kind, joined: Sequence[Joined], *, hard: bool) -> Mapping[str, float]:
    """Return the realised performance over labels, by the names that evaluations use.

    A measure that they do not determine (the area under a curve of one class) is left out.
    """
    if not joined:
        return {}
    first = np.array([item.first for item in joined])
    second = np.array([item.second for item in joined])
    if kind == "ranking":
        graded = second[np.isfinite(second)]
        found = {"hit@1": float(first.mean())}
        return found | ({f"ndcg@{DEPTH}": float(graded.mean())} if graded.size else {})
    error = first - second
    if kind == "regression":
        return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}
    right = [item.outcome == "right" for item in joined]
    found = {"accuracy": float(np.mean(right))}
    if hard:
        return found
    found["brier"] = float((error**2).mean())
    return found | _roc_auc(first, second >= POSITIVE)


def ndcg(scores: Floats, relevance: Floats, depth: int = DEPTH) -> float:
    """Return the normalised discounted cumulative gain of the first rows; NaN if none is relevant.

    Source: Järvelin, Kekäläinen 2002, gains as they are.

    Examples
    --------
    >>> ndcg(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 0.0])).__round__(3)
    0.631
    """
    order = np.argsort(-scores, kind="stable")[:depth]
    discounts = 1 / np.log2(np.arange(2, len(order) + 2))
    best = float((np.sort(relevance)[::-1][:depth] * discounts).sum())
    return float((relevance[order] * discounts).sum()) / best if best > 0 else math.nan


def _ranking(scores: Floats, label: Sequence[float]) -> Joined | Unjudged:
    if not np.isfinite(scores).all():
        return "no_score"
    if len(label) == 1 and len(scores) != 1:
        right = label[0] > 0
        return Joined(_outcome(right), float(right), math.nan)
    if len(label) != len(scores):
        return "other_rows"
    relevance = np.maximum(np.array(label, float), 0)
    right = bool(relevance[int(np.argmax(scores))] > 0)
    return Joined(_outcome(right), float(right), ndcg(scores, relevance))


def _roc_auc(score: Floats, positive: npt.NDArray[np.bool_]) -> dict[str, float]:
    n_1 = int(positive.sum())
    n_0 = positive.size - n_1
    if not n_1 or not n_0:
        return {}
    # Mann-Whitney: ties count half.
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    u = ranks[positive].sum() - n_1 * (n_1 + 1) / 2
    return {"roc_auc": float(u / (n_1 * n_0))}


def _outcome(right: bool) -> Outcome:
    return "right" if right else "wrong"
