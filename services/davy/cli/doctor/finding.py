"""What a check found, with its remedy, and what a list of them means as a whole.

Belongs here: the finding, its text and JSON, the exit code. Not here: any check.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from davy.core.errors import ConfigurationError


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    SKIP = "skip"  # not installed, not asked, not to be seen from here
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Raises
    ------
    ValueError
        It warns or fails and names no remedy.
    """

    check: str
    level: Level
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.level in {Level.WARN, Level.FAIL} and not self.remedy:
            raise ValueError(f"{self.check}: a finding that is not good needs a remedy")


def ok(check: str, says: str) -> Finding:
    """Return a finding that is good."""
    return Finding(check, Level.OK, says)


def skip(check: str, says: str, remedy: str = "") -> Finding:
    """Return a finding of what was not looked at, or is not there and need not be."""
    return Finding(check, Level.SKIP, says, remedy)


def warn(check: str, says: str, remedy: str) -> Finding:
    """Return a finding that a person should know of."""
    return Finding(check, Level.WARN, says, remedy)


def fail(check: str, says: str, remedy: str) -> Finding:
    """Return a finding with which Davy does not work."""
    return Finding(check, Level.FAIL, says, remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 78, a configuration that is wrong, if anything fails; else 0."""
    failed = any(item.level == Level.FAIL for item in findings)
    return ConfigurationError.exit_code if failed else 0


def as_text(findings: Sequence[Finding]) -> str:
    """Return one line a finding, its remedy below it, and a line that counts them."""
    width = max((len(item.check) for item in findings), default=0)
    lines = []
    for item in findings:
        lines.append(f"{item.level:<4}  {item.check:<{width}}  {item.says}")
        if item.remedy:
            lines.append(f"      {'':<{width}}  → {item.remedy}")
    counts = Counter(item.level for item in findings)
    lines.append(", ".join(f"{counts[level]} {level}" for level in Level))
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return the same for programs."""
    document = {"findings": [asdict(item) for item in findings], "exit_code": exit_code(findings)}
    return json.dumps(document, indent=2) + "\n"
