"""A baseline counts as an arm of its own, and answers as the version that it is a copy of."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.packaging.package import Package
from davy.predictor.assembly import assemble
from davy.predictor.settings import PredictorSettings


@pytest.mark.parametrize(("arm", "suffix"), [(None, ""), ("baseline", "+baseline")])
def test_its_metrics_carry_the_arm_and_its_answers_the_version(
    arm: str | None, suffix: str, package: Package, registry: CollectorRegistry
) -> None:
    settings = PredictorSettings.model_validate({"models": (package.path,), "arm": arm})

    async def served() -> str:
        assembly = assemble(settings, registry=registry, clock=SystemClock())
        await assembly.start()
        assembly.count()
        version = assembly.repository.models.catalogue.entries[0].version
        await assembly.close()
        return version

    version = asyncio.run(served())
    assert version == package.contract.version
    counted = {
        sample.labels["version"]
        for family in registry.collect()
        for sample in family.samples
        if "version" in sample.labels
    }
    assert counted == {f"{version}{suffix}"}
