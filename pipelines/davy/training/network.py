"""The network: standardised numbers and embedded categories, then a small perceptron.

Belongs here: the module and its constants. Not here: how it is fitted, or its export.

What a feature is worth in the network's own scale (imputation, logarithm, mean, deviation) is
part of the graph, so that whoever serves the exported model sends values in the task's units.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from davy.core.errors import InvalidInputError, NotFoundError
from davy.data.task import Task

# Standardised values are cut here: one wild value must not set the range of the int8 model.
LIMIT = 6.0
# Above this skewness a number is a heavy-tailed count or amount, and its logarithm is used.
HEAVY_TAIL = 2.0


class RankingNetwork(nn.Module):
    """Score of a candidate from the task's features.

    Parameters
    ----------
    task : Task
        Names, types and ranges of the features.
    widths : sequence of int
        Units of each hidden layer.

    Attributes
    ----------
    body : nn.Sequential
        The perceptron: Linear and ReLU by turns, the last Linear gives the logit.
    """

    number_center: Tensor
    number_scale: Tensor
    number_log: Tensor
    flagged: Tensor

    def __init__(self, task: Task, widths: Sequence[int]) -> None:
        super().__init__()
        self.features = task.features
        numbers = [feature for feature in task.features if feature.type == "number"]
        self.categories = [feature for feature in task.features if feature.type == "category"]
        flagged = [index for index, feature in enumerate(numbers) if feature.missing != "reject"]
        self.register_buffer("number_center", torch.zeros(len(numbers)))
        self.register_buffer("number_scale", torch.ones(len(numbers)))
        self.register_buffer("number_log", torch.zeros(len(numbers), dtype=torch.bool))
        self.register_buffer("flagged", torch.tensor(flagged, dtype=torch.int64), persistent=False)
        self.embeddings = nn.ModuleList(
            nn.Embedding(feature.categories, min(8, 1 + feature.categories // 8))
            for feature in self.categories
        )
        width = len(numbers) + len(flagged) + sum(_width(table) for table in self.embeddings)
        layers: list[nn.Module] = []
        for units in widths:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.body = nn.Sequential(*layers, nn.Linear(width, 1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, as they are now."""
        linears = [layer for layer in self.body if isinstance(layer, nn.Linear)]
        return tuple(layer.out_features for layer in linears[:-1])

    def forward(self, *features: Tensor) -> Tensor:
        """Return the score, a probability, for each row.

        Parameters
        ----------
        *features : tensors of shape [rows]
            One a feature in the task's order: int64 codes or float32 with NaN where missing.
        """
        pairs = list(zip(self.features, features, strict=True))
        numbers = [value for feature, value in pairs if feature.type == "number"]
        codes = [value for feature, value in pairs if feature.type == "category"]
        dense = self.dense(torch.stack(numbers, dim=1)) if numbers else None
        return torch.sigmoid(self.logits(dense, codes))

    def dense(self, numbers: Tensor) -> Tensor:
        """Return standardised numbers with their missing-indicators, without gradients to learn.

        Parameters
        ----------
        numbers : tensor of shape [rows, numbers]
            Values in the task's units, NaN where missing.
        """
        tail = torch.sign(numbers) * torch.log(1.0 + torch.abs(numbers))
        scaled = torch.where(self.number_log, tail, numbers) - self.number_center
        missing = torch.isnan(numbers)
        known = torch.where(missing, 0.0, scaled * self.number_scale)
        cut = torch.clamp(known, -LIMIT, LIMIT)
        if self.flagged.numel() == 0:
            return cut
        return torch.cat([cut, missing.index_select(1, self.flagged).to(numbers.dtype)], dim=1)

    def logits(self, dense: Tensor | None, codes: Sequence[Tensor]) -> Tensor:
        """Return the logit for each row, of shape [rows].

        Parameters
        ----------
        dense : tensor of shape [rows, width], optional
            What `dense` gave; absent when the task has no numbers.
        codes : sequence of tensors of shape [rows]
            Category codes as in the task's ranges. A code outside its range is an error, here and
            in the exported model: it is never moved to an allowed one.
        """
        parts = [] if dense is None else [dense]
        for feature, table, code in zip(self.categories, self.embeddings, codes, strict=True):
            index = code - int(feature.range.low) if feature.range else code
            # ONNX counts a negative index from the end of the table; past the end it is an error.
            parts.append(table(torch.where(index < 0, feature.categories, index)))
        logit: Tensor = self.body(torch.cat(parts, dim=1))
        return logit.squeeze(1)

    def standardise(self, features: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set the constants of the numbers from training rows.

        Parameters
        ----------
        features : mapping of name to array of shape [rows]
            Training rows; missing values are left out.
        """
        numbers = [feature.name for feature in self.features if feature.type == "number"]
        for index, name in enumerate(numbers):
            values = features[name].astype(np.float64)
            values = values[np.isfinite(values)]
            heavy = _skewness(values) > HEAVY_TAIL
            if heavy:
                values = np.sign(values) * np.log1p(np.abs(values))
            spread = float(values.std()) if values.size else 0.0
            self.number_log[index] = bool(heavy)
            self.number_center[index] = float(values.mean()) if values.size else 0.0
            self.number_scale[index] = 1.0 / spread if spread > 1e-6 else 0.0


def build_network(task: Task, widths: Sequence[int] | None = None) -> RankingNetwork:
    """Return a network with weights drawn from the task's seed, the global generator untouched.

    Parameters
    ----------
    task : Task
        Features, and the seed.
    widths : sequence of int, optional
        Units of each hidden layer; the task's ``model.hidden`` when absent.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.model.seed)
        return RankingNetwork(task, task.model.hidden if widths is None else widths)


def load_network(task: Task, path: Path) -> RankingNetwork:
    """Read a trained network of the task's widths, ready to score.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        The file holds no weights, or those of another network.
    """
    network = build_network(task)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except FileNotFoundError:
        raise NotFoundError("no such file", where=str(path), fix="Train the model first") from None
    except (RuntimeError, pickle.UnpicklingError, AttributeError, TypeError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidInputError(
            f"not the weights of this task's model: {reason}",
            where=str(path),
            fix="Train again with the same task",
        ) from None
    return network.eval()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: faster on small shared machines, and repeatable to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _width(table: nn.Module) -> int:
    return int(table.embedding_dim) if isinstance(table, nn.Embedding) else 0


def _skewness(values: npt.NDArray[np.float64]) -> float:
    if values.size < 2 or values.std() < 1e-12:
        return 0.0
    return float(np.mean(((values - values.mean()) / values.std()) ** 3))
