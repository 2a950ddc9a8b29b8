"""The steps as Kubeflow components: names, types and paths, nothing else.

Belongs here: one component a step. Not here: what the step does (`davy.kubeflow.steps`).

A component's body is cut out and run in a process of its own, so it imports what it uses. There
is no ``from __future__ import annotations``: kfp reads the annotations themselves.
"""

# kfp has no types.
# mypy: disable-error-code="untyped-decorator"

from kfp import dsl

# Holds Davy with its `train` extra; the word python keeps kfp.local from warning about it.
IMAGE = "davylamp/pipeline-python:0.1.0"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare_data(task_text: str, households: int, data: dsl.Output[dsl.Dataset]) -> None:
    """Read, check and clean the task's tables."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.prepare_data(task_text, households, out=Path(data.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_features(
    task_text: str, data: dsl.Input[dsl.Dataset], features: dsl.Output[dsl.Dataset]
) -> None:
    """Make one row for each request and product."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.build_features(task_text, Path(data.path), out=Path(features.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_model(
    task_text: str, features: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model]
) -> None:
    """Train the model."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.train_model(task_text, Path(features.path), out=Path(model.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_model(
    task_text: str,
    features: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Measure the trained model and the baselines on held-out requests."""
    import json
    from pathlib import Path

    from davy.kubeflow import steps

    values = steps.evaluate_model(
        task_text, Path(features.path), Path(model.path), out=Path(evaluation.path)
    )
    for name, value in values.items():
        metrics.log_metric(name, value)
    # kfp's local cache takes an output without a file for one that was lost.
    Path(metrics.path).write_text(json.dumps(values), encoding="utf-8")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compress_model(
    task_text: str,
    features: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    candidates: dsl.Output[dsl.Model],
) -> None:
    """Make and measure every candidate of the model."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.compress_model(
        task_text, Path(features.path), Path(model.path), out=Path(candidates.path)
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose_candidate(
    task_text: str, candidates: dsl.Input[dsl.Model], choice: dsl.Output[dsl.Artifact]
) -> None:
    """Choose a candidate on what was measured."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.choose_candidate(task_text, Path(candidates.path), out=Path(choice.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export_onnx(
    task_text: str,
    features: dsl.Input[dsl.Dataset],
    candidates: dsl.Input[dsl.Model],
    choice: dsl.Input[dsl.Artifact],
    exported: dsl.Output[dsl.Model],
) -> None:
    """Check the chosen candidate, write it as the model to serve, and measure that."""
    from pathlib import Path

    from davy.kubeflow import steps

    steps.export_onnx(
        task_text,
        Path(features.path),
        Path(candidates.path),
        Path(choice.path),
        out=Path(exported.path),
    )


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def package_model(
    task_text: str,
    store: str,
    parent: str,
    private_key: str,
    pipeline_run: str,
    data: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    candidates: dsl.Input[dsl.Model],
    choice: dsl.Input[dsl.Artifact],
    exported: dsl.Input[dsl.Model],
    package: dsl.Output[dsl.Model],
) -> str:
    """Write model and evidence into the store as one signed package; return its path."""
    from pathlib import Path

    from davy.kubeflow import steps

    written = steps.package_model(
        task_text,
        steps.Evidence(
            data=Path(data.path),
            features=Path(features.path),
            model=Path(model.path),
            candidates=Path(candidates.path),
            choice=Path(choice.path),
            exported=Path(exported.path),
        ),
        store=Path(store),
        parent=parent or None,
        private_key=Path(private_key) if private_key else None,
        pipeline_run=pipeline_run or None,
        out=Path(package.path),
    )
    package.metadata["version"] = written.contract.version
    package.metadata["identity"] = written.identity
    return str(written.path)
