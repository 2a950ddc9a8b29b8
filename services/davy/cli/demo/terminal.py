"""What the demo shows on the terminal.

Belongs here: lines, the summary table. Not here: what happens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from davy.cli.demo.claims import Claim
from davy.cli.rollout_view import LookLines
from davy.rollout.decide import Decision


class Terminal:
    """Shows progress with the time since the start.

    Parameters
    ----------
    console : rich.console.Console
        Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._looks = LookLines(self.say)

    def chapter(self, title: str) -> None:
        """Begin a part of the demo."""
        self._line(f"[bold]{title}[/bold]")
        self._looks = LookLines(self.say)

    def say(self, text: str) -> None:
        """Show one line."""
        self._console.print(f"          {text}", highlight=False, markup=False, soft_wrap=True)

    def look(self, decision: Decision) -> None:
        """Show a look at which something changed; what repeats itself is counted."""
        self._looks.show(decision)
        if decision.action == "finish":
            self._looks.close()

    def summary(self, claims: Sequence[Claim]) -> None:
        """Show every claim beside what was seen."""
        table = Table(show_lines=True, title="What was claimed, and what was seen")
        for column in ("", "claim", "expected", "seen"):
            table.add_column(column, overflow="fold")
        for claim in claims:
            mark = "[green]yes[/green]" if claim.holds else "[red]NO[/red]"
            table.add_row(mark, claim.name, claim.expected, claim.seen)
        self._console.print(table)

    def _line(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        self._console.print(f"[dim]{minutes:>3}:{seconds:02}[/dim]    {text}", highlight=False)
