"""Decides once, and carries out what was decided.

Belongs here: the order of observing, deciding, recording and starting. Not here: each of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Protocol

from davy.core.clock import Clock
from davy.core.files import write_atomic
from davy.core.logging import get_logger
from davy.retrain.decide import Decision, decide, since
from davy.retrain.observe import Metrics, observe
from davy.retrain.policy import Policy
from davy.retrain.record import Line, Record

# Of what a program wrote, as much as a person needs to see why it failed.
TAIL = 2000


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended and what it wrote to standard output; None when its time was over."""

    code: int | None
    output: str
    errors: str = ""


class Programs(Protocol):
    """Runs programs."""

    def run(self, command: Sequence[str], seconds: float) -> Ran:
        """Run a program to its end, at most so many seconds."""
        ...


class Processes:
    """Programs of this machine; what they write to standard error is shown as it comes."""

    def run(self, command: Sequence[str], seconds: float) -> Ran:
        """Run a program to its end; past `seconds` it and what it started are killed."""
        try:
            program = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        except OSError as error:
            return Ran(127, "", f"{command[0]}: {error.strerror}")
        try:
            output, _ = program.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return Ran(None, "")
            raise
        return Ran(program.returncode, output)


@dataclass(frozen=True, slots=True)
class Retrainer:
    """Decides and starts for one policy."""

    policy: Policy
    metrics: Metrics
    record: Record
    programs: Programs
    clock: Clock

    def look(self) -> Decision:
        """Decide, and change nothing.

        Raises
        ------
        UnavailableError
            Metrics cannot be asked.
        """
        now = self.clock.now()
        past = self.record.past(now, self.policy.run.timeout)
        seen = observe(self.policy, self.metrics, since(self.policy, past, now))
        return decide(self.policy, seen, past, now)

    def once(self) -> tuple[Decision, str]:
        """Decide, record it, and train where that was decided.

        Returns
        -------
        tuple of Decision and str
            What was decided, and what came of it: none, blocked, trained, failed, canary_failed.

        Raises
        ------
        UnavailableError
            Metrics cannot be asked: nothing was decided.
        ConflictError
            Another process decides by the same record.
        """
        with self.record.alone():
            decision = self.look()
            asked = (*decision.reasons, *decision.guards)
            checks: dict[str, str] = {check.name: check.state for check in asked}
            self._write("decision", decision.outcome, decision.reason, checks=checks)
            if decision.outcome != "start":
                return decision, decision.outcome
            self._write("start", "", decision.reason)
            try:
                outcome, reason, package = self._train(decision.reason)
            except BaseException:
                self._write("end", "failed", "it was interrupted")
                raise
            self._write("end", outcome, reason, package=package)
        return decision, outcome

    def _train(self, reason: str) -> tuple[str, str, str]:
        words = {"model": self.policy.model, "reason": reason}
        ran = self._run(self.policy.run.train, words)
        if ran.code != 0:
            return "failed", _why(ran), ""
        lines = ran.output.split("\n")
        package = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not package or not Path(package).is_dir():
            return "failed", f"its last line names no folder: '{package[:200]}'", ""
        words |= {"package": package, "version": Path(package).name}
        if self.policy.run.spec is not None:
            words["spec"] = str(self._spec(self.policy.run.spec, words))
        ran = self._run(self.policy.run.canary, words)
        if ran.code != 0:
            return "canary_failed", _why(ran), package
        return "trained", "", package

    def _spec(self, template: Path, words: Mapping[str, str]) -> Path:
        """Write the rollout of a new package beside the record."""
        path = self.record.folder / f"{self.policy.model}-{words['version']}.yaml"
        write_atomic(path, Template(template.read_text("utf-8")).safe_substitute(words))
        return path

    def _run(self, command: Sequence[str], words: dict[str, str]) -> Ran:
        filled = [argument.format(**words) for argument in command]
        get_logger("retrain").info("program started", command=filled)
        return self.programs.run(filled, self.policy.run.timeout.total_seconds())

    def _write(
        self,
        event: str,
        outcome: str,
        reason: str,
        *,
        package: str = "",
        checks: dict[str, str] | None = None,
    ) -> None:
        fields = {
            "at": self.clock.now(),
            "event": event,
            "model": self.policy.model,
            "outcome": outcome,
            "reason": reason,
            "package": package,
            "checks": checks or {},
        }
        self.record.append(Line.model_validate(fields))


def _why(ran: Ran) -> str:
    if ran.code is None:
        return "it took longer than it may"
    said = (ran.errors or ran.output)[-TAIL:].strip()
    return f"it ended with exit code {ran.code}" + (f": {said}" if said else "")
