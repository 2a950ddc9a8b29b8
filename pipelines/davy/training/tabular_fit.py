"""Fitting a linear model or an MLP to the matrix of a table.

Belongs here: scales, the two families. Not here: the matrix (`davy.training.tabular_graph`).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from davy.data.table import Columns
from davy.data.table_task import TableTask
from davy.training.tabular_graph import Dense, Scale, matrix_model

Floats = npt.NDArray[Any]
BATCH = 256
# Epochs without a better loss on the held-out part before the fit ends.
PATIENCE = 8
LEARNING_RATE = 0.003
# Strengths of the ridge penalty that the held-out part chooses from.
RIDGES = (1.0, 10.0, 100.0, 1000.0)


def measure_scale(task: TableTask, features: Columns) -> Scale:
    """Return mean and spread of the numbers; 0 and 1 where nothing varies."""
    mean: dict[str, float] = {}
    spread: dict[str, float] = {}
    for feature in task.features:
        if feature.type == "category":
            continue
        values = features[feature.name].astype(np.float64)
        values = values[np.isfinite(values)]
        if feature.transform == "log":
            values = np.sign(values) * np.log1p(np.abs(values))
        mean[feature.name] = float(values.mean()) if values.size else 0.0
        width = float(values.std()) if values.size else 0.0
        spread[feature.name] = width if width > 0 else 1.0
    return Scale(mean, spread)


def matrix(task: TableTask, scale: Scale, features: Columns) -> npt.NDArray[np.float32]:
    """Return the rows as the served graph sees them, of shape [rows, width]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(matrix_model(task, scale).SerializeToString(), options)
    found: npt.NDArray[np.float32] = session.run(None, dict(features))[0]
    return found


def fit_linear(task: TableTask, rows: Floats, label: Floats, held: Floats, truth: Floats) -> Dense:
    """Return a ridge, logistic or multinomial regression.

    The held-out part chooses the penalty; then both parts are fitted, as the latest rows tell
    most about the next.
    """
    x, x_held = rows.astype(np.float64), held.astype(np.float64)
    losses = {}
    for ridge in RIDGES:
        dense = _regression(task, x, label, ridge)
        weight, bias = dense.layers[0]
        losses[ridge] = _loss(task, x_held @ weight + bias, truth, dense)
    chosen = min(losses, key=lambda ridge: losses[ridge])
    return _regression(task, np.concatenate([x, x_held]), np.concatenate([label, truth]), chosen)


def _regression(task: TableTask, x: Floats, label: Floats, ridge: float) -> Dense:
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.form == "regression":
        center, spread = _label_scale(label)
        fitted = Ridge(alpha=ridge).fit(x, (label - center) / spread)
        layer = (fitted.coef_.reshape(-1, 1), np.array([fitted.intercept_]))
        return Dense([layer], center, spread)
    model = LogisticRegression(C=1.0 / ridge, max_iter=1000).fit(x, label.astype(int))
    return Dense([(model.coef_.T, model.intercept_)])


def _loss(task: TableTask, value: Floats, truth: Floats, dense: Dense) -> float:
    """Return the mean loss that a family minimises, of sums before any squashing."""
    if task.form == "regression":
        return float(((value[:, 0] * dense.spread + dense.center - truth) ** 2).mean())
    if task.form == "binary":
        return float((np.logaddexp(0.0, value[:, 0]) - truth * value[:, 0]).mean())
    most = value.max(axis=1)
    total = most + np.log(np.exp(value - most[:, None]).sum(axis=1))
    return float((total - value[np.arange(len(truth)), truth.astype(int)]).mean())


def fit_mlp(task: TableTask, rows: Floats, label: Floats, held: Floats, truth: Floats) -> Dense:
    """Return an MLP, as it was at its best loss on the held-out part; seeded, on one thread.

    A category is one-hot, so the first layer holds its embedding.
    """
    import torch

    from davy.training.network import one_thread

    outputs = len(task.label.classes) if task.form == "multiclass" else 1
    center, spread = _label_scale(label) if task.form == "regression" else (0.0, 1.0)
    sizes = [rows.shape[1], *task.model.hidden, outputs]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.model.seed)
        layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        modules = [part for layer in layers for part in (layer, torch.nn.ReLU())][:-1]
        network = torch.nn.Sequential(*modules)

        def loss(given: Any, wanted: Any) -> Any:
            found = network(given)
            if task.form == "multiclass":
                return torch.nn.functional.cross_entropy(found, wanted.long())
            if task.form == "binary":
                return torch.nn.functional.binary_cross_entropy_with_logits(found[:, 0], wanted)
            return torch.nn.functional.mse_loss(found[:, 0], (wanted - center) / spread)

        optimizer = torch.optim.AdamW(
            network.parameters(), lr=task.model.learning_rate or LEARNING_RATE, weight_decay=0.01
        )
        x, y = torch.from_numpy(rows), torch.from_numpy(label.astype(np.float32))
        x_held, y_held = torch.from_numpy(held), torch.from_numpy(truth.astype(np.float32))
        best, waited = float("inf"), 0
        state = {key: value.clone() for key, value in network.state_dict().items()}
        for _ in range(task.model.epochs):
            for batch in torch.split(torch.randperm(len(x)), BATCH):
                optimizer.zero_grad()
                loss(x[batch], y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                now = float(loss(x_held, y_held))
            waited += 1
            if now < best:
                best, waited = now, 0
                state = {key: value.clone() for key, value in network.state_dict().items()}
            if waited >= PATIENCE:
                break
        network.load_state_dict(state)
        fitted = [
            (layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy())
            for layer in layers
        ]
    return Dense(fitted, center, spread)


def _label_scale(label: Floats) -> tuple[float, float]:
    spread = float(label.std())
    return float(label.mean()), spread if spread > 0 else 1.0
