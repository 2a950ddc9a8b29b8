"""``davy demo``: the whole loop on this machine.

Belongs here: options, the lock, signals, the exit code. Not here: the loop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from davy.cli.extras import needs
from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, ConflictError, NotFoundError
from davy.core.files import write_atomic

if TYPE_CHECKING:
    from davy.cli.demo.processes import Supervisor
    from davy.cli.demo.story import Story
    from davy.cli.demo.terminal import Terminal

app = typer.Typer(help="The whole loop on one machine.", no_args_is_help=True)

RUN = "run"
REPORT = "report.html"
SUMMARY = "summary.json"
INTERRUPTED = 130


@app.callback()
def group() -> None:
    """The whole loop on one machine."""


@app.command()
def run(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end until Ctrl-C.")
    ] = False,
) -> None:
    """Train, serve, promote, roll back, raise an alarm; exit 0 only if all came out as claimed.

    Settings are DAVY_DEMO_*; run it in a checkout.
    """
    from rich.console import Console

    with needs("davy demo run", "demo"):
        from davy.cli.demo.claims import all_hold
        from davy.cli.demo.ports import Ports
        from davy.cli.demo.processes import Supervisor
        from davy.cli.demo.report import Made, write_report
        from davy.cli.demo.settings import DemoSettings
        from davy.cli.demo.stack import MODEL, Addresses, Programs, Stack
        from davy.cli.demo.story import Story
        from davy.cli.demo.terminal import Terminal
    from davy.kubeflow.code import code_version

    settings = DemoSettings.load()
    root = Path.cwd()
    task = root / "pipelines" / "tasks" / f"{MODEL}.yaml"
    if not task.is_file():
        raise NotFoundError("no such task file", where=str(task), fix="Run this in a checkout")
    terminal = Terminal(Console())
    base = (root / settings.state).resolve()
    with _locked(base), _interruptible():
        # What can be refused is refused before anything of an earlier run is lost.
        programs, ports = Programs.find(), Ports(settings.port)
        addresses = Addresses.take(ports)
        state = base / RUN
        shutil.rmtree(state, ignore_errors=True)
        for name in (REPORT, SUMMARY):
            (base / name).unlink(missing_ok=True)
        clock = SystemClock()
        began = clock.monotonic()
        try:
            with _uninterrupted_end(Supervisor(state / "logs")) as supervisor:
                stack = Stack(
                    root=root,
                    state=state,
                    settings=settings,
                    programs=programs,
                    supervisor=supervisor,
                    ports=ports,
                    addresses=addresses,
                )
                story = Story(stack, terminal)
                findings = story.tell()
                made = Made(
                    clock.now(),
                    clock.monotonic() - began,
                    code_version(),
                    root / "monitoring" / "runbooks",
                )
                report = write_report(base / REPORT, findings, made)
                claims = [dataclasses.asdict(claim) for claim in findings.claims]
                write_atomic(base / SUMMARY, json.dumps(claims, indent=2) + "\n")
                terminal.summary(findings.claims)
                terminal.say(f"report: {os.path.relpath(report)}")
                for canary in findings.canaries:
                    terminal.say(f".venv/bin/davy rollout replay {os.path.relpath(canary.record)}")
                if keep:
                    _show_addresses(story, terminal)
                    _wait_for_interrupt()
        except KeyboardInterrupt:
            terminal.say("interrupted; everything that was started has been ended")
            raise typer.Exit(INTERRUPTED) from None
    if not all_hold(findings.claims):
        raise typer.Exit(1)


def _wait_for_interrupt() -> None:
    """Return at Ctrl-C, which is how a run that was kept is meant to end."""
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Hold the state folder for this run alone."""
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be made a folder ({error.strerror})",
            where=str(base),
            fix="Set DAVY_DEMO_STATE to a folder that can be written",
        ) from None
    with (base / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(
                "another demo runs in this folder",
                where=str(base),
                fix="End it, or set DAVY_DEMO_STATE to another folder",
            ) from None
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _uninterrupted_end(supervisor: Supervisor) -> Iterator[Supervisor]:
    """End all programs on the way out; a second Ctrl-C must not leave some of them behind."""
    try:
        yield supervisor
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        supervisor.stop_all()
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_addresses(story: Story, terminal: Terminal) -> None:
    terminal.chapter("Left running, without traffic; Ctrl-C ends it")
    addresses = story.stack.addresses
    for what in ("router", "router_api", "prometheus", "alertmanager", "detector"):
        terminal.say(f"{what.replace('_', ' '):<14} {addresses.url(what)}")
    for version in story.stack.arms:
        terminal.say(f"predictor      {story.stack.arm_url(version)}/docs  ({version})")
