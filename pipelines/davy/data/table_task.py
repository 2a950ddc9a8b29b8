"""A task over one table of any origin: its schema and how it is read.

Belongs here: the fields of a classification or regression task, the rules between them.
Not here: ranking tasks (`davy.data.task`), reading the table (`davy.data.table`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import HandWritten, nearest, parse_model, read_document
from davy.data.task import Finite, Monitoring, Name, Positive, Range, Rollout, Zone

Kind = Literal["classification", "regression"]
SUFFIXES = (".csv", ".parquet")
PACKAGE = "completejourney:"
RESERVED = frozenset({"score", "label", "block", "probabilities", "predicted"})

# All are better when higher, which is how baselines and floors are compared.
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("accuracy", "macro_precision", "macro_recall", "macro_f1"),
    "regression": ("r2",),
}


class TableFeature(HandWritten):
    """One input of the model, from one column of the table.

    A category is served as a code: 0 for a missing or unknown value, from 1 on the ``categories``
    in their order. ``range`` and ``policy`` are of numbers; ``missing`` as in a ranking task.
    ``transform: log`` has the model read a skewed number x as sign(x) log(1 + abs(x)); it is
    served, watched and checked as it is.
    """

    name: Name
    column: str | None = None
    type: Literal["number", "category"]
    unit: str | None = None
    range: Range | None = None
    categories: tuple[str, ...] = ()
    transform: Literal["none", "log"] = "none"
    policy: Literal["reject", "clip", "flag"] = "flag"
    missing: Literal["allow", "reject", "flag"] = "allow"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in RESERVED or self.name.startswith("segment_"):
            raise ValueError(f"'{self.name}' is the name of another column of a reference")
        if self.type == "number" and self.categories:
            raise ValueError(f"number '{self.name}' cannot have categories: say type: category")
        if self.type == "category" and self.transform != "none":
            raise ValueError(f"category '{self.name}' cannot have a transform")
        if self.type == "category" and not self.categories:
            raise ValueError(f"category '{self.name}' needs categories: [...]")
        if self.type == "category" and self.range is not None:
            raise ValueError(f"category '{self.name}' cannot have a range: list its categories")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"category '{self.name}' lists one of its categories twice")
        return self

    @property
    def source(self) -> str:
        """Name of the column that it comes from."""
        return self.column or self.name


class TableSegment(HandWritten):
    """A column that rows are measured by and that the model never sees, as an age group."""

    name: Name
    column: str | None = None
    categories: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"segment '{self.name}' lists one of its categories twice")
        return self

    @property
    def source(self) -> str:
        """Name of the column that it comes from."""
        return self.column or self.name


class TableData(HandWritten):
    """The table: ``file://`` and a CSV or Parquet file, relative to the task's own folder.

    Or ``completejourney:``, or ``file://`` and a folder with the Parquet files of a shop; then
    ``table`` names what Davy builds from them (`davy.features.tables`), by days of ``timezone``.
    """

    source: str
    table: Name | None = None
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _known(self) -> Self:
        path = self.source.removeprefix("file://")
        if self.source != PACKAGE and (path == self.source or not path):
            raise ValueError(
                f"'{self.source}' cannot be read: write file://NAME.csv or file://NAME.parquet,"
                f" or '{PACKAGE}' with data.table"
            )
        if self.is_file and self.table is not None:
            raise ValueError("data.table is of a shop's folder: a file is a table already")
        if not self.is_file and self.table is None:
            raise ValueError(
                f"'{self.source}' cannot be read as one table: write file://NAME.csv or"
                " file://NAME.parquet, or say in data.table what is to be built from a folder"
            )
        return self

    @property
    def is_file(self) -> bool:
        """Whether the source is the table itself."""
        return self.source.endswith(SUFFIXES)


class TableLabel(HandWritten):
    """The column to predict. Of two ``classes`` the second is the one whose chance is the score.

    A label is known ``delay_days`` after the row's time, or at the time in the column
    ``known_at``; rows whose label was not known when the test rows begin are not learnt from.
    """

    name: str
    classes: tuple[str, ...] = ()
    delay_days: Annotated[int, Field(ge=0)] = 0
    known_at: str | None = None


class Shares(HandWritten):
    """Parts of the rows: the earliest train, the latest test; without a time, drawn by entity."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _whole(self) -> Self:
        whole = self.train + self.valid + self.test
        if abs(whole - 1.0) > 1e-6:
            raise ValueError(f"train, valid and test add up to {whole:g}, not 1")
        return self


class TableObjective(HandWritten):
    """The measure that decides, and the value below which nothing ships."""

    metric: str
    floor: Finite = 0.0


class TableModel(HandWritten):
    """Family and effort.

    ``hidden`` and ``epochs`` are of the MLP, ``trees`` (the most rounds) and ``leaves`` of ``gbm``,
    which is LightGBM; so are ``members``, fits of successive seeds whose mean is the model.
    ``learning_rate`` is of both, each with its own when absent.
    """

    family: Literal["linear", "mlp", "gbm"] = "linear"
    hidden: tuple[Positive, ...] = (64, 32)
    epochs: Positive = 60
    trees: Positive = 600
    members: Positive = 1
    leaves: Annotated[int, Field(ge=2)] = 7
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7


class TableTask(HandWritten):
    """The whole of a task over one table."""

    schema_version: Literal["1"] = "1"
    name: Name
    kind: Kind
    data: TableData
    entity: str | None = None
    time: str | None = None
    label: TableLabel
    features: Annotated[tuple[TableFeature, ...], Field(min_length=1)]
    segments: tuple[Name | TableSegment, ...] = ()
    split: Shares = Shares()
    objective: TableObjective
    model: TableModel = TableModel()
    monitoring: Monitoring = Monitoring()
    rollout: Rollout = Rollout()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"features names '{twice[0]}' twice")
        if self.kind == "classification" and len(set(self.label.classes)) < 2:
            raise ValueError("label.classes needs two different classes or more")
        if self.kind == "regression" and self.label.classes:
            raise ValueError("label.classes is of classification: leave it out")
        leaks = [f.name for f in self.features if f.source == self.label.name]
        if leaks:
            raise ValueError(f"feature '{leaks[0]}' is the label itself")
        kinds = {feature.name: feature.type for feature in self.features}
        for segment in self.segments:
            if isinstance(segment, TableSegment):
                if segment.name in kinds:
                    raise ValueError(f"segment '{segment.name}' is the name of a feature")
                if segment.source == self.label.name:
                    raise ValueError(f"segment '{segment.name}' is the label itself")
            elif kinds.get(segment) != "category":
                known = [name for name, kind in kinds.items() if kind == "category"]
                raise ValueError(f"segment '{segment}' is no category{nearest(segment, known)}")
        cuts = [cut.name for cut in self.cuts]
        twice = sorted({name for name in cuts if cuts.count(name) > 1})
        if twice:
            raise ValueError(f"segments names '{twice[0]}' twice")
        if self.label.known_at is not None and self.time is None:
            raise ValueError("label.known_at needs time: when is each row's prediction made?")
        if self.objective.metric not in METRICS[self.form]:
            known = list(METRICS[self.form])
            raise ValueError(
                f"objective.metric '{self.objective.metric}' is not of a {self.form} task"
                f"{nearest(self.objective.metric, known)} (known: {', '.join(known)})"
            )
        return self

    @property
    def cuts(self) -> tuple[TableSegment, ...]:
        """The segments with their column and categories, in the order of the task."""
        by_name = {feature.name: feature for feature in self.features}
        return tuple(
            segment
            if isinstance(segment, TableSegment)
            else TableSegment(
                name=segment,
                column=by_name[segment].source,
                categories=by_name[segment].categories,
            )
            for segment in self.segments
        )

    @property
    def form(self) -> Literal["binary", "multiclass", "regression"]:
        """What the model gives: one chance, one a class, or a number."""
        if self.kind == "regression":
            return "regression"
        return "binary" if len(self.label.classes) == 2 else "multiclass"


def is_table_task(document: Any) -> bool:
    """Tell whether a task's document is of one table rather than of a ranking."""
    return isinstance(document, dict) and document.get("kind") in ("classification", "regression")


def load_table_task(path: Path) -> TableTask:
    """Read a task file; the table's address becomes absolute.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It does not fit; names the field and its nearest match.
    """
    task = parse_table_task(read_document(path), where=str(path))
    if task.data.source == PACKAGE:
        return task
    place = path.resolve().parent / task.data.source.removeprefix("file://")
    return task.model_copy(
        update={"data": task.data.model_copy(update={"source": f"file://{place}"})}
    )


def parse_table_task(document: Any, *, where: str) -> TableTask:
    """Read a task from its document, or from its YAML text; errors as in `load_table_task`."""
    if isinstance(document, str):
        document = yaml.safe_load(document)
    if not isinstance(document, dict):
        raise InvalidInputError(
            "a task is a mapping of fields to values", where=where, fix="Start with 'name: ...'"
        )
    return parse_model(document, TableTask, where=where)


def table_path(task: TableTask) -> Path:
    """Return the path of the task's table.

    Raises
    ------
    NotFoundError
        There is no such file.
    """
    path = Path(task.data.source.removeprefix("file://"))
    if not path.is_file():
        raise NotFoundError("no such table", where=str(path), fix="Correct data.source")
    return path
