"""The three models of the demo, each by a run of the real pipeline.

Belongs here: how the three differ, running the pipeline, finding what it made.
Not here: the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from davy.cli.demo.processes import Supervisor
from davy.core.errors import PermanentError
from davy.packaging.package import Package, read_package

PIPELINE_SECONDS = 600.0

# The first model sees few baskets. The better one is the task as it is written. The defective one
# is built by somebody who turned days into weeks: sound by its own evidence, wrong where it is
# served days, and unable to look up any household that was away for longer than its table holds.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "first": (
        "model.train_baskets=1500",
        "model.epochs=2",
        "compression.candidates=[fp32, int8]",
    ),
    "better": (),
    "defective": (
        "model.train_baskets=1500",
        "model.epochs=2",
        "compression.candidates=[fp32, int8]",
        "features.days_since_basket.unit=week",
        "features.days_since_basket.range=[0, 8]",
    ),
}

OnStep = Callable[[str], None]


class PipelineFailedError(PermanentError):
    """A pipeline run ended without a package."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """Runs the pipeline as ``davy pipeline run`` does, one process at a time."""

    supervisor: Supervisor
    task: Path
    store: Path
    work: Path
    private_key: Path
    public_key: Path
    households: int
    window_rows: int

    def train(self, variant: str, *, parent: str | None, on_step: OnStep) -> Package:
        """Run the pipeline for a variant and return its package, verified.

        Raises
        ------
        PipelineFailedError
            The pipeline failed; carries what it said.
        """
        command = [
            "davy",
            "pipeline",
            "run",
            str(self.task),
            f"--store={self.store}",
            f"--work={self.work / variant}",
            f"--households={self.households}",
            f"--key={self.private_key}",
        ]
        overrides = list(VARIANTS[variant])
        if self.window_rows:
            overrides.append(f"monitoring.window_rows={self.window_rows}")
        command += [f"--set={override}" for override in overrides]
        command += [f"--parent={parent}"] if parent else []
        name = f"pipeline-{variant}"
        child = self.supervisor.start(name, command)
        shown = 0

        def follow() -> bool:
            nonlocal shown
            ended = child.popen.poll() is not None
            lines = child.log.read_text(errors="replace").splitlines()
            for line in lines[shown:]:
                if re.match(r"[a-z-]+ +(done|cached|failed)", line):
                    on_step(line)
            shown = len(lines)
            return ended

        self.supervisor.wait_until(
            name, follow, what="the pipeline did not end", seconds=PIPELINE_SECONDS, ends=True
        )
        code = self.supervisor.finish(name, seconds=10)
        last = child.tail(1)
        if code != 0:
            raise PipelineFailedError(
                last.removeprefix("error: ") or f"ended with code {code}", where=name
            )
        return read_package(Path(last), public_key=self.public_key)

    def replay_file(self, variant: str) -> Path:
        """Return the held-out baskets that the variant's pipeline kept for replay."""
        found = sorted((self.work / variant).glob("**/features/replay.parquet"))
        if not found:
            raise PipelineFailedError("the pipeline kept no baskets for replay", where=variant)
        return found[-1]
