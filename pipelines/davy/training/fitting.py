"""Gradient descent on a ranking network, with early stopping on held-out requests.

Belongs here: the loss, the loop, scoring many rows. Not here: which data, or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from davy.core.errors import InvalidInputError
from davy.training.examples import Examples
from davy.training.metrics import ndcg
from davy.training.network import RankingNetwork, one_thread

SCORING_ROWS = 16384
# Epochs without a better validation before the fit ends.
PATIENCE = 2
WARMUP_SHARE = 0.1
# The order is what the objective looks at; this much of the loss keeps requests comparable.
PROBABILITY_SHARE = 0.3
NEWTON_STEPS = 20


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
    kept_share: float = 0.25


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
    network: RankingNetwork,
    train: Examples,
    valid: Examples,
    effort: Effort,
    *,
    k: int,
    targets: npt.NDArray[np.float64] | None = None,
) -> list[Epoch]:
    """Fit the network in place and leave it with its best epoch's weights.

    The loss of a request is the cross-entropy of the softmax over its candidates (the order
    counts; Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML
    2007) plus a share of that of each candidate's probability. At the end the last layer is
    scaled and shifted so that scores are calibrated on the held-out requests, which leaves the
    order as it is (Platt, "Probabilistic outputs for support vector machines", 1999).

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
    targets : array of shape [rows], optional
        Probabilities to learn instead of the labels of `train`: the scores of another network
        that this one is to agree with (Hinton et al., "Distilling the knowledge in a neural
        network", 2015).

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
        return _fit(network, train, valid, effort, k, train.label if targets is None else targets)


def score(network: RankingNetwork, examples: Examples) -> npt.NDArray[np.float64]:
    """Return the network's score for each row."""
    with one_thread():
        logits = torch.from_numpy(_logits(network, examples))
        return torch.sigmoid(logits).numpy().astype(np.float64)


def _logits(network: RankingNetwork, examples: Examples) -> npt.NDArray[np.float32]:
    network.eval()
    with torch.inference_mode():
        rows = _rows(network, examples)
        parts = [
            network.logits(*rows.take(torch.arange(low, high)))
            for low, high in _spans(examples.rows, SCORING_ROWS)
        ]
        result: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return result


def _fit(
    network: RankingNetwork,
    train: Examples,
    valid: Examples,
    effort: Effort,
    k: int,
    targets: npt.NDArray[Any],
) -> list[Epoch]:
    rng = np.random.default_rng(effort.seed)
    with torch.inference_mode(False), torch.no_grad():
        rows = _rows(network, train)
    target = torch.from_numpy(targets.astype(np.float32))
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
            loss = _loss(logits, target[index], request, weight)
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
    _to_probabilities(network, valid)
    return history


def _to_probabilities(network: RankingNetwork, valid: Examples) -> None:
    """Fold the scale and shift of the logits that fit the held-out labels into the last layer."""
    logits = _logits(network, valid).astype(np.float64)
    label = valid.label.astype(np.float64)
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    fitted = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-(design @ fitted)))
        curvature = (design * (chance * (1.0 - chance))[:, None]).T @ design
        step = np.linalg.lstsq(curvature, design.T @ (label - chance), rcond=None)[0]
        fitted = fitted + np.clip(step, -1.0, 1.0)
    scale, shift = float(fitted[0]), float(fitted[1])
    last = network.body[-1]
    # A scale that is not positive would turn the order round: then the logits say nothing.
    if scale <= 0 or not math.isfinite(scale + shift) or not isinstance(last, nn.Linear):
        return
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift)


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


def _loss(logits: Tensor, target: Tensor, request: Tensor, weight: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(
        logits, target, weight=weight, reduction="sum"
    )
    requests = int(request[-1]) + 1
    # A request's own largest logit is taken out first, so that the exponentials stay finite.
    top = torch.full((requests,), -math.inf).scatter_reduce(
        0, request, logits.detach(), reduce="amax"
    )
    shifted = logits - top[request]
    mass = torch.zeros(requests).index_add(0, request, shifted.exp() * weight)
    surprise = mass.log()[request] - shifted
    wanted = weight * target
    order = (surprise * wanted).sum() / wanted.sum().clamp(min=1e-6)
    return order + PROBABILITY_SHARE * each / weight.sum()


def _rate(step: int, steps: int) -> float:
    warm = max(1, round(WARMUP_SHARE * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    for low in range(0, count, size):
        yield low, min(count, low + size)
