"""When memory is given back, and that it is."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.packaging.package import Package
from davy.predictor.assembly import assemble
from davy.predictor.memory import (
    GROWN_BYTES,
    LITTLE_BYTES,
    MOST_LOOKS,
    Kept,
    Memory,
    resident_bytes,
)
from davy.predictor.settings import PredictorSettings

MB = 2**20


class StandInProcess:
    """A process of which some memory is free, though it has it still."""

    def __init__(self, used: int = 100 * MB) -> None:
        self.used = used
        self.free = 0
        self.times = 0

    def resident(self) -> int:
        return self.used + self.free

    def give_back(self) -> None:
        self.times += 1
        self.free = 0

    def memory(self) -> Memory:
        return Memory(self.resident, self.give_back, every=0.001)


def test_a_burst_is_given_back_and_the_ordinary_is_not() -> None:
    process = StandInProcess()
    memory = process.memory()
    memory.look()
    process.free = GROWN_BYTES
    memory.look()
    assert process.times == 0
    process.free += 1
    memory.look()
    assert (process.times, process.free) == (1, 0)
    for _ in range(100):
        memory.look()
    assert process.times == 1


def test_each_burst_is_given_back() -> None:
    process = StandInProcess()
    memory = process.memory()
    memory.look()
    for burst in range(5):
        process.free = 2 * GROWN_BYTES
        memory.look()
        assert process.times == burst + 1


def test_what_is_given_back_under_load_does_not_count_as_little() -> None:
    process = StandInProcess()
    memory = process.memory()
    memory.look()
    # Half of it is in use while the load lasts, and free after that.
    process.used, process.free = 150 * MB, 50 * MB
    memory.look()
    process.used, process.free = 100 * MB, 50 * MB
    memory.look()
    assert process.resident() == 100 * MB


def test_what_is_in_use_is_looked_for_ever_more_seldom() -> None:
    process = StandInProcess()
    memory = process.memory()
    memory.look()
    process.used += 500 * MB
    for _ in range(1000):
        memory.look()
    assert process.times <= 1000 / MOST_LOOKS + 6
    process.free = LITTLE_BYTES
    looks = 0
    while process.free:
        memory.look()
        looks += 1
        assert looks <= MOST_LOOKS
    # It was worth the while: the next burst does not wait.
    process.free = LITTLE_BYTES
    memory.look()
    assert process.free == 0


def test_less_than_ever_is_the_new_least() -> None:
    kept = Kept(100 * MB).seen(60 * MB).seen(80 * MB)
    assert kept.least == 60 * MB


def test_it_looks_until_it_is_closed() -> None:
    process = StandInProcess()
    memory = process.memory()

    async def go() -> None:
        memory.start()
        process.free = 2 * GROWN_BYTES
        async with asyncio.timeout(10):
            while not process.times:
                await asyncio.sleep(0.001)
        memory.close()
        process.free = 2 * GROWN_BYTES
        await asyncio.sleep(0.05)
        assert process.times == 1

    asyncio.run(go())
    process.memory().close()


def test_a_system_that_does_not_say_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert resident_bytes() > 10 * MB
    monkeypatch.setattr("davy.predictor.memory.STATM", tmp_path / "nothing")
    assert resident_bytes() == 0


def test_a_predictor_looks_while_it_runs(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    process = StandInProcess()
    monkeypatch.setattr("davy.predictor.assembly.resident_bytes", process.resident)
    monkeypatch.setattr("davy.predictor.assembly.give_back", process.give_back)

    async def go() -> None:
        settings = PredictorSettings(model_dir=package.path)
        assembly = assemble(settings, registry=CollectorRegistry(), clock=SystemClock())
        await assembly.start()
        process.free = 2 * GROWN_BYTES
        assembly.memory.look()
        await assembly.close()

    asyncio.run(go())
    assert process.times == 1


REAL = """
import gc
from davy.predictor.memory import give_back, resident_bytes

gc.disable()
class Holder:
    pass
kept, before = [], resident_bytes()
for number in range(100_000):
    one, other = Holder(), Holder()
    one.other, other.one, other.content = other, one, bytes(1000)
    if number % 1000 == 0:
        kept.append(bytes(1000))
del one, other
grown = resident_bytes()
give_back()
print((grown - before) >> 20, (resident_bytes() - before) >> 20)
"""


def test_the_real_thing() -> None:
    """In a process of its own, so that nothing but this has used its memory."""
    told = subprocess.run(
        [sys.executable, "-c", REAL], capture_output=True, text=True, check=True, timeout=60
    )
    grown, left = map(int, told.stdout.split())
    assert grown > 100
    assert left < grown / 4
