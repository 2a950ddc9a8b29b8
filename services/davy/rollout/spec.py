"""The spec of a rollout: the same YAML on a laptop and as a ModelRollout resource.

Belongs here: its schema, what is refused, and what follows from it by arithmetic.
Not here: where traffic and metrics live (adapters), what is decided (`davy.rollout.decide`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel

from davy.core.errors import InvalidInputError
from davy.core.files import HandWritten, parse_model, read_document
from davy.data.gate import Allowance, IndicatorName, Ratio
from davy.packaging.contract import GateDefault
from davy.protocol.names import baseline_version
from davy.protocol.shadow import TOLERANCES, tolerance_text
from davy.rollout.indicators import (
    NODE_LIKE,
    SHADOW_DIFFERENCES,
    SHADOW_ERRORS,
    SHADOW_SLOWNESS,
    SHIFT,
    segment_name,
)
from davy.rollout.series import MOST_COMPARED, Arms
from davy.rollout.shadow import ShadowCriterion
from davy.rollout.verdict import Criterion

API_VERSION = "davylamp.dev/v1alpha1"
KIND = "ModelRollout"

VetoName = Literal["drift", "signature", "compression"]

_DURATION = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$")


def parse_duration(value: Any) -> timedelta:
    """Read ``24h``, ``5m``, ``1h30m``, ``0.5s``; a bare number has no unit and is refused."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError(f"'{value}' is not a duration such as 30s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def duration_text(value: timedelta) -> str:
    """Return the seconds with their unit: what `parse_duration` reads back unchanged."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(duration_text, return_type=str)
]


class _Spec(HandWritten):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Step(_Spec):
    """Canary weight in percent, and what must be seen at it before the next."""

    weight: int = Field(ge=1, le=100)
    min_duration: Duration = timedelta(0)
    min_requests: int = Field(default=50, ge=0)


class Segments(_Spec):
    """Values of a label of the counters, each of which is judged beside the whole."""

    label: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")
    values: tuple[str, ...] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _distinct(self) -> Segments:
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"a value of {self.label} is named twice")
        return self


class Indicator(_Spec):
    """What is tolerable: ratio to the stable arm's rate, or the canary's own rate.

    ``share`` is this indicator's part of ``falseRollback`` relative to the others'. With
    ``segments`` it is judged as a whole and within each value: they share its part evenly, and all
    must pass.
    """

    name: IndicatorName
    ratio: Ratio = 1.5
    allowance: Allowance = 0.0
    share: float = Field(default=1.0, gt=0)
    segments: Segments | None = None

    @model_validator(mode="after")
    def _can_be_split(self) -> Indicator:
        if self.name == SHIFT and self.segments is not None:
            raise ValueError("shift is split by score bucket already: it takes no segments")
        return self

    def counted(self) -> tuple[str, ...]:
        """Return what is counted for it: the whole, then its segments."""
        if self.segments is None:
            return (self.name,)
        label, values = self.segments.label, self.segments.values
        return (self.name, *(segment_name(self.name, label, value) for value in values))


Tolerable = Annotated[float, Field(gt=0, lt=1)]


class Shadow(_Spec):
    """Requests that the canary answers before it serves anybody, and what is tolerable of that.

    ``requests`` is the fewest answers to compare. ``errors``, ``differences`` and ``slow`` are
    tolerable rates; without ``slow`` no answer is too late. Two answers differ when one output is
    further from the served one than ``tolerance``, relative or, below 1, absolute. ``share`` is
    this step's part of ``falseRollback`` relative to the indicators'.
    """

    requests: int = Field(default=500, ge=1, le=1_000_000_000)
    errors: Tolerable = 0.01
    differences: Tolerable = 0.01
    slow: Tolerable | None = None
    tolerance: float = 0.1
    share: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _counted(self) -> Shadow:
        if self.tolerance not in TOLERANCES:
            known = ", ".join(tolerance_text(value) for value in TOLERANCES)
            raise ValueError(f"tolerance must be one of {known}, not {self.tolerance:g}")
        return self

    def allowed(self) -> dict[str, float]:
        """Return the tolerable rates by the name of what is counted."""
        rates = {SHADOW_ERRORS: self.errors, SHADOW_DIFFERENCES: self.differences}
        return rates if self.slow is None else {**rates, SHADOW_SLOWNESS: self.slow}


class PrometheusSource(_Spec):
    """Where raw counters are read; ``selector`` adds to their label matchers (``job="x"``)."""

    url: str = "http://127.0.0.1:9090"
    selector: str = ""


class Analysis(_Spec):
    """How often to look, until when, at what, and how often it may be wrong.

    ``indicators`` left empty are taken from the candidate's package. A sample older than
    ``stale_after`` (default: three intervals, at least 10 s) is no evidence. With ``baseline`` the
    canary is compared with a fresh copy of the stable arm that has the same share of the traffic.
    """

    interval: Duration = timedelta(seconds=30)
    deadline: Duration = timedelta(hours=24)
    false_rollback: float = Field(default=0.05, gt=0, lt=0.5)
    false_promotion: float = Field(default=0.05, gt=0, lt=0.5)
    stale_after: Duration | None = None
    baseline: bool = False
    indicators: tuple[Indicator, ...] = ()
    vetoes: tuple[VetoName, ...] = ("signature", "compression")
    prometheus: PrometheusSource = PrometheusSource()

    @model_validator(mode="after")
    def _sensible(self) -> Analysis:
        names = [indicator.name for indicator in self.indicators]
        if len(set(names)) < len(names):
            raise ValueError(f"an indicator is named twice: {', '.join(names)}")
        if self.interval <= timedelta(0):
            raise ValueError("interval must be longer than 0s")
        if self.deadline < self.interval:
            raise ValueError("deadline is shorter than one interval: nothing could be decided")
        return self


class ServiceRef(_Spec):
    """The InferenceService that is changed (cluster only)."""

    name: str


class Candidate(_Spec):
    """What is to take over; its ``version`` names the arm everywhere."""

    version: str = Field(min_length=1)
    image: str | None = None
    package_uri: str | None = Field(default=None, alias="packageURI")


class RolloutSpec(_Spec):
    """The ``spec`` of a ModelRollout."""

    inference_service_ref: ServiceRef | None = None
    candidate: Candidate
    traffic: Literal["Auto", "Knative", "Standard"] = "Auto"
    shadow: Shadow | None = None
    steps: tuple[Step, ...] = Field(min_length=1)
    analysis: Analysis = Analysis()
    on_inconclusive: Literal["Hold", "Rollback"] = "Hold"
    paused: bool = False

    @model_validator(mode="after")
    def _ascending(self) -> RolloutSpec:
        weights = [step.weight for step in self.steps]
        if any(after <= before for before, after in itertools.pairwise(weights)):
            raise ValueError(f"steps must ascend in weight, not {weights}")
        if self.analysis.baseline and weights[-1] > MOST_COMPARED:
            raise ValueError(
                f"with a baseline a step's weight is at most {MOST_COMPARED}, not {weights[-1]}: "
                "the baseline has as much, and the stable arm must go on serving"
            )
        return self

    @model_validator(mode="after")
    def _reachable(self) -> RolloutSpec:
        if self.shadow is not None and self.traffic == "Knative":
            raise ValueError(
                "shadow: a canary in Knative mode cannot be reached before it has traffic; "
                "leave shadow out"
            )
        return self

    @property
    def mode(self) -> Literal["Auto", "Knative", "Standard"]:
        """KServe's mode that is asked for; a canary without traffic is reached in Standard only."""
        return "Standard" if self.shadow is not None and self.traffic == "Auto" else self.traffic

    @property
    def stale_after(self) -> timedelta:
        """Age beyond which a sample is no evidence."""
        limit = self.analysis.stale_after
        return limit or max(3 * self.analysis.interval, timedelta(seconds=10))

    def with_indicators(self, defaults: list[GateDefault]) -> RolloutSpec:
        """Return the spec with the package's indicators where it names none itself.

        Raises
        ------
        InvalidInputError
            Neither names one, or the package names one that is not known here.
        """
        if self.analysis.indicators:
            return self
        if not defaults:
            raise InvalidInputError(
                "no indicator: neither the spec nor the candidate's package names one",
                where="analysis.indicators",
                fix="Name at least one, such as {name: errors, ratio: 1.5, allowance: 0.001}",
            )
        document = self.document()
        document["analysis"]["indicators"] = [
            {"name": item.name, "ratio": item.ratio, "allowance": item.allowance}
            for item in defaults
        ]
        return parse_model(document, RolloutSpec, where="the package's rollout defaults")

    def criteria(self) -> tuple[Criterion, ...]:
        """Return what each indicator is judged by; see `davy.rollout.verdict` for the shares."""
        total = self._shares()
        return tuple(
            Criterion(
                name=name,
                ratio=indicator.ratio,
                allowance=indicator.allowance,
                alpha_fail=self.analysis.false_rollback
                * (indicator.share / total / len(indicator.counted())),
                alpha_pass=self.analysis.false_promotion,
                in_parts=indicator.name == SHIFT,
                node_like=indicator.name in NODE_LIKE,
            )
            for indicator in self.analysis.indicators
            for name in indicator.counted()
        )

    def shadow_criteria(self) -> tuple[ShadowCriterion, ...]:
        """Return what the step before the first weight is judged by; none without such a step."""
        if self.shadow is None:
            return ()
        allowed = self.shadow.allowed()
        alpha_fail = self.analysis.false_rollback * self.shadow.share / self._shares()
        return tuple(
            ShadowCriterion(name, rate, alpha_fail / len(allowed), self.analysis.false_promotion)
            for name, rate in allowed.items()
        )

    def limits(self) -> dict[str, Criterion | ShadowCriterion]:
        """Return what is tolerable of each thing that is judged, by its name."""
        judged: tuple[Criterion | ShadowCriterion, ...] = self.criteria()
        return {criterion.name: criterion for criterion in judged + self.shadow_criteria()}

    def _shares(self) -> float:
        own = self.shadow.share if self.shadow else 0.0
        return own + sum(indicator.share for indicator in self.analysis.indicators)

    def counted(self) -> tuple[str, ...]:
        """Return the names of what is counted: indicators and their segments."""
        return tuple(name for item in self.analysis.indicators for name in item.counted())

    def segment_labels(self) -> tuple[str, ...]:
        """Return the labels of the counters by which indicators are split."""
        labels = {item.segments.label for item in self.analysis.indicators if item.segments}
        return tuple(sorted(labels))

    def arms(self, stable: str) -> Arms:
        """Return the arms of a rollout that begins while a version serves."""
        baseline = baseline_version(stable) if self.analysis.baseline else ""
        return Arms(stable, self.candidate.version, baseline)

    def compared(self, weight: int) -> float:
        """Return the canary's part, 0 to 1, of the requests that are compared at its weight."""
        return 0.5 if self.analysis.baseline and weight else weight / 100

    def document(self) -> dict[str, Any]:
        """Return the spec as it is written in YAML or JSON; parses back to the same."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def settings_hash(self) -> str:
        """Return 16 hex digits of the sha256 of what evidence is judged by.

        Whether it is paused and where Prometheus is may change while a rollout goes on.
        """
        document = self.document()
        analysis = document["analysis"]
        del document["paused"], analysis["prometheus"]
        # A record from before there was a choice is one without.
        if not analysis["baseline"]:
            del analysis["baseline"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Metadata(HandWritten):
    """Name of the rollout; ``namespace`` and ``generation`` matter on a cluster only."""

    name: str = Field(min_length=1)
    namespace: str | None = None
    generation: int = 1


class Rollout(HandWritten):
    """A ModelRollout file."""

    api_version: Literal["davylamp.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["ModelRollout"]
    metadata: Metadata
    spec: RolloutSpec


def read_rollout(path: Path) -> Rollout:
    """Read a ModelRollout file.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It is not YAML, or does not fit; names the field and, for a misspelt one, the nearest.
    """
    return parse_model(read_document(path), Rollout, where=str(path))
