"""What a run of the serving benchmark found, and what its cases and servers are called.

Belongs here: measurements, broken and absent servers, whether Davy failed. Not here: tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.benchmarks.serving.figures import Cell
from tests.benchmarks.serving.fleet import ASGI, BENTO, DAVY, KSERVE, MLSERVER, STARLETTE

# The methods of Fleet that start them.
METHODS = {DAVY: "davy", STARLETTE: "starlette", ASGI: "asgi"}
METHODS |= {BENTO: "bento", KSERVE: "kserve", MLSERVER: "mlserver"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A measurement that a server ended: it closed a connection, or did not answer in time."""

    server: str
    case: str
    reason: str


@dataclass(slots=True)
class Found:
    """What a run found."""

    started: float = 0.0
    ended: float = 0.0
    load: float = 0.0
    pinned: bool = False
    cells: list[Cell] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    grown: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)

    def failed(self, server: str, case: str) -> bool:
        """Tell whether a request of a case failed in any round."""
        cells = any(c.failed for c in self.cells if (c.server, c.case) == (server, case))
        return cells or any((b.server, b.case) == (server, case) for b in self.broken)

    def ours_failed(self) -> bool:
        """Tell whether Davy failed a request, ended a measurement, or did not start."""
        return (
            any(cell.failed for cell in self.cells if cell.server.startswith(DAVY))
            or any(broken.server.startswith(DAVY) for broken in self.broken)
            or any(label.startswith(METHODS[DAVY]) for label in self.absent)
        )


def open_case(share: float) -> str:
    """Name the open loop at a share of capacity."""
    return f"open {share:.0%}"


def grpc_case(rows: int) -> str:
    """Name a gRPC case."""
    return f"gRPC {rows}"


def raw_case(rows: int) -> str:
    """Name a case of the runtime alone."""
    return f"raw {rows}"


def one(name: str) -> str:
    """Name a server with one worker."""
    return f"{name}, one worker"


def two(name: str) -> str:
    """Name a server with two workers."""
    return f"{name}, two workers"


def is_two(name: str) -> bool:
    """Tell whether a name is one of `two`."""
    return name.endswith(", two workers")
