"""The evaluation step: quality on later weeks, overall and per segment, beside the baselines.

Belongs here: the steps over paths, and the floor below which nothing ships. Not here: the
measure, or the bootstrap.

It is done twice: of the trained network, which ends a run early where more work is in vain, and
of the file that ships, which is what a package may say of itself.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten, to_json, write_atomic
from davy.data.task import Task
from davy.packaging.contract import Interval, Metric
from davy.training.bootstrap import interval, resample
from davy.training.examples import Examples, read_examples
from davy.training.metrics import ndcg
from davy.training.scoring import file_scores

REPORT = "evaluation.json"
DRAWS = 2000
# A segment with fewer requests says too little to be shown or judged.
MINIMUM_REQUESTS = 100


class Evaluation(MachineWritten):
    """``evaluation.json``: the model and the baselines on the same test requests.

    ``lifts`` are the model's gains over each baseline, paired over requests; ``start`` and
    ``end`` the times of the first and the last of them; ``left_out`` names the segments with too
    few requests, and how many they have.
    """

    metrics: list[Metric]
    baselines: dict[str, Metric]
    lifts: dict[str, Interval]
    floor: float
    requests: int
    households: int
    start: datetime
    end: datetime
    left_out: dict[str, int] = Field(default_factory=dict)


def evaluate(task: Task, features: Path, model_dir: Path, out: Path) -> Evaluation:
    """Measure the trained network on the test weeks.

    Parameters
    ----------
    task : Task
        Objective, segments, seed.
    features : Path
        Folder with ``test.parquet``.
    model_dir : Path
        Folder with ``model.pt``.
    out : Path
        Folder for ``evaluation.json``, which is written also when the floor is not met.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file is missing or does not fit the task; or the objective is below its floor.
    """
    # Only here: measuring an ONNX file does without torch and its seconds of import.
    from davy.training.fitting import score
    from davy.training.network import load_network
    from davy.training.train import WEIGHTS

    examples = read_examples(task, features / "test.parquet")
    network = load_network(task, model_dir / WEIGHTS)
    return _passed(task, judge(task, examples, score(network, examples)), out)


def evaluate_file(task: Task, features: Path, onnx: Path, out: Path) -> Evaluation:
    """Measure an ONNX file on the test weeks, as onnxruntime serves it.

    Parameters, outcome and errors as in `evaluate`; `onnx` is the model's file.
    """
    examples = read_examples(task, features / "test.parquet")
    scores = file_scores(onnx, examples.features).astype(np.float64)
    return _passed(task, judge(task, examples, scores), out)


def _passed(task: Task, evaluation: Evaluation, out: Path) -> Evaluation:
    write_atomic(out / REPORT, to_json(evaluation))
    objective = evaluation.metrics[0]
    if objective.overall.value < task.objective.floor:
        raise InvalidInputError(
            f"{objective.name} is {objective.overall.value:.4f} on {evaluation.requests} test "
            f"requests, below the floor {task.objective.floor}",
            where=str(out / REPORT),
            fix="Improve the model or the features; lower objective.floor only with a reason",
        )
    return evaluation


def judge(task: Task, examples: Examples, scores: npt.NDArray[np.float64]) -> Evaluation:
    """Return the quality of `scores`, of shape [rows], and of the baselines."""
    rng = np.random.default_rng(task.model.seed)
    resamples = resample(examples.household, draws=DRAWS, rng=rng)
    enough, left_out = segment_groups(examples)

    def measure(quality: npt.NDArray[np.float64]) -> Metric:
        return Metric(
            name=task.objective.metric,
            overall=interval(resamples, quality),
            segments={name: interval(resamples, quality, mask) for name, mask in enough.items()},
        )

    quality = request_quality(task, examples, scores)
    baselines = {
        name: request_quality(task, examples, values.astype(np.float64))
        for name, values in examples.baselines.items()
    }
    return Evaluation(
        metrics=[measure(quality)],
        baselines={name: measure(values) for name, values in baselines.items()},
        lifts={name: interval(resamples, quality - values) for name, values in baselines.items()},
        floor=task.objective.floor,
        requests=examples.requests,
        households=int(np.unique(examples.household).size),
        start=examples.start,
        end=examples.end,
        left_out=left_out,
    )


def request_quality(
    task: Task, examples: Examples, scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the task's objective for each request, of shape [requests]."""
    return ndcg(
        scores, examples.label, examples.starts, examples.basket_size, k=task.objective.cutoff
    )


def segment_groups(
    examples: Examples,
) -> tuple[dict[str, npt.NDArray[np.bool_]], dict[str, int]]:
    """Return the segments with enough requests, and the sizes of those without."""
    enough, left_out = {}, {}
    for name, mask in examples.groups().items():
        count = int(mask.sum())
        if count >= MINIMUM_REQUESTS and np.unique(examples.household[mask]).size > 1:
            enough[name] = mask
        else:
            left_out[name] = count
    return enough, left_out
