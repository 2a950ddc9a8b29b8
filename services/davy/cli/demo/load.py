"""Open-loop load: requests leave on schedule whether or not the last one was answered.

Belongs here: sending prepared requests and counting what became of each. Not here: what is in
them. Run as ``python -m davy.cli.demo.load``; commands are JSON lines on standard input:
``{"phase": "drift"}``, ``{"rate": 100}``, ``{"stop": true}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from davy.cli.demo.requests import Prepared, read_prepared
from davy.cli.demo.tally import Tally

TIMEOUT_SECONDS = 10.0
MAX_SECONDS = 3600.0
VERSION_HEADER = "davy-model-version"


@dataclass(slots=True)
class State:
    """What the commands change while the load runs."""

    phase: str
    rate: float
    stopped: bool = False


async def _follow_commands(state: State) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        state.phase = command.get("phase", state.phase)
        state.rate = float(command.get("rate", state.rate))
        if command.get("stop"):
            break
    # The end of the input means that whoever steers is gone: stop as well.
    state.stopped = True


async def _send(
    session: aiohttp.ClientSession, url: str, request: Prepared, number: int, tally: Tally
) -> None:
    body, headers = request.with_id(number)
    started = time.monotonic()
    try:
        async with session.post(url, data=body, headers=headers) as response:
            content = await response.read()
            version = response.headers.get(VERSION_HEADER)
            if response.status == 200:
                tally.record_answer(version or "none", time.monotonic() - started)
            else:
                tally.record_error(version, response.status, _reason(content))
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.record_error(None, 0, type(error).__name__)


def _reason(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return content[:80].decode(errors="replace")


async def run(
    url: str, phases: dict[str, list[Prepared]], *, rate: float, phase: str, out: Path
) -> None:
    """Send until told to stop, then wait for what is in flight.

    Parameters
    ----------
    url : str
        Where the requests go.
    phases : dict
        Prepared requests by phase, replayed in order, again from the start at the end.
    rate : float
        Requests a second.
    phase : str
        Phase to begin with.
    out : Path
        JSON lines, one a second, with the totals so far.
    """
    state = State(phase, rate)
    tally = Tally()
    commands = asyncio.create_task(_follow_commands(state))
    pending: set[asyncio.Task[None]] = set()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    with out.open("a", buffering=1) as file:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            start = due = time.monotonic()
            reported = due
            while not state.stopped and due - start < MAX_SECONDS:
                requests = phases[state.phase]
                request = requests[tally.sent % len(requests)]
                task = asyncio.create_task(_send(session, url, request, tally.sent, tally))
                tally.sent += 1
                pending.add(task)
                task.add_done_callback(pending.discard)
                due += 1.0 / state.rate
                if due - reported >= 1.0:
                    reported = due
                    file.write(json.dumps(tally.line(time=time.time(), phase=state.phase)) + "\n")
                # Behind schedule, yield all the same: answers must be read.
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            if pending:
                await asyncio.wait(pending, timeout=TIMEOUT_SECONDS + 1)
        file.write(json.dumps(tally.line(time=time.time(), phase=state.phase)) + "\n")
    commands.cancel()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", required=True, type=Path, help="folder of prepared phases")
    parser.add_argument("--rate", required=True, type=float)
    parser.add_argument("--phase", default="normal")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    phases = read_prepared(options.requests)
    asyncio.run(run(options.url, phases, rate=options.rate, phase=options.phase, out=options.out))


if __name__ == "__main__":
    main()
