"""The pipeline's steps over paths: each reads what it takes and calls the part that does it.

Belongs here: from the files of the steps before to a call. Not here: the work, and kfp.

Each part is imported where it is called, so that a step loads only what it needs: torch alone
takes seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from davy.core.clock import SystemClock
from davy.core.files import read_model, to_json, write_atomic
from davy.data.task import parse_task
from davy.kubeflow.code import code_version
from davy.kubeflow.failure import recorded
from davy.kubeflow.findings import read_findings
from davy.packaging.assemble import assemble
from davy.packaging.contract import Compression
from davy.packaging.package import MODEL, REFERENCE, Package, write_package

CHOICE = "compression.json"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The folders of the steps before packaging."""

    data: Path
    features: Path
    model: Path
    candidates: Path
    choice: Path
    exported: Path


@recorded
def prepare_data(task_text: str, households: int, *, out: Path) -> None:
    """Write the clean tables; `households` 0 takes all."""
    from davy.data.prepare import prepare

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    prepare(task, out, households=households or None)


@recorded
def build_features(task_text: str, data: Path, *, out: Path) -> None:
    """Write the feature files."""
    from davy.features.build import build

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    build(task, data, out)


@recorded
def train_model(task_text: str, features: Path, *, out: Path) -> None:
    """Write the weights."""
    from davy.training.train import train

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    train(task, features, out)


@recorded
def evaluate_model(task_text: str, features: Path, model: Path, *, out: Path) -> dict[str, float]:
    """Write the evaluation; return overall values by name, for the run's page."""
    from davy.training.evaluate import evaluate

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate(task, features, model, out)
    values = {metric.name: metric.overall.value for metric in evaluation.metrics}
    for name, metric in evaluation.baselines.items():
        values[f"{metric.name} {name}"] = metric.overall.value
    return values


@recorded
def compress_model(task_text: str, features: Path, model: Path, *, out: Path) -> None:
    """Write and measure the candidates."""
    from davy.compression.compress import compress

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    compress(task, features, model, out)


@recorded
def choose_candidate(task_text: str, candidates: Path, *, out: Path) -> None:
    """Write which candidate was chosen, and why."""
    from davy.compression.choose import choose
    from davy.compression.report import read_candidates

    task = parse_task(task_text)
    measured = read_candidates(candidates)
    write_atomic(out / CHOICE, to_json(choose(task.compression, measured)))


@recorded
def export_onnx(
    task_text: str, features: Path, candidates: Path, choice: Path, *, out: Path
) -> None:
    """Write the chosen candidate as the model to serve, and what it is worth."""
    from davy.compression.export import finish
    from davy.training.evaluate import evaluate_file

    task = parse_task(task_text)
    chosen = read_model(choice / CHOICE, Compression).chosen
    out.mkdir(parents=True, exist_ok=True)
    model = finish(candidates / f"{chosen}.onnx", task, out)
    evaluate_file(task, features, model, out)


@recorded
def package_model(
    task_text: str,
    evidence: Evidence,
    *,
    store: Path,
    parent: str | None,
    private_key: Path | None,
    pipeline_run: str | None,
    out: Path,
) -> Package:
    """Write the package into `store`, and where it is into `out`."""
    from davy.training.calibrate import calibrate
    from davy.training.outliers import calibrate_outliers
    from davy.training.reference import write_reference

    task = parse_task(task_text)
    out.mkdir(parents=True, exist_ok=True)
    model = evidence.exported / MODEL
    reference = write_reference(task, evidence.features, model, out)
    reports = {
        "quality.json": evidence.data / "quality.json",
        "features.json": evidence.features / "features.json",
        "training.json": evidence.model / "training.json",
        "evaluation.json": evidence.exported / "evaluation.json",
        "candidates.json": evidence.candidates / "candidates.json",
    }
    outliers = calibrate_outliers(task, reference, model, out)
    task_file = out / "task.yaml"
    write_atomic(task_file, task_text)
    contract = assemble(
        task,
        read_findings(
            quality=reports["quality.json"],
            training=reports["training.json"],
            evaluation=reports["evaluation.json"],
            compression=read_model(evidence.choice / CHOICE, Compression),
            calibration=calibrate(task, reference),
            outliers=outliers,
        ),
        created=SystemClock().now(),
        code_version=code_version(),
        parent=parent,
        pipeline_run=pipeline_run,
    )
    package = write_package(
        store,
        contract,
        {
            MODEL: model,
            REFERENCE: reference,
            **({outliers.file: out / outliers.file} if outliers else {}),
            "evidence/task.yaml": task_file,
            **{f"evidence/{name}": path for name, path in reports.items()},
        },
        private_key=private_key,
    )
    pointer = {
        "package": str(package.path),
        "version": package.contract.version,
        "identity": package.identity,
    }
    write_atomic(out / "package.json", json.dumps(pointer, indent=2) + "\n")
    return package
