"""The training step: features in, the weights and a report of the fit out.

Belongs here: the step over paths, and what the report holds. Not here: the loop itself.
"""

from __future__ import annotations

import importlib.metadata
import io
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten, to_json, write_atomic
from davy.data.task import Task
from davy.training.examples import read_examples
from davy.training.fitting import Effort, fit
from davy.training.network import build_network

WEIGHTS = "model.pt"
REPORT = "training.json"
# More do not change which epoch is best, and each epoch scores them.
VALID_REQUESTS = 1000


class EpochReport(MachineWritten):
    """One pass over the data: mean loss, and NDCG on requests held out for stopping."""

    loss: float
    valid: float


class TrainReport(MachineWritten):
    """``training.json``: from what the model was fitted and how that went."""

    requests: int
    rows: int
    start: datetime
    end: datetime
    seed: int
    widths: list[int]
    parameters: int
    epochs: list[EpochReport]
    best_epoch: int
    metric: str
    libraries: dict[str, str]


def train(task: Task, features: Path, out: Path) -> TrainReport:
    """Fit the task's model.

    Parameters
    ----------
    task : Task
        Features, model and seed. At most ``model.train_baskets`` requests are used.
    features : Path
        Folder with ``train.parquet`` and ``valid.parquet``.
    out : Path
        Folder for ``model.pt`` (a state dict, without pickled code) and ``training.json``.

    Raises
    ------
    NotFoundError, InvalidInputError
        A feature file is missing or does not fit the task; nothing was bought in any request; or
        the fit diverged.
    """
    rng = np.random.default_rng(task.model.seed)
    rows = read_examples(task, features / "train.parquet").sample(task.model.train_baskets, rng)
    valid = read_examples(task, features / "valid.parquet").sample(VALID_REQUESTS, rng)
    if not rows.label.any():
        raise InvalidInputError(
            "no candidate was bought in any request: there is nothing to learn",
            where=str(features / "train.parquet"),
            fix="Check the label, or widen candidates.per_basket",
        )
    network = build_network(task)
    network.standardise(rows.features)
    effort = Effort(
        epochs=task.model.epochs,
        batch_rows=task.model.batch_rows,
        learning_rate=task.model.learning_rate,
        seed=task.model.seed,
    )
    history = fit(network, rows, valid, effort, k=task.objective.cutoff)
    report = TrainReport(
        requests=rows.requests,
        rows=rows.rows,
        start=rows.start,
        end=rows.end,
        seed=task.model.seed,
        widths=list(network.widths),
        parameters=sum(value.numel() for value in network.parameters()),
        epochs=[EpochReport(loss=epoch.loss, valid=epoch.valid) for epoch in history],
        best_epoch=1 + max(range(len(history)), key=lambda index: history[index].valid),
        metric=task.objective.metric,
        libraries={name: importlib.metadata.version(name) for name in ("numpy", "torch")},
    )
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    write_atomic(out / WEIGHTS, weights.getvalue())
    write_atomic(out / REPORT, to_json(report))
    return report
