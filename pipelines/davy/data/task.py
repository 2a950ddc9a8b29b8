"""``tasks/*.yaml``: what the ML engineer writes, its schema and how it is read.

Belongs here: the fields of a task, the rules between them, overrides, the text form.
Not here: which features exist (`davy.features.registry` knows them), and any work on data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from davy.core.errors import InvalidInputError
from davy.core.files import HandWritten, nearest, parse_model, read_document
from davy.data.gate import Allowance, IndicatorName, Ratio

SCHEMA_VERSION = "1"

PARTS = ("train", "valid", "test", "replay")

# Columns that a feature file has beside the features (`davy.features.build`).
RESERVED = frozenset(
    {
        "request_id", "household_id", "product_id", "time", "week", "label", "basket_size",
        "baseline_popularity", "baseline_personal", "score", "block",
    }
)  # fmt: skip

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone '{value}': write it as America/New_York") from None
    return value


Zone = Annotated[str, AfterValidator(_zone)]


def _as_pair(schema: dict[str, Any]) -> None:
    """Describe a range as it is written in a task file: a list of two numbers."""
    schema.pop("properties", None)
    schema.pop("required", None)
    schema.pop("additionalProperties", None)
    schema |= {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}


class Range(HandWritten):
    """Closed interval, written ``[low, high]``, in the unit of its feature."""

    model_config = ConfigDict(json_schema_extra=_as_pair)

    low: int | Finite
    high: int | Finite

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if len(value) != 2:
                raise ValueError(f"needs two values [low, high], has {len(value)}")
            return {"low": value[0], "high": value[1]}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    @model_serializer
    def _to_pair(self) -> list[int | float]:
        return [self.low, self.high]


class Feature(HandWritten):
    """One input of the model.

    ``range`` holds the allowed values in the feature's ``unit``. ``policy`` says what the
    predictor does with a value outside it, ``missing`` what it does with NaN; both go into the
    contract as they are.
    """

    name: Name
    type: Literal["number", "category"]
    unit: str | None = None
    range: Range | None = None
    policy: Literal["reject", "clip", "flag"] = "flag"
    missing: Literal["allow", "reject", "flag"] = "reject"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in RESERVED or self.name.startswith("segment_"):
            raise ValueError(f"'{self.name}' is the name of another column of a feature file")
        if self.type == "number":
            return self
        if self.range is None:
            raise ValueError(f"category '{self.name}' needs a range [low, high]")
        if {type(self.range.low), type(self.range.high)} != {int}:
            raise ValueError(f"category '{self.name}' needs a range of whole numbers")
        if self.missing != "reject":
            raise ValueError(f"category '{self.name}' cannot be missing: say missing: reject")
        return self

    @property
    def categories(self) -> int:
        """Number of codes of a category feature: ``high - low + 1``."""
        if self.type != "category" or self.range is None:
            raise InvalidInputError("only a category has codes", where=f"feature '{self.name}'")
        return int(self.range.high) - int(self.range.low) + 1


class Tables(HandWritten):
    """Names of the source's tables."""

    transactions: str = "transactions"
    products: str = "products"


class Data(HandWritten):
    """Where the tables come from: ``completejourney:`` or ``file://FOLDER`` of Parquet files.

    Times in the tables are UTC; a day, as features and the split know it, begins at midnight in
    ``timezone``.
    """

    source: str
    tables: Tables = Tables()
    timezone: Zone = "UTC"

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        is_folder = value.startswith("file://") and value != "file://"
        if value != "completejourney:" and not is_folder:
            raise ValueError(
                f"'{value}' cannot be read: sources are 'completejourney:' and 'file://FOLDER'"
            )
        return value


class Label(HandWritten):
    """What is predicted, and the days until it is known."""

    name: Name
    delay_days: Annotated[int, Field(ge=0)] = 0


class Candidates(HandWritten):
    """How many products the model ranks for each basket."""

    per_basket: Positive = 100


class Split(HandWritten):
    """Weeks of each part, first and last, both included; parts follow one another."""

    train: tuple[int, int]
    valid: tuple[int, int]
    test: tuple[int, int]
    replay: tuple[int, int]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ended = 0
        for name, (first, last) in self.parts().items():
            if first > last:
                raise ValueError(f"{name} starts in week {first}, after its end in week {last}")
            if first <= ended:
                raise ValueError(
                    f"{name} starts in week {first} but the part before it ends in week {ended}:"
                    " parts may not overlap, and later parts come later"
                )
            ended = last
        return self

    def parts(self) -> dict[str, tuple[int, int]]:
        """Return the first and last week by part, in the order of time."""
        return {name: getattr(self, name) for name in PARTS}


class Objective(HandWritten):
    """The measure that the model is chosen by, and the value below which nothing ships."""

    metric: Annotated[str, Field(pattern=r"^ndcg@[1-9][0-9]*$")]
    floor: Share = 0.0

    @property
    def cutoff(self) -> int:
        """The rank at which the metric stops looking: 10 of ``ndcg@10``."""
        return int(self.metric.partition("@")[2])


class ModelBudget(HandWritten):
    """Family, size and training effort of the model."""

    family: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Positive, ...], Field(min_length=1)] = (256, 128)
    epochs: Positive = 4
    train_baskets: Positive = 9000
    batch_rows: Positive = 4096
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.002
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7


CandidateName = Literal["fp32", "int8", "pruned", "pruned_int8"]


class CompressionBudget(HandWritten):
    """What compression may cost, at which batch size it must help, and what is tried."""

    budget: Share = 0.01
    batch: Positive = 100
    prefer: Literal["size", "latency"] = "size"
    candidates: tuple[CandidateName, ...] = ("fp32", "int8")
    prune_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    fine_tune_epochs: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _has_fallback(self) -> Self:
        if "fp32" not in self.candidates:
            raise ValueError("candidates must include fp32: the others are measured against it")
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates names one twice")
        return self


class Floors(HandWritten):
    """Smallest effect of each detector that is worth an alarm (a distance from 0 to 1)."""

    ks: Share = 0.12
    chi2: Share = 0.12
    missing: Share = 0.05


class Outliers(HandWritten):
    """How rows are scored, and the share of usual rows that may be flagged."""

    method: Literal["mahalanobis", "isolation_forest", "none"] = "mahalanobis"
    false_positive_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01


class Monitoring(HandWritten):
    """How windows are cut, what size of change matters, and how single rows are judged."""

    block: Literal["week"] = "week"
    window_rows: Annotated[int, Field(ge=50)] = 400
    floors: Floors = Floors()
    outliers: Outliers = Outliers()


class Indicator(HandWritten):
    """Margin (rate ratio) and allowance (canary's own rate) of one gate indicator."""

    name: IndicatorName
    ratio: Ratio
    allowance: Allowance


class Rollout(HandWritten):
    """Defaults of the gate for this task's models."""

    latency_objective_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    indicators: tuple[Indicator, ...] = ()


class Task(HandWritten):
    """The whole of a task file."""

    schema_version: Literal["1"] = "1"
    name: Name
    kind: Literal["ranking"]
    data: Data
    entity: str = "household_id"
    item: str = "product_id"
    time: str = "transaction_timestamp"
    label: Label
    candidates: Candidates = Candidates()
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    segments: tuple[Name, ...] = ()
    split: Split
    objective: Objective
    model: ModelBudget = ModelBudget()
    compression: CompressionBudget = CompressionBudget()
    monitoring: Monitoring = Monitoring()
    rollout: Rollout = Rollout()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named: dict[str, list[str]] = {
            "features": [feature.name for feature in self.features],
            "segments": list(self.segments),
            "rollout.indicators": [indicator.name for indicator in self.rollout.indicators],
        }
        for what, names in named.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} names '{twice[0]}' twice")
        if self.candidates.per_basket < self.objective.cutoff:
            raise ValueError(
                f"candidates.per_basket {self.candidates.per_basket} is below the"
                f" {self.objective.cutoff} that objective.metric looks at"
            )
        return self


def load_task(path: Path, overrides: Sequence[str] = ()) -> Task:
    """Read a task file.

    Parameters
    ----------
    path : Path
        The YAML file.
    overrides : sequence of str
        ``place=value``, as ``model.epochs=2``; an item of a list is addressed by its name, as
        ``features.unit_price.unit=cent``; the value is YAML. The outcome is checked like a file.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        The file or an override does not fit; names the field and its nearest match.
    """
    return _to_task(read_document(path), overrides, where=str(path))


def parse_task(text: str, overrides: Sequence[str] = ()) -> Task:
    """Read a task from its YAML text; overrides and errors as in `load_task`."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"cannot be parsed: {reason}", where="task text") from None
    return _to_task(document, overrides, where="task text")


def task_text(task: Task) -> str:
    """Return YAML that `parse_task` reads back to an equal task."""
    text: str = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)
    return text


def _to_task(document: Any, overrides: Sequence[str], *, where: str) -> Task:
    if not isinstance(document, dict):
        raise InvalidInputError(
            "a task is a mapping of fields to values", where=where, fix="Start with 'name: ...'"
        )
    for override in overrides:
        document = _overridden(document, override)
    return parse_model(document, Task, where=where)


def _overridden(document: dict[str, Any], override: str) -> dict[str, Any]:
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise InvalidInputError(
            "not of the form place=value",
            where=f"override '{override}'",
            fix="Write it as model.epochs=2",
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise InvalidInputError("the value is not YAML", where=f"override '{override}'") from None
    changed: dict[str, Any] = _with(document, keys, value, override)
    return changed


def _with(node: Any, keys: Sequence[str], value: Any, override: str) -> Any:
    """Return a copy of `node` in which the place `keys` holds `value`."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, list):
        names = [str(item.get("name")) if isinstance(item, Mapping) else "" for item in node]
        if key not in names:
            raise InvalidInputError(
                f"no item named '{key}'{nearest(key, names)}",
                where=f"override '{override}'",
                fix="An item of a list is addressed by its name",
            )
        index = names.index(key)
        return [*node[:index], _with(node[index], rest, value, override), *node[index + 1 :]]
    if node is None or isinstance(node, Mapping):
        inner = dict(node or {})
        return {**inner, key: _with(inner.get(key), rest, value, override)}
    raise InvalidInputError(f"'{key}' is inside a single value", where=f"override '{override}'")
