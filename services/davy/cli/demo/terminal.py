"""What the demo shows on the terminal.

Belongs here: lines, the summary table. Not here: what happens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from davy.cli.demo.claims import Claim
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
        self._shown: tuple[object, ...] = ()

    def chapter(self, title: str) -> None:
        """Begin a part of the demo."""
        self._line(f"[bold]{title}[/bold]")
        self._shown = ()

    def say(self, text: str) -> None:
        """Show one line."""
        self._console.print(f"          {text}", highlight=False, markup=False, soft_wrap=True)

    def look(self, decision: Decision) -> None:
        """Show a look at which something changed, and every fifth of the others."""
        outcomes = tuple((v.indicator, v.outcome) for v in decision.verdicts)
        state = decision.state
        now = (decision.action, state.phase, state.weight, outcomes)
        if now != self._shown or state.looks % 5 == 0:
            verdicts = ", ".join(f"{name} {outcome}" for name, outcome in outcomes)
            self.say(
                f"look {state.looks:>3}, next weight {state.weight:>3} %: {decision.action}; "
                f"{verdicts or decision.message}"
            )
        if decision.action in ("rollback", "promote", "advance") and decision.message:
            self.say(f"          {decision.message}")
        self._shown = now

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
