"""The load generator as seen from the demo: start, steer, read, finish.

Belongs here: its process and its file of counts. Not here: sending (`load`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from davy.cli.demo.processes import Supervisor
from davy.cli.demo.tally import Tally
from davy.core.errors import UnavailableError

NAME = "load"


class Traffic:
    """A running load generator.

    Parameters
    ----------
    supervisor : Supervisor
        Starts and ends it.
    url : str
        Where requests go.
    requests : Path
        Folder of prepared requests.
    rate : float
        Requests a second.
    out : Path
        File of its counts.
    """

    def __init__(
        self, supervisor: Supervisor, *, url: str, requests: Path, rate: float, out: Path
    ) -> None:
        self._supervisor = supervisor
        self._out = out
        self._child = supervisor.start(
            NAME,
            [
                sys.executable,
                "-m",
                "davy.cli.demo.load",
                f"--url={url}",
                f"--requests={requests}",
                f"--rate={rate}",
                f"--out={out}",
            ],
            control=True,
        )
        supervisor.wait_until(
            NAME, lambda: bool(self.lines()), what="no request was sent", seconds=30
        )

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines written so far; one that is being written is left out."""
        if not self._out.exists():
            return []
        whole, _, _ = self._out.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def switch(self, phase: str) -> None:
        """Go on with the requests of another phase."""
        self._command({"phase": phase})

    def finish(self) -> Tally:
        """Stop sending, wait for what is in flight, and return the totals.

        Raises
        ------
        UnavailableError
            The load generator did not end well.
        """
        self._command({"stop": True})
        code = self._supervisor.finish(NAME, seconds=30)
        if code != 0:
            raise UnavailableError(
                f"ended with code {code}:\n{self._child.tail()}", where="load generator"
            )
        return Tally.from_line(self.lines()[-1])

    def _command(self, command: dict[str, Any]) -> None:
        pipe = self._child.popen.stdin
        if pipe is None or self._child.popen.poll() is not None:
            self._supervisor.check()
            return
        pipe.write(json.dumps(command).encode() + b"\n")
        pipe.flush()
