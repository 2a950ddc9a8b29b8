"""The policy file: what is promised of a model, and when it may be trained again.

Belongs here: its schema and what is refused. Not here: the decision (`davy.retrain.decide`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from davy.core.errors import NotFoundError
from davy.core.files import HandWritten, read_model
from davy.slo.spec import Name, Period

# What may stand in braces in a command.
WORDS = ("package", "version", "reason", "model", "spec")
Word = Annotated[str, StringConstraints(min_length=1)]


class Objective(HandWritten):
    """The performance that is promised: one bound of one measure.

    ``segment`` is as the detector exports it.
    """

    metric: Name
    at_least: float | None = None
    at_most: float | None = None
    segment: str = "all"

    @model_validator(mode="after")
    def _one_bound(self) -> Objective:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs at_least or at_most, one of them")
        return self

    def missed(self, value: float) -> bool:
        """Tell whether a value is on the wrong side of the bound."""
        if self.at_least is not None:
            return value < self.at_least
        return self.at_most is not None and value > self.at_most

    def loss(self, before: float, now: float) -> float:
        """Return by how much the measure got worse, below 0 when it got better."""
        return before - now if self.at_least is not None else now - before


class Drift(HandWritten):
    """Drift is a reason only while the estimated performance falls too.

    ``loss`` is by how much, against the estimate of ``since`` ago.
    """

    loss: float = Field(gt=0)
    since: Period = timedelta(days=7)


class Guards(HandWritten):
    """What must hold before anything is started.

    Attributes
    ----------
    cooldown : duration
        Between two starts, whatever came of the first.
    labels : int
        Labels that met an answer since the last start, at the least.
    labels_within : duration
        As far back as labels count where there was no start.
    violations : float
        Share of values in the last hour that break the contract, at most.
    rollouts : str
        Names of the rollouts that must not be in flight, as a regular expression.
    """

    cooldown: Period = timedelta(days=7)
    labels: int = Field(default=1000, ge=0)
    labels_within: Period = timedelta(days=28)
    violations: float = Field(default=0.01, ge=0, le=1)
    rollouts: Annotated[str, StringConstraints(pattern=r'^[^"\\]+$')] = ".*"


class Commands(HandWritten):
    """What is started: programs with their arguments, no shell.

    ``train`` prints the new package's folder as its last line; ``canary`` begins its rollout, and
    there is no other way to serve it. ``{package}``, ``{version}``, ``{model}``, ``{reason}`` are
    replaced; ``{spec}`` is a ModelRollout made from the file ``spec``, in which ``$version`` and
    ``$package`` are. ``timeout`` is for each.
    """

    train: tuple[Word, ...] = Field(min_length=1)
    canary: tuple[Word, ...] = Field(min_length=1)
    spec: Path | None = None
    timeout: Period = timedelta(hours=12)

    @model_validator(mode="after")
    def _known_words(self) -> Commands:
        for name, command in (("train", self.train), ("canary", self.canary)):
            known = WORDS if name == "canary" else ("model", "reason")
            for argument in command:
                try:
                    argument.format(**dict.fromkeys(known, ""))
                except (KeyError, IndexError, ValueError):
                    words = ", ".join(f"{{{word}}}" for word in known)
                    raise ValueError(f"{name}: '{argument}' may hold {words} in braces") from None
        text = " ".join(self.canary)
        if "{spec}" in text and self.spec is None:
            raise ValueError(
                "canary: {spec} is made from the file that 'spec' names: none is named"
            )
        if not any(word in text for word in ("{package}", "{version}", "{spec}")):
            raise ValueError(
                "canary: no argument holds {package}, {version} or {spec}, so it would not be the "
                "new one"
            )
        return self


class Policy(HandWritten):
    """When one model is trained again."""

    version: Literal["davy/v1"] = "davy/v1"
    model: Name
    objective: Objective
    drift: Drift | None = None
    guards: Guards = Guards()
    run: Commands


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such file; it is no policy, with the fields that are wrong.
    """
    policy = read_model(path, Policy)
    if policy.run.spec is None:
        return policy
    spec = path.parent / policy.run.spec
    if not spec.is_file():
        raise NotFoundError("no such file", where=f"{path}: run.spec: {spec}")
    return policy.model_copy(update={"run": policy.run.model_copy(update={"spec": spec})})
