"""The parts of a detector, put together once.

Belongs here: who gets what. Not here: any part; the socket and the process (`serve.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from davy.core.clock import Clock
from davy.core.errors import ConfigurationError
from davy.detector.answers import Answers
from davy.detector.archive import Archive
from davy.detector.archiver import Archiver, NoArchive
from davy.detector.consumer import Consumer, nobody
from davy.detector.intake import Intake
from davy.detector.joiner import Joiner
from davy.detector.journal import FolderJournal, Journal, NoJournal
from davy.detector.label_table import LabelTable
from davy.detector.ledger import Ledger
from davy.detector.metrics import DetectorMetrics
from davy.detector.packages import Packages
from davy.detector.pairing import OnPair, Pairing
from davy.detector.settings import DetectorSettings
from davy.detector.watcher import Watcher

# Without a folder the ids, and the answers, are in memory, some 100 bytes each.
REMEMBERED_IN_MEMORY = 100_000


@dataclass(frozen=True, slots=True)
class Parts:
    """A detector that is put together and does not run yet."""

    journal: Journal
    ledger: Ledger
    intake: Intake
    watcher: Watcher
    consumer: Consumer
    archiver: Archiver | NoArchive
    metrics: DetectorMetrics
    label_table: LabelTable | None = None

    def close(self) -> None:
        """Close its files."""
        self.ledger.close()
        if isinstance(self.journal, FolderJournal):
            self.journal.close()


def assemble(
    settings: DetectorSettings,
    packages: Packages,
    metrics: DetectorMetrics,
    clock: Clock,
    on_pair: OnPair = nobody,
) -> Parts:
    """Put a detector together.

    Parameters
    ----------
    settings : DetectorSettings
        Sizes, times and folders.
    packages : Packages
        Where references and calibrations come from.
    metrics : DetectorMetrics
        Where verdicts and counts are shown.
    clock : Clock
        Wall and monotonic time.
    on_pair : callable
        Hears of every pair of a watched version, ahead of the windows.

    Raises
    ------
    ConfigurationError, ConflictError
        The state's folder cannot be used, or is lacking for an archive; another detector uses it.
    """
    state = settings.state
    journal: Journal = NoJournal()
    kept = settings.answers_kept
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(state / "ledger.sqlite", remembered=settings.remembered_exchanges)
        journal = FolderJournal(
            state / "journal", segment_bytes=settings.segment_bytes, begin=ledger.position
        )
    else:
        remembered = min(settings.remembered_exchanges, REMEMBERED_IN_MEMORY)
        kept = min(kept, REMEMBERED_IN_MEMORY)
        ledger = Ledger(remembered=remembered)
    intake = Intake(
        journal,
        most=settings.queue_events,
        most_bytes=settings.queue_bytes,
        journal_bytes=settings.journal_bytes,
    )
    pairing = Pairing(
        ledger,
        join_seconds=settings.join_seconds,
        pending=settings.pending_events,
        pending_bytes=settings.pending_bytes,
    )
    watcher = Watcher(packages, settings, metrics, clock, ledger)
    answers = Answers(ledger.connection, most=kept, horizon=settings.label_horizon_seconds)
    ledger.before_commit(answers.write)
    joiner = Joiner(
        answers,
        ledger,
        metrics,
        limits=settings.outcome_limits,
        recent=settings.performance_labels,
    )
    archiver = _archiver(settings, ledger, metrics, clock)
    consumer = Consumer(
        intake,
        journal,
        ledger,
        pairing,
        watcher,
        joiner,
        archiver,
        metrics,
        clock,
        on_pair,
    )
    table = None
    if settings.label_table is not None:
        seconds = settings.label_table_seconds
        table = LabelTable(settings.label_table, seconds, intake, metrics, clock)
    return Parts(journal, ledger, intake, watcher, consumer, archiver, metrics, table)


def _archiver(
    settings: DetectorSettings, ledger: Ledger, metrics: DetectorMetrics, clock: Clock
) -> Archiver | NoArchive:
    if not settings.archive:
        return NoArchive()
    if settings.state is None:
        raise ConfigurationError(
            "an archive holds each exchange once only where it is known what was written",
            where="DAVY_DETECTOR_ARCHIVE",
            fix="Set DAVY_DETECTOR_STATE to a folder that lasts",
        )
    return Archiver(
        Archive(settings.archive),
        ledger,
        metrics,
        clock,
        rows=settings.archive_rows,
        size=settings.archive_bytes,
        seconds=settings.archive_seconds,
        hours=settings.archive_hours,
        merge_bytes=settings.archive_merge_bytes,
    )
