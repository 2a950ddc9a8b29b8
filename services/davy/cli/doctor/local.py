"""What follows from the facts of this machine.

Belongs here: pure checks. Not here: looking anything up (`davy.cli.doctor.local_facts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from davy.cli.doctor.finding import Finding, fail, ok, skip, warn

LICENCE = (
    "alibi-detect is under the Business Source License 1.1: "
    "production use in a commercial setting needs a licence"
)
LICENCE_REMEDY = "Have that licence, or set DAVY_DETECTOR_ENGINE=native for the same verdicts"
# Whoever may read the file may sign.
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class PortFact:
    """Whether a part could listen where it would."""

    part: str
    host: str
    port: int
    variable: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class KeyFact:
    """A key that a setting names.

    Attributes
    ----------
    kind : str
        ``public``, ``private`` or ``missing``; ``unreadable`` when it is no key.
    mode : int
        Permission bits of the file.
    """

    setting: str
    path: Path
    kind: str
    mode: int = 0


def python(version: str, requires: str) -> Finding:
    """Judge the interpreter by what the distribution asks for."""
    if version in SpecifierSet(requires):
        return ok("python", version)
    return fail(
        "python",
        f"{version}, and davylamp needs {requires}",
        "Make the virtual environment with Python 3.11 or 3.12",
    )


def davy(version: str | None) -> Finding:
    """Say which version of Davy runs."""
    if version is None:
        return fail(
            "davy",
            "runs from files that no distribution davylamp installed",
            "pip install davylamp, or 'make setup' in a clone",
        )
    return ok("davy", version)


def extras(
    names: Sequence[str], requirements: Sequence[str], installed: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Judge each extra: whole, not installed, or with a version that it does not allow.

    Parameters
    ----------
    names : sequence of str
        Of the extras; the empty one is what every role needs.
    requirements : sequence of str
        ``Requires-Dist`` of the distribution.
    installed : mapping
        Version by the name of the distribution, as its requirement has it.
    """
    parsed = [Requirement(text) for text in requirements]
    found = []
    for name in names:
        wanted = [item for item in parsed if _belongs(item, name)]
        check = f"extra {name}" if name else "libraries"
        wrong = [
            f"{item.name} {installed[item.name]} is not {item.specifier}"
            for item in wanted
            if item.name in installed and not item.specifier.contains(installed[item.name], True)
        ]
        lacking = sorted(item.name for item in wanted if item.name not in installed)
        install = f"pip install 'davylamp[{name}]'" if name else "pip install davylamp"
        if wrong:
            found.append(fail(check, "; ".join(wrong), install))
        elif not lacking:
            found.append(
                ok(check, f"{len(wanted)} {'library' if len(wanted) == 1 else 'libraries'}")
            )
        elif name:
            found.append(skip(check, f"not installed: lacks {', '.join(lacking)}", install))
        else:
            found.append(fail(check, f"lacks {', '.join(lacking)}", install))
    return tuple(found)


def _belongs(item: Requirement, extra: str) -> bool:
    if item.marker is None:
        return not extra
    # Without an extra a marker that names one is false: only what it adds is its own.
    applies = item.marker.evaluate({"extra": extra})
    return applies if not extra else applies and not item.marker.evaluate({"extra": ""})


def port(fact: PortFact) -> Finding:
    """Judge one port."""
    check, place = f"port {fact.part}", f"{fact.host}:{fact.port}"
    if not fact.problem:
        return ok(check, f"{place} is free")
    return warn(
        check,
        f"{place}: {fact.problem}",
        f"End what listens there, or set {fact.variable} (it may be this part itself)",
    )


def settings(part: str, problem: str) -> Finding:
    """Judge the settings of one part; the problem is the error of loading them."""
    if not problem:
        return ok(f"settings {part}", "are valid")
    return fail(f"settings {part}", problem, "Correct it: services/SETTINGS.md lists all settings")


def clock(now: datetime, newest: datetime) -> Finding:
    """Judge this machine's clock by the newest file that is installed."""
    said = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if now < newest:
        return fail(
            "clock",
            f"{said} is before the files of Davy were written ({newest:%Y-%m-%dT%H:%M:%SZ})",
            "Set the clock: synchronise with NTP",
        )
    return ok("clock", f"{said}; with --cluster it is compared with the API server's")


def keys(facts: Sequence[KeyFact]) -> tuple[Finding, ...]:
    """Judge the keys that settings name."""
    if not facts:
        return (
            skip(
                "keys",
                "no public key is set: signatures of packages are not checked here",
                "Set DAVY_PREDICTOR_PUBLIC_KEY; 'davy package keys DIR' makes a pair",
            ),
        )
    return tuple(_key(fact) for fact in facts)


def _key(fact: KeyFact) -> Finding:
    check = f"key {fact.setting}"
    if fact.kind == "missing":
        return fail(check, f"{fact.path}: no such file", "Mount the key there, or correct the path")
    if fact.kind == "unreadable":
        return fail(
            check, f"{fact.path} is no PEM key", "Take the .pub file of 'davy package keys DIR'"
        )
    if fact.kind == "private":
        others = " and others may read it" if fact.mode & _OTHERS else ""
        return fail(
            check,
            f"{fact.path} is the private key{others}: who verifies must not hold it",
            "Take the .pub file beside it, and make a new pair where others had the private one",
        )
    return ok(check, str(fact.path))


def licence(engine: str, installed: bool) -> Finding:
    """Say under which licence the detector's engine is."""
    if engine == "native":
        return ok("licence", "the detector's engine is native: no part is under another licence")
    if not installed:
        return skip("licence", "alibi-detect is not installed here")
    return warn("licence", LICENCE, LICENCE_REMEDY)
