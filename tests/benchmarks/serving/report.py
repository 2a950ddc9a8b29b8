"""The serving benchmark's tables in services/README.md.

Belongs here: what the tables say and how. Not here: measuring, the statistics of it.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.page import ROOT, Block
from tests.benchmarks.serving.figures import Cell, Quantity, Spread, absolute, ratio
from tests.benchmarks.serving.fleet import (
    ASGI,
    BASELINE,
    BENTO,
    DAVY,
    KSERVE,
    MLSERVER,
    RAW,
    STARLETTE,
)
from tests.benchmarks.serving.found import (
    METHODS,
    Found,
    grpc_case,
    is_two,
    one,
    open_case,
    raw_case,
    two,
)
from tests.benchmarks.serving.workload import MAIN, Case, cases

BLOCK = Block(ROOT / "services/README.md", "bench")
SERVERS = (DAVY, STARLETTE, ASGI, BENTO, KSERVE, MLSERVER)


def rate(cell: Cell) -> float:
    """Return requests a second."""
    return cell.rate


def cpu(cell: Cell) -> float:
    """Return processor seconds of a request."""
    return cell.cpu


def p50(cell: Cell) -> float:
    """Return the median latency."""
    return cell.p50


def p99(cell: Cell) -> float:
    """Return the latency that one of a hundred exceeds."""
    return cell.p99


def row(cells: Sequence[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines."""
    return [row(head), row(["---"] * len(head)), *(row(cells) for cells in rows)]


def shown(value: Spread | None, scale: float = 1.0, digits: int = 2) -> str:
    """Return a median alone, a dash for none."""
    return "–" if value is None else f"{value.median * scale:,.{digits}f}"


def spreaded(value: Spread | None, digits: int = 2) -> str:
    """Return a median with the least and the greatest, a dash for none."""
    if value is None:
        return "–"
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def render(found: Found) -> str:
    """Return all that stands between the markers."""
    parts = [_intro(found), _main(found), _targets(found), _grid(found), _open(found)]
    parts += [_rows(found), _grpc(found), _workers(found)]
    parts.append(_faults(found))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _names(found: Found) -> list[str]:
    measured = {cell.server for cell in found.cells}
    return [name for name in SERVERS if name in measured]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")


def _intro(found: Found) -> list[str]:
    packages = ("bentoml", "uvicorn", "starlette", "kserve", "onnxruntime")
    cores = os.cpu_count() or 1
    where = (
        "servers on one core, the client on another"
        if found.pinned
        else "servers and client share the one core"
    )
    minutes = (found.ended - found.started) / 60
    return [
        f"{time.strftime('%Y-%m-%d', time.gmtime(found.started))}, {cores} cores of "
        f"{_processor()}; {where}; load {found.load:.1f} before the run, which took "
        f"{minutes:.0f} minutes. Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. A network of "
        "50-128-64-1 units, 50 numbers a row, one thread and one worker each. Davy has its "
        "defaults but for one thread and room for 100,000 waiting rows (64 connections with 1,000 "
        "rows each are more than may wait by default), serves gRPC beside HTTP, and tells a tenth "
        "of its requests to a payload log; the others only answer. Requests and latencies are "
        "those answered 200; failed ones are named below the tables, and a goal with any is not "
        "held. Servers take turns within a round; a ratio of two servers is taken within a round, "
        "and its spread is over the rounds. A share of what onnxruntime alone reaches is one of "
        "medians over rounds, which ran at another time.",
    ]


def _main(found: Found) -> list[str]:
    case = str(MAIN)
    rows = []
    for name in SERVERS:
        if name not in _names(found):
            reason = found.absent.get(METHODS[name])
            if reason is not None:
                rows.append([name, f"not measured: {reason}", *["–"] * 8])
            continue
        largest, total = found.memory.get(name, (0.0, 0.0))
        rows.append(
            [
                name,
                shown(absolute(found.cells, name, case, rate), digits=0),
                spreaded(ratio(found.cells, name, BASELINE, case, rate)),
                shown(absolute(found.cells, name, case, cpu), 1e6, 0),
                spreaded(ratio(found.cells, name, BASELINE, case, cpu)),
                shown(absolute(found.cells, name, case, p50), 1e3),
                shown(absolute(found.cells, name, case, p99), 1e3),
                spreaded(ratio(found.cells, name, BASELINE, case, p99)),
                f"{largest:.0f} / {total:.0f} / {found.grown.get(name, largest):.0f}",
                f"{found.ready.get(name, 0):.1f}",
            ]
        )
    head = ["1 row, JSON, 8 connections", "requests/s", f"of {BASELINE}'s", "µs CPU a request"]
    head += [f"of {BASELINE}'s", "p50 ms", "p99 ms", f"of {BASELINE}'s"]
    head += ["MB worker / all / worker after 1,000 rows", "ready after s"]
    return table(head, rows)


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached.

    Attributes
    ----------
    above : bool
        The value is to be at least the limit, else below it.
    failed : bool
        A request that the value is made of failed: the goal is not held, whatever the value is.
    """

    what: str
    value: Spread | float | None
    limit: float
    above: bool = True
    failed: bool = False

    def cells(self) -> list[str]:
        """Return its line of the table."""
        sign = "≥" if self.above else "<"
        if self.value is None:
            held = "**no**: requests failed" if self.failed else ""
            return [self.what, f"{sign} {self.limit:g}", "not measured", held]
        number = self.value.median if isinstance(self.value, Spread) else self.value
        text = spreaded(self.value) if isinstance(self.value, Spread) else f"{self.value:.1f}"
        held = number >= self.limit if self.above else number < self.limit
        verdict = "yes" if held else "**no**"
        if self.failed:
            verdict = "**no**: requests failed"
        return [self.what, f"{sign} {self.limit:g}", text, verdict]


def _targets(found: Found) -> list[str]:
    cells, case = found.cells, str(MAIN)
    hundred = Case(100, "binary", 8)
    worker = found.memory[DAVY][0] if DAVY in found.memory else None
    many, call = str(Case(1000, "json", 64)), grpc_case(1)

    def over(server: str, where: str, what: Quantity, limit: float, text: str) -> Target:
        # Failures of the rival count too: what it did not do would flatter ours.
        failed = found.failed(DAVY, where) or found.failed(server, where)
        value = ratio(cells, DAVY, server, where, what)
        return Target(text, value, limit, what is not p99, failed)

    targets = [
        over(STARLETTE, case, rate, 1.0, "requests/s of Starlette's"),
        over(ASGI, case, rate, 0.75, "requests/s of raw ASGI's"),
        over(KSERVE, case, rate, 8.0, "requests/s of the KServe SDK's"),
        over(STARLETTE, case, p99, 1.5, "p99 of Starlette's"),
        Target(
            "100 rows, binary: rows a CPU second of onnxruntime's",
            _of_raw(found, hundred),
            0.5,
            failed=found.failed(DAVY, str(hundred)),
        ),
        over(KSERVE, call, rate, 3.0, "gRPC, 1 row: requests/s of the KServe SDK's"),
        Target(
            "two workers, 1,000 rows, JSON: of one's",
            _of_one(found, DAVY),
            1.7,
            failed=any(found.failed(name, many) for name in (one(DAVY), two(DAVY))),
        ),
        Target("MB of the worker", worker, 250, above=False),
        Target("seconds to ready", found.ready.get(DAVY), 3, above=False),
    ]
    head = ["Davy, 1 row, JSON, 8 connections unless said", "goal", "measured", "held"]
    return table(head, [target.cells() for target in targets])


def _grid(found: Found) -> list[str]:
    names = _names(found)
    others = [name for name in names if name != BASELINE]
    rows = []
    for case in cases():
        base = absolute(found.cells, BASELINE, str(case), rate)
        if base is None:
            continue
        davy = absolute(found.cells, DAVY, str(case), cpu)
        ratios = [ratio(found.cells, name, BASELINE, str(case), rate) for name in others]
        rows.append([str(case), shown(base, digits=0), *map(spreaded, ratios), shown(davy, 1e6, 0)])
    head = ["rows · form · connections", f"{BASELINE} requests/s", *(f"{n}, ratio" for n in others)]
    return table([*head, "Davy µs CPU"], rows)


def _open(found: Found) -> list[str]:
    rows = []
    for name in _names(found):
        line = [name]
        for share in (0.5, 0.8):
            case = open_case(share)
            line += [
                shown(absolute(found.cells, name, case, rate), digits=0),
                shown(absolute(found.cells, name, case, p50), 1e3),
                spreaded(_scaled(absolute(found.cells, name, case, p99), 1e3)),
            ]
        rows.append(line)
    head = ["open loop, 1 row, JSON", "50 %: requests/s", "p50 ms", "p99 ms"]
    return table([*head, "80 %: requests/s", "p50 ms", "p99 ms"], rows)


def _rows(found: Found) -> list[str]:
    rows = []
    for count in (1, 10, 100, 1000):
        raw = absolute(found.cells, RAW, raw_case(count), cpu)
        line = [f"{count:,}", shown(raw, 1e6, 1)]
        for name in (DAVY, STARLETTE, ASGI, KSERVE):
            line.append(spreaded(_of_raw(found, Case(count, "binary", 8), name)))
        rows.append(line)
    head = ["rows, binary, 8 connections", "onnxruntime alone, µs CPU"]
    return table([*head, *(f"{n} of that" for n in (DAVY, STARLETTE, ASGI, KSERVE))], rows)


def _grpc(found: Found) -> list[str]:
    rows = []
    for count in (1, 100):
        case = grpc_case(count)
        rows.append(
            [
                f"{count}",
                *(
                    shown(absolute(found.cells, name, case, what), scale, 0 if scale > 1e3 else 2)
                    for name in (DAVY, KSERVE)
                    for what, scale in _RATE_CPU_P99
                ),
                spreaded(ratio(found.cells, DAVY, KSERVE, case, rate)),
                spreaded(ratio(found.cells, KSERVE, DAVY, case, cpu)),
            ]
        )
    head = ["gRPC raw, 8 calls at once, rows"]
    for name in (DAVY, KSERVE):
        head += [f"{name} requests/s", "µs CPU", "p99 ms"]
    return table([*head, "ratio of requests/s", "of CPU"], rows)


_RATE_CPU_P99: tuple[tuple[Quantity, float], ...] = ((rate, 1.0), (cpu, 1e6), (p99, 1e3))


def _workers(found: Found) -> list[str]:
    rows = []
    for case in sorted({c.case for c in found.cells if is_two(c.server)}):
        line = [case]
        for name in (DAVY, STARLETTE):
            line.append(shown(absolute(found.cells, one(name), case, rate), digits=0))
            line.append(shown(absolute(found.cells, two(name), case, rate), digits=0))
            line.append(spreaded(_second(found, name, case)))
        rows.append(line)
    if not rows:
        return []
    head = ["on both cores, the client among them"]
    for name in (DAVY, STARLETTE):
        head += [f"{name}, one worker", "two", "ratio"]
    return table(head, rows)


def _faults(found: Found) -> list[str]:
    """Return what went wrong, so that no figure hides it."""
    failed: dict[str, int] = {}
    for cell in found.cells:
        if cell.failed:
            label = f"{cell.server}, {cell.case}"
            failed[label] = failed.get(label, 0) + cell.failed
    lines = [f"- {label}: {count} requests not answered 200" for label, count in failed.items()]
    lines += [
        f"- {broken.server}, {broken.case}: {broken.reason} ({count} of the rounds)"
        for broken, count in Counter(found.broken).items()
    ]
    shown_above = {METHODS[name] for name in SERVERS if name not in _names(found)}
    absent = ((label, why) for label, why in found.absent.items() if label not in shown_above)
    return [*lines, *(f"- {label} did not start: {why}" for label, why in absent)]


def _second(found: Found, name: str, case: str) -> Spread | None:
    renamed = [c for c in found.cells if c.server in (one(name), two(name))]
    return ratio(renamed, two(name), one(name), case, rate)


def _of_one(found: Found, name: str) -> Spread | None:
    return _second(found, name, str(Case(1000, "json", 64)))


def _of_raw(found: Found, case: Case, name: str = DAVY) -> Spread | None:
    """Return rows a processor second as a share of what the runtime alone reaches."""
    raw = absolute(found.cells, RAW, raw_case(case.rows), cpu)
    own = absolute(found.cells, name, str(case), cpu)
    if raw is None or own is None:
        return None
    return Spread(raw.median / own.median, raw.median / own.high, raw.median / own.low)


def _scaled(value: Spread | None, scale: float) -> Spread | None:
    if value is None:
        return None
    return Spread(value.median * scale, value.low * scale, value.high * scale)
