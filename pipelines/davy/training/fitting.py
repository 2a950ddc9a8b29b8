"""Gradient descent on a ranking network, with early stopping on held-out requests.

Belongs here: the loss, the loop, scoring many rows. Not here: which data, or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from davy.core.errors import InvalidInputError
from davy.training.examples import Examples
from davy.training.metrics import ndcg
from davy.training.network import RankingNetwork, one_thread

SCORING_ROWS = 16384
# Epochs without a better validation before the fit ends.
PATIENCE = 2
WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to fit.

    Attributes
    ----------
    epochs : int
        Passes over the requests, at most.
    batch_rows : int
        Rows of a step, about: a request is never split.
    learning_rate : float
        The highest, after the warm-up and before the cosine decay.
    seed : int
        Order of the requests and choice of the rows.
    kept_share : float
        Share of the candidates that were not bought, drawn anew in each epoch; those count the
        more in the loss, so that scores stay probabilities.
    """

    epochs: int
    batch_rows: int
    learning_rate: float
    seed: int
    kept_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass gave: mean loss a row, and mean NDCG of the held-out requests."""

    loss: float
    valid: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """Inputs of all rows as tensors, ready for `RankingNetwork.logits`."""

    dense: Tensor | None
    codes: list[Tensor]

    def take(self, index: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        dense = None if self.dense is None else self.dense[index]
        return dense, [code[index] for code in self.codes]


def fit(
    network: RankingNetwork, train: Examples, valid: Examples, effort: Effort, *, k: int
) -> list[Epoch]:
    """Fit the network in place and leave it with its best epoch's weights.

    The loss of a request is the cross-entropy of each candidate's probability (scores mean
    something by themselves) plus that of the softmax over the candidates (the order counts;
    Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007).

    Parameters
    ----------
    network : RankingNetwork
        Its standardisation is set already.
    train, valid : Examples
        Requests to fit, and to stop by.
    effort : Effort
        Epochs, batch, learning rate, seed.
    k : int
        Places that count in the validation's NDCG.

    Returns
    -------
    list of Epoch
        One an epoch that was run.

    Raises
    ------
    InvalidInputError
        The loss became infinite or not a number.
    """
    with one_thread():
        return _fit(network, train, valid, effort, k)


def score(network: RankingNetwork, examples: Examples) -> npt.NDArray[np.float64]:
    """Return the network's score for each row."""
    with one_thread(), torch.inference_mode():
        network.eval()
        rows = _rows(network, examples)
        parts = [
            torch.sigmoid(network.logits(*rows.take(torch.arange(low, high))))
            for low, high in _spans(examples.rows, SCORING_ROWS)
        ]
        return torch.cat(parts).numpy().astype(np.float64)


def _fit(
    network: RankingNetwork, train: Examples, valid: Examples, effort: Effort, k: int
) -> list[Epoch]:
    rng = np.random.default_rng(effort.seed)
    with torch.inference_mode(False), torch.no_grad():
        rows = _rows(network, train)
    label = torch.from_numpy(train.label.astype(np.float32))
    per_batch = max(1, round(effort.batch_rows / _expected_rows(train, effort.kept_share)))
    steps = math.ceil(train.requests / per_batch) * effort.epochs
    optimizer = torch.optim.Adam(network.parameters(), lr=effort.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    history: list[Epoch] = []
    best, best_state, since_best = -math.inf, copy.deepcopy(network.state_dict()), 0
    for _ in range(effort.epochs):
        network.train()
        total, seen = 0.0, 0
        for index, request, weight in _batches(train, rng, per_batch, effort.kept_share):
            logits = network.logits(*rows.take(index))
            loss = _loss(logits, label[index], request, weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * index.numel()
            seen += index.numel()
        if not math.isfinite(total):
            raise InvalidInputError(
                "the loss is no longer a finite number",
                where="training",
                fix="Lower model.learning_rate, or look for wild values in the features",
            )
        quality = float(
            ndcg(score(network, valid), valid.label, valid.starts, valid.basket_size, k=k).mean()
        )
        history.append(Epoch(loss=total / seen, valid=quality))
        since_best += 1
        if quality > best:
            best, best_state, since_best = quality, copy.deepcopy(network.state_dict()), 0
        if since_best >= PATIENCE:
            break
    network.load_state_dict(best_state)
    network.eval()
    return history


def _rows(network: RankingNetwork, examples: Examples) -> _Rows:
    numbers = [f.name for f in network.features if f.type == "number"]
    codes = [f.name for f in network.features if f.type == "category"]
    dense = None
    if numbers:
        matrix = np.stack([examples.features[name] for name in numbers], axis=1)
        dense = network.dense(torch.from_numpy(matrix))
    return _Rows(dense=dense, codes=[torch.from_numpy(examples.features[name]) for name in codes])


def _expected_rows(train: Examples, kept_share: float) -> float:
    bought = float(train.label.sum())
    return (bought + kept_share * (train.rows - bought)) / train.requests


def _batches(
    train: Examples, rng: np.random.Generator, per_batch: int, kept_share: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows, the request of each within the batch, and the weight of each."""
    bought = train.label > 0
    kept = bought | (rng.random(train.rows) < kept_share)
    sizes, order = train.sizes(), rng.permutation(train.requests)
    for low, high in _spans(train.requests, per_batch):
        chosen = order[low:high]
        inside = np.repeat(np.arange(chosen.size), sizes[chosen])
        offset = np.cumsum(sizes[chosen]) - sizes[chosen]
        index = np.arange(inside.size) + (train.starts[chosen] - offset)[inside]
        keep = kept[index]
        index, inside = index[keep], inside[keep]
        weight = np.where(bought[index], 1.0, 1.0 / kept_share).astype(np.float32)
        yield torch.from_numpy(index), torch.from_numpy(inside), torch.from_numpy(weight)


def _loss(logits: Tensor, label: Tensor, request: Tensor, weight: Tensor) -> Tensor:
    each = (
        functional.binary_cross_entropy_with_logits(logits, label, weight=weight, reduction="sum")
        / weight.sum()
    )
    requests = int(request[-1]) + 1
    # A request's own largest logit is taken out first, so that the exponentials stay finite.
    top = torch.full((requests,), -math.inf).scatter_reduce(
        0, request, logits.detach(), reduce="amax"
    )
    shifted = logits - top[request]
    mass = torch.zeros(requests).index_add(0, request, shifted.exp() * weight)
    surprise = mass.log()[request] - shifted
    bought = label.sum().clamp(min=1.0)
    return each + (surprise * label).sum() / bought


def _rate(step: int, steps: int) -> float:
    warm = max(1, round(WARMUP_SHARE * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    for low in range(0, count, size):
        yield low, min(count, low + size)
