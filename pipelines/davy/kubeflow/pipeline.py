"""The pipeline: which step takes what from which.

Belongs here: the graph. Not here: any step's work, running or compiling.
"""

# kfp has no types.
# mypy: disable-error-code="untyped-decorator,no-any-return"

from kfp import dsl

from davy.kubeflow import components


@dsl.pipeline(
    name="davy-train",
    description="From a task and its tables to a signed model package in a store.",
)
def train_and_package(
    task_text: str,
    store: str,
    households: int = 0,
    parent: str = "",
    private_key: str = "",
) -> str:
    """Return the path of the package in the store.

    Parameters
    ----------
    task_text : str
        The task file's text.
    store : str
        Folder of packages that the last step can write to.
    households : int
        Size of a seeded sample of households; 0 takes all.
    parent : str
        Version that this model is meant to replace; may be empty.
    private_key : str
        Path of the PEM key that signs, where the last step runs; empty leaves it unsigned.
    """
    data = components.prepare_data(task_text=task_text, households=households)
    # A server's cache key is the task's text, not the tables: they may change under one name.
    data.set_caching_options(enable_caching=False)
    features = components.build_features(task_text=task_text, data=data.outputs["data"])
    model = components.train_model(task_text=task_text, features=features.outputs["features"])
    evaluation = components.evaluate_model(
        task_text=task_text, features=features.outputs["features"], model=model.outputs["model"]
    )
    # A model below its floor ends the run here, before time is spent on compressing it.
    candidates = components.compress_model(
        task_text=task_text, features=features.outputs["features"], model=model.outputs["model"]
    ).after(evaluation)
    choice = components.choose_candidate(
        task_text=task_text, candidates=candidates.outputs["candidates"]
    )
    exported = components.export_onnx(
        task_text=task_text,
        features=features.outputs["features"],
        candidates=candidates.outputs["candidates"],
        choice=choice.outputs["choice"],
    )
    package = components.package_model(
        task_text=task_text,
        store=store,
        parent=parent,
        private_key=private_key,
        pipeline_run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        data=data.outputs["data"],
        features=features.outputs["features"],
        model=model.outputs["model"],
        candidates=candidates.outputs["candidates"],
        choice=choice.outputs["choice"],
        exported=exported.outputs["exported"],
    )
    # It writes outside the pipeline's own outputs: an old result would name a package that may
    # be gone from the store.
    package.set_caching_options(enable_caching=False)
    return package.outputs["Output"]
