import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import ManualClock
from davy.core.errors import IntegrityError, NotFoundError
from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.metrics import DetectorMetrics
from davy.detector.packages import Subject
from davy.detector.samples import Sample
from davy.detector.settings import DetectorSettings
from davy.drift.judge import Null, Rules
from davy.drift.tabular import tabular_detector
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent
from davy.protocol.tensors import tensor

START = datetime(2017, 12, 1, tzinfo=UTC)
ROWS = 50


class StandInPackages:
    """A store of one good version, one damaged one, and nothing else; counts what is read."""

    def __init__(self):
        self.loaded = []

    def load(self, version):
        self.loaded.append(version)
        if version == "damaged":
            raise IntegrityError("sha256 does not match", where="store/m/damaged")
        if not version.startswith("v"):
            raise NotFoundError(f"no package of version '{version}'", where="store")
        rng = np.random.default_rng(0)
        nulls = {
            (name, detector): Null(np.linspace(0.005, 0.2, 400), floor)
            for name, detector, floor in (
                ("price", "ks", 0.25),
                ("price", "missing", 0.05),
                ("department", "chi2", 0.25),
                ("score", "ks", 0.25),
            )
        }
        rules = Rules(window_rows=ROWS)
        reference = {
            "price": rng.normal(0, 1, 1000),
            "department": rng.integers(0, 3, 1000),
            "score": rng.random(1000),
        }
        return Subject(
            model="m",
            version=version,
            categories={"price": False, "department": True},
            output="score",
            detector=tabular_detector("native", nulls, rules).fit(reference),
            rules=rules,
        )


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def packages():
    return StandInPackages()


@pytest.fixture
def settings(tmp_path):
    return DetectorSettings(
        store=tmp_path, engine="native", queue_events=500, versions=2, lateness_seconds=0
    )


@pytest.fixture
def pairs():
    """Return the list of pairs that were heard of."""
    return []


@pytest.fixture
def parts(packages, settings, registry, clock, pairs):
    found = assemble(settings, packages, DetectorMetrics(registry), clock, on_pair=pairs.append)
    yield found
    found.close()


@pytest.fixture
def watcher(parts):
    return parts.watcher


@pytest.fixture
def feed(parts):
    """Return a function that takes samples as if each had been posted alone."""
    places = itertools.count()

    def run(samples):
        entries = [
            Entry(place, place + 1, [told(sample)])
            for sample, place in zip(samples, places, strict=False)
        ]
        for entry in entries:
            asyncio.run(parts.consumer.apply([entry]))

    return run


@pytest.fixture
def tick(parts):
    """Return a function that ends what has grown old."""
    return lambda: asyncio.run(parts.consumer.tick())


def told(sample):
    kind = REQUEST if sample.kind == "request" else RESPONSE
    event = PayloadEvent(sample.id, kind, "/s", sample.time, "m", "", sample.version, 1.0, b"{}")
    return event, sample


@pytest.fixture
def traffic():
    """Return a function that makes the samples of `n` requests, each with its response."""

    def make(n, *, seed=0, version="v1", shift=0.0, null=False, first=0):
        rng = np.random.default_rng(seed)
        samples = []
        for index in range(first, first + n):
            price = float("nan") if null else rng.normal(shift, 1)
            values = {"price": price, "department": int(rng.integers(0, 3))}
            when = START + timedelta(seconds=index)
            name = f"{seed}-{index}"
            samples.append(Sample("request", name, version, when, values))
            score = np.array([rng.random()], np.float32)
            values = {"score": score[0].item()}
            tensors = (tensor("score", score),)
            samples.append(Sample("response", name, version, when, values, tensors))
        return samples

    return make
