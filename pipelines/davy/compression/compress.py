"""The compression step: the trained model in, measured and judged candidates out.

Belongs here: the step over paths. Not here: making, measuring or choosing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from davy.compression.candidates import make
from davy.compression.choose import judge
from davy.compression.measure import measure
from davy.compression.report import write_candidates
from davy.core.clock import Clock, SystemClock
from davy.data.task import Task
from davy.training.examples import read_examples
from davy.training.network import load_network
from davy.training.train import VALID_REQUESTS, WEIGHTS


def compress(
    task: Task, features: Path, model_dir: Path, out: Path, *, clock: Clock | None = None
) -> Path:
    """Make the task's candidates and measure them on the test weeks.

    Parameters
    ----------
    task : Task
        Candidates, budget, batch size.
    features : Path
        Folder with ``train``, ``valid`` and ``test.parquet``.
    model_dir : Path
        Folder with ``model.pt``.
    out : Path
        Folder for ``<candidate>.onnx`` and ``candidates.json``.
    clock : Clock, optional
        What latency is measured with; the machine's own when absent.

    Returns
    -------
    Path
        ``candidates.json``: read it with `davy.compression.report.read_candidates`, and pick
        with `davy.compression.choose.choose`.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file is missing or does not fit the task, or a candidate does not keep the contract.
    """
    rng = np.random.default_rng(task.model.seed)
    train = read_examples(task, features / "train.parquet").sample(task.model.train_baskets, rng)
    valid = read_examples(task, features / "valid.parquet").sample(VALID_REQUESTS, rng)
    test = read_examples(task, features / "test.parquet")
    network = load_network(task, model_dir / WEIGHTS)
    out.mkdir(parents=True, exist_ok=True)
    made = list(make(task, network, train, valid, out))
    measured = measure(task, made, test, clock or SystemClock())
    return write_candidates(out, judge(task.compression, measured))
