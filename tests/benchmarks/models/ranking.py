"""The task next_basket: Davy's network beside LightGBM's lambdarank, on the same candidates.

Belongs here: fitting both, NDCG and recall of each. Not here: lines of a table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.models.compare import LEVEL, Line

from davy.data.prepare import prepare
from davy.data.task import Task, load_task
from davy.features.build import build
from davy.training.bootstrap import resample
from davy.training.examples import Examples, read_examples
from davy.training.fitting import score
from davy.training.metrics import ndcg
from davy.training.network import load_network
from davy.training.train import WEIGHTS, train

SEEDS = (1, 2, 3)
K = 10
DRAWS = 2000
TREES, PATIENCE = 400, 30


def compare_rankers(path: Path, features: Path | None) -> tuple[list[Line], str]:
    """Fit everything; return the table's lines, and what was learnt from.

    Parameters
    ----------
    path : Path
        The task's file.
    features : Path, optional
        What `davy.features.build` wrote for it; built here when absent.
    """
    task = load_task(path)
    with tempfile.TemporaryDirectory() as folder:
        place = features or _built(task, Path(folder))
        parts = {name: read_examples(task, place / f"{name}.parquet")
                 for name in ("train", "valid", "test")}  # fmt: skip
        ours = [_davy(task, place, Path(folder) / str(seed), parts["test"], seed) for seed in SEEDS]
    test = parts["test"]
    scored: dict[str, list[Any]] = {
        "**Davy mlp, as the task says**": ours,
        "LightGBM lambdarank, same features": [_lambdarank(parts, seed) for seed in SEEDS],
        "household's own purchases, decayed": [test.baselines["personal"]],
        "popularity": [test.baselines["popularity"]],
    }
    draws = resample(test.household, draws=DRAWS, rng=np.random.default_rng(0))
    quality = {name: [_ndcg(test, values) for values in runs] for name, runs in scored.items()}
    first = next(iter(scored))
    mean = {name: np.mean(runs, axis=0) for name, runs in quality.items()}
    lines = []
    for name, runs in quality.items():
        low, high = np.quantile(draws.means(mean[name]), LEVEL)
        ahead = None
        if name != first:
            apart = mean[first] - mean[name]
            lower, upper = np.quantile(draws.means(apart), LEVEL)
            ahead = (float(apart.mean()), float(lower), float(upper))
        lines.append(
            Line(
                name=name,
                seeds=len(runs),
                value=float(mean[name].mean()),
                low=float(low),
                high=float(high),
                spread=float(np.ptp([run.mean() for run in runs])),
                second=float(np.mean([_recall(test, values) for values in scored[name]])),
                calibration=None,
                ahead=ahead,
            )
        )
    held = float(np.add.reduceat(test.label, test.starts).sum() / test.basket_size.sum())
    said = (
        f"{parts['train'].requests:,} baskets learnt from, {test.requests:,} of later weeks tested,"
        f" {task.candidates.per_basket} candidates each; the candidates hold {held:.0%} of what was"
        " bought, which bounds every ranker."
    )
    return lines, said


def _built(task: Task, folder: Path) -> Path:
    prepare(task, folder / "data")
    build(task, folder / "data", folder / "features")
    return folder / "features"


def _davy(task: Task, features: Path, out: Path, test: Examples, seed: int) -> Any:
    one = task.model_copy(update={"model": task.model.model_copy(update={"seed": seed})})
    train(one, features, out)
    return score(load_network(one, out / WEIGHTS), test)


def _lambdarank(parts: dict[str, Examples], seed: int) -> Any:
    import lightgbm

    def rows(examples: Examples) -> Any:
        return np.stack([column.astype(np.float32) for column in examples.features.values()], 1)

    model = lightgbm.LGBMRanker(
        objective="lambdarank", n_estimators=TREES, learning_rate=0.05, num_leaves=31,
        min_child_samples=100, subsample=0.8, subsample_freq=1, colsample_bytree=0.8,
        lambdarank_truncation_level=2 * K, random_state=seed, n_jobs=1, verbose=-1,
    )  # fmt: skip
    train_rows, valid = parts["train"], parts["valid"]
    model.fit(
        rows(train_rows), train_rows.label, group=train_rows.sizes(),
        eval_set=[(rows(valid), valid.label)], eval_group=[valid.sizes()], eval_at=[K],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    return model.predict(rows(parts["test"]))


def _ndcg(test: Examples, values: Any) -> Any:
    return ndcg(values, test.label, test.starts, test.basket_size, k=K)


def _recall(test: Examples, values: Any) -> float:
    """Return the mean share of a basket that is among the first ten; ties in the order of rows."""
    sizes = test.sizes()
    request = np.repeat(np.arange(test.requests), sizes)
    order = np.lexsort((-np.asarray(values, dtype=np.float64), request))
    place = np.arange(test.rows) - np.repeat(test.starts, sizes)
    hits = np.add.reduceat(np.where(place < K, test.label[order], 0), test.starts)
    return float((hits / test.basket_size).mean())
