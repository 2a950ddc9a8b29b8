"""The demo from the first pipeline to the last alarm, and what is claimed of each part.

Belongs here: the order of things and the claims. Not here: how each part works or is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from prometheus_client import CollectorRegistry, start_http_server

from davy.cli.demo import requests
from davy.cli.demo.canary import Canaries, CanaryResult
from davy.cli.demo.claims import Claim, interval_text
from davy.cli.demo.oncall import Pager
from davy.cli.demo.ports import HOST, PORT_ADVICE
from davy.cli.demo.stack import MODEL, Stack
from davy.cli.demo.tally import Tally
from davy.cli.demo.traffic import Traffic
from davy.cli.demo.training import Trainer
from davy.cli.demo.watch import DRIFT_ALERT, Alert, Watch
from davy.core.clock import SystemClock
from davy.core.errors import ConflictError
from davy.packaging.contract import Interval
from davy.packaging.package import MODEL as MODEL_FILE
from davy.packaging.package import Package
from davy.rollout.decide import Decision
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.state import Phase

WARM_SECONDS = 3.0
QUIET_SECONDS = 240.0
POLL_SECONDS = 0.5


class Teller(Protocol):
    """Shows a person what happens."""

    def chapter(self, title: str) -> None:
        """Begin a part of the demo."""
        ...

    def say(self, text: str) -> None:
        """Show one line."""
        ...

    def look(self, decision: Decision) -> None:
        """Show a look at a canary."""
        ...


@dataclass(slots=True)
class Findings:
    """Everything that the summary and the report are made from."""

    packages: dict[str, Package] = field(default_factory=dict)
    canaries: list[CanaryResult] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    drift_sent: float = 0.0
    drift_seconds: dict[str, float] = field(default_factory=dict)
    traffic: list[dict[str, Any]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def claim(self, name: str, expected: str, seen: str, *, holds: bool) -> None:
        """Note one claim."""
        self.claims.append(Claim(name, expected, seen, holds))


class Story:
    """Tells the whole loop on real processes.

    Parameters
    ----------
    stack : Stack
        The programs; whoever made it ends them.
    teller : Teller
        Where progress is shown.
    """

    def __init__(self, stack: Stack, teller: Teller) -> None:
        self.settings = stack.settings
        self.findings = Findings()
        self.stack = stack
        self._teller = teller
        self._state = stack.state
        self._supervisor = stack.supervisor
        self._trainer = Trainer(
            supervisor=stack.supervisor,
            task=stack.root / "pipelines" / "tasks" / f"{MODEL}.yaml",
            store=stack.store,
            work=stack.state / "pipelines",
            private_key=stack.private_key,
            public_key=stack.public_key,
            households=stack.settings.households,
            window_rows=stack.settings.window_rows,
        )

    def tell(self) -> Findings:
        """Run everything and return what was found; the programs go on running."""
        versions = self._train()
        with Pager(self.stack.addresses.pager) as pager:
            self._operate(versions, pager)
        self._replay()
        return self.findings

    def _operate(self, versions: Mapping[str, str], pager: Pager) -> None:
        traffic, canaries = self._serve(versions["first"])
        self._canary(canaries, "better", stable="first", versions=versions)
        serving = versions["better"] if self._promoted("better") else versions["first"]
        self._canary(canaries, "defective", stable=serving, versions=versions)
        watch = Watch(
            detector=self.stack.addresses.url("detector"),
            prometheus=self.stack.addresses.url("prometheus"),
            alertmanager=self.stack.addresses.url("alertmanager"),
        )
        try:
            self._quiet(watch, serving)
            self._drift(watch, pager, traffic, serving)
            self.findings.windows = watch.windows(serving)
        finally:
            watch.close()
        tally = traffic.finish()
        self.findings.traffic = traffic.lines()
        self._count(tally, versions["defective"])

    def _promoted(self, name: str) -> bool:
        return any(c.name == name and c.phase is Phase.PROMOTED for c in self.findings.canaries)

    def _train(self) -> dict[str, str]:
        packages = self.findings.packages
        self._teller.chapter("Pipeline: the first model")
        packages |= self._trainer.train(["first"], parent=None, on_step=self._teller.say)
        parent = packages["first"].contract.version
        self._teller.chapter("Pipelines: a better successor, and one with a defect")
        packages |= self._trainer.train(
            ["better", "defective"], parent=parent, on_step=self._teller.say
        )
        for variant, package in packages.items():
            contract = package.contract
            quality = contract.metrics[0]
            size = package.manifest.files[MODEL_FILE].size
            self._teller.say(
                f"{variant:<10} {contract.version}: {quality.name} "
                f"{interval_text(quality.overall)}, {contract.quantization}, {size:,} bytes"
            )
        better, first = packages["better"].contract, packages["first"].contract
        value, before = better.metrics[0].overall.value, first.metrics[0].overall.value
        evidence = orjson.loads(packages["better"].content("evidence/evaluation.json"))
        lifts = {name: Interval.model_validate(item) for name, item in evidence["lifts"].items()}
        self.findings.claim(
            "models",
            "three signed packages; the better one is above both baselines (paired, 95 %) and "
            "above the first",
            f"{better.metrics[0].name} {before:.4f}, then {value:.4f}; "
            + "; ".join(f"over {name} {interval_text(x)}" for name, x in lifts.items()),
            holds=value > before and bool(lifts) and all(x.lower > 0 for x in lifts.values()),
        )
        chosen = better.compression.chosen
        self.findings.claim(
            "compression",
            "the better model is served pruned and in int8, on evidence",
            f"{chosen}: {better.compression.why}",
            holds=chosen == "pruned_int8",
        )
        return {variant: package.contract.version for variant, package in packages.items()}

    def _serve(self, first: str) -> tuple[Traffic, Canaries]:
        self._teller.chapter("Serving the first model")
        self.stack.start_watchers()
        url = self.stack.start_arm(first)
        self.stack.wait_watchers()
        registry = CollectorRegistry()
        self._export(registry)
        canaries = Canaries(self.stack, SystemClock(), RolloutMetrics(registry))
        canaries.route_all(first, url)
        prepared = self._state / "requests"
        count = requests.prepare(
            self._trainer.replay_file("first"),
            self.findings.packages["first"].contract.inputs,
            prepared,
        )
        self._teller.say(
            f"{count:,} held-out baskets, replayed at {self.settings.rate:.0f} requests a second"
        )
        traffic = Traffic(
            self._supervisor,
            url=f"{self.stack.addresses.url('router')}/v2/models/{MODEL}/infer",
            requests=prepared,
            rate=self.settings.rate,
            out=self._state / "traffic.jsonl",
        )
        time.sleep(WARM_SECONDS)
        return traffic, canaries

    def _export(self, registry: CollectorRegistry) -> None:
        port = self.stack.addresses.engine
        try:
            start_http_server(port, addr=HOST, registry=registry)
        except OSError as error:
            raise ConflictError(
                f"cannot listen on port {port}: {error.strerror}", where=HOST, fix=PORT_ADVICE
            ) from None

    def _canary(
        self, canaries: Canaries, name: str, *, stable: str, versions: Mapping[str, str]
    ) -> None:
        self._teller.chapter(f"Canary: the {name} candidate")
        result = canaries.run(
            name,
            stable=versions.get(stable, stable),
            candidate=versions[name],
            on_look=self._teller.look,
        )
        self.findings.canaries.append(result)
        reason = result.decisive.message
        if name == "better":
            self.findings.claim(
                "canary of the better model",
                "promoted over 5, 25 and 50 %",
                f"{result.phase}; {reason}",
                holds=result.phase is Phase.PROMOTED and _weights(result) == [5, 25, 50, 100],
            )
        else:
            failing = ", ".join(result.failing) or "none"
            self.findings.claim(
                "canary of the defective model",
                "rolled back, the indicator errors named",
                f"{result.phase}; failing: {failing}; {reason}",
                holds=result.phase is Phase.ROLLED_BACK and "errors" in result.failing,
            )

    def _quiet(self, watch: Watch, version: str) -> None:
        self._teller.chapter("A quiet period")
        wanted = self.settings.quiet_windows
        seen: list[dict[str, Any]] = []
        end = time.monotonic() + QUIET_SECONDS
        while len(seen) < wanted and time.monotonic() < end:
            self._supervisor.check()
            time.sleep(POLL_SECONDS)
            found = [w for w in watch.windows(version) if w["status"] != "insufficient"]
            for window in found[len(seen) :]:
                self._teller.say(f"window of {window['rows']} rows: {window['status']}")
            seen = found
        alarmed = watch.fired_within(DRIFT_ALERT, 3600)
        active = [window for window in seen if window["active"]]
        self.findings.claim(
            "quiet period",
            f"at least {wanted} windows of held-out weeks and no drift alarm",
            f"{len(seen)} windows, {len(active)} with active drift, "
            f"{DRIFT_ALERT} {'fired' if alarmed else 'never fired'}",
            holds=len(seen) >= wanted and not alarmed and not active,
        )

    def _drift(self, watch: Watch, pager: Pager, traffic: Traffic, version: str) -> None:
        self._teller.chapter("The upstream breaks")
        self._teller.say(
            f"{requests.BROKEN_FEATURE} is null from now on, {requests.SHIFTED_FEATURE} is "
            f"{requests.PRICE_SHIFT} times what it was"
        )
        findings = self.findings
        traffic.switch("drift")
        findings.drift_sent = time.time()
        wanted = {requests.BROKEN_FEATURE, requests.SHIFTED_FEATURE}
        stages: Mapping[str, Callable[[], set[str]]] = {
            "detector": lambda: {
                item["feature"]
                for window in watch.windows(version)[-1:]
                for item in window["active"]
            },
            "Prometheus": lambda: {labels["feature"] for labels in watch.firing(DRIFT_ALERT)},
            "Alertmanager": lambda: {alert.feature for alert in watch.received(DRIFT_ALERT)},
            "pager": lambda: pager.features(DRIFT_ALERT),
        }
        end = time.monotonic() + self.settings.drift_deadline_seconds
        for stage, features in stages.items():
            while time.monotonic() < end:
                self._supervisor.check()
                if wanted <= features():
                    findings.drift_seconds[stage] = time.time() - findings.drift_sent
                    self._teller.say(f"{stage}: after {findings.drift_seconds[stage]:.0f} s")
                    break
                time.sleep(POLL_SECONDS)
        findings.alerts = watch.received(DRIFT_ALERT)
        for alert in findings.alerts:
            self._teller.say(f"{alert.summary}  → {alert.runbook}")
        named = {alert.feature for alert in findings.alerts}
        runbooks = {alert.runbook for alert in findings.alerts}
        present = all((self.stack.root / runbook).is_file() for runbook in runbooks)
        findings.claim(
            "drift",
            f"{DRIFT_ALERT} for {' and '.join(sorted(wanted))} reaches Alertmanager and the pager, "
            "with its runbook",
            ", ".join(f"{name} after {s:.0f} s" for name, s in findings.drift_seconds.items())
            + f"; features: {', '.join(sorted(named)) or 'none'}",
            holds=len(findings.drift_seconds) == len(stages) and present and bool(runbooks),
        )

    def _count(self, tally: Tally, defective: str) -> None:
        self._teller.chapter("The count")
        errors = tally.errors.total()
        by_defective = tally.errors_of(defective)
        too_busy = (
            f"; {tally.refused:,} refused for want of room (503): this machine was too busy"
            if tally.refused
            else ""
        )
        self.findings.claim(
            "traffic",
            "every request answered, errors only from the defective arm",
            f"{tally.sent:,} sent = {tally.answered.total():,} answered + {errors:,} errors, "
            f"{by_defective:,} of them by {defective}{too_busy}",
            holds=tally.sent == tally.settled and errors == by_defective and by_defective > 0,
        )

    def _replay(self) -> None:
        replays = [replay(read_record(canary.record)) for canary in self.findings.canaries]
        looks = sum(item.agreed for item in replays)
        different = [str(item.difference) for item in replays if item.difference is not None]
        self.findings.claim(
            "replay",
            "every decision recomputed from the records to the same verdict",
            f"{looks} looks agree; {'; '.join(different) or 'no difference'}",
            holds=looks > 0 and not different,
        )


def _weights(result: CanaryResult) -> list[int]:
    """Return the weights that the router had, each once, in order, without the first 0."""
    seen: list[int] = []
    for look in read_record(result.record).looks:
        weight = look.weights.read
        if weight and weight not in seen[-1:]:
            seen.append(weight)
    return seen
