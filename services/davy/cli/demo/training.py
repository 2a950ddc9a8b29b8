"""The three models of the demo, each by a run of the real pipeline.

Belongs here: how the three differ, running the pipeline, finding what it made.
Not here: the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from davy.cli.demo.processes import Child, Supervisor
from davy.core.errors import PermanentError
from davy.packaging.package import Package, read_package

PIPELINE_SECONDS = 600.0

# The first model sees few baskets. The better one is the task as it is written. The defective one
# is built by somebody who turned days into weeks: sound by its own evidence, wrong where it is
# served days, and unable to look up any household that was away for longer than its table holds.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "first": (
        "model.train_baskets=600",
        "model.epochs=1",
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

_STEP = re.compile(r"[a-z-]+ +(done|cached|failed)")


class PipelineFailedError(PermanentError):
    """A pipeline run ended without a package; ``exit_code`` is that of the run."""

    def __init__(self, what: str, *, where: str, exit_code: int) -> None:
        super().__init__(what, where=where)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Trainer:
    """Runs pipelines as ``davy pipeline run`` does, each in a process of its own."""

    supervisor: Supervisor
    task: Path
    store: Path
    work: Path
    private_key: Path
    public_key: Path
    households: int
    window_rows: int

    def train(
        self, variants: Sequence[str], *, parent: str | None, on_step: OnStep
    ) -> dict[str, Package]:
        """Run the pipelines of some variants side by side and return their packages, verified.

        Raises
        ------
        PipelineFailedError
            A pipeline failed; carries what it said and its exit code.
        """
        runs = {variant: self._start(variant, parent) for variant in variants}
        shown = dict.fromkeys(variants, 0)

        def follow() -> bool:
            ended = [run.popen.poll() is not None for run in runs.values()]
            for variant, run in runs.items():
                lines = run.log.read_text(errors="replace").splitlines()
                for line in lines[shown[variant] :]:
                    if _STEP.match(line):
                        on_step(f"{variant:<10} {line}")
                shown[variant] = len(lines)
            # One that failed need not be waited for by the others.
            failed = any(run.popen.poll() for run in runs.values())
            return all(ended) or failed

        self.supervisor.wait_until(
            next(iter(runs.values())).name,
            follow,
            what="the pipeline did not end",
            seconds=PIPELINE_SECONDS,
            ending=[run.name for run in runs.values()],
        )
        for run in runs.values():
            if run.popen.poll():
                raise PipelineFailedError(
                    run.tail(1).removeprefix("error: ") or "it ended without a word",
                    where=run.name,
                    exit_code=run.popen.returncode,
                )
        return {variant: self._package(run) for variant, run in runs.items()}

    def _start(self, variant: str, parent: str | None) -> Child:
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
        return self.supervisor.start(f"pipeline-{variant}", command)

    def _package(self, run: Child) -> Package:
        self.supervisor.finish(run.name, seconds=10)
        return read_package(Path(run.tail(1)), public_key=self.public_key)

    def replay_file(self, variant: str) -> Path:
        """Return the held-out baskets that the variant's pipeline kept for replay."""
        found = sorted((self.work / variant).glob("**/features/replay.parquet"))
        if not found:
            raise PipelineFailedError(
                "the pipeline kept no baskets for replay", where=variant, exit_code=70
            )
        return found[-1]
