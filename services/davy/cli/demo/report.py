"""``report.html``: one page that shows the run, readable without anything else.

Belongs here: the page. Not here: its pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from davy.cli.demo import pictures
from davy.cli.demo.canary import CanaryResult
from davy.cli.demo.claims import interval_text
from davy.cli.demo.story import Findings
from davy.core.files import write_atomic
from davy.packaging.contract import CompressionCandidate
from davy.packaging.package import Package
from davy.rollout.record import Record
from davy.rollout.record_file import read_record

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #212121; }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; width: 100%; font-size: 14px }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e0e0e0;
  vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.yes { color: #2e7d32; font-weight: 600 } .no { color: #c62828; font-weight: 600 }
svg { width: 100%; height: auto } .note { color: #616161 }
.scroll { overflow-x: auto }
details { white-space: pre-wrap; max-width: 45rem }
@media (max-width: 640px) {
  body { margin: 1rem auto } .scroll > svg { min-width: 40rem }
  td { overflow-wrap: anywhere }
}
iframe { width: 100%; height: 40rem; border: 1px solid #e0e0e0 }
"""


@dataclass(frozen=True, slots=True)
class Made:
    """When and by what a run was made; ``runbooks`` is the folder of their Markdown pages."""

    time: datetime
    seconds: float
    code: str
    runbooks: Path

    def sentence(self) -> str:
        """Return it for people."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return (
            f"Ended on {self.time:%Y-%m-%d at %H:%M} UTC after {minutes} min {seconds} s, "
            f"by Davy {self.code}."
        )


def write_report(path: Path, findings: Findings, made: Made) -> Path:
    """Write the page and return its path."""
    write_atomic(path, render(findings, made))
    return path


def render(findings: Findings, made: Made) -> str:
    """Return the page as HTML."""
    names = {p.contract.version: variant for variant, p in findings.packages.items()}
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Davy demo</title><style>{STYLE}</style></head><body>",
        "<h1>One run of the whole loop</h1>",
        f"<p class='note'>{escape(made.sentence())}</p>",
        _claims(findings),
        *(_canary(canary) for canary in findings.canaries),
        "<h2>Traffic</h2>",
        _wide(pictures.traffic_picture(findings.traffic, names, findings.drift_sent)),
        _drift(findings, made.runbooks),
        *(_compression(variant, package) for variant, package in findings.packages.items()),
        "<h2>Model card of the better model</h2>",
        _card(findings.packages["better"]),
        "</body></html>",
    ]
    return "\n".join(parts)


def _claims(findings: Findings) -> str:
    rows = [
        (
            "<span class='yes'>yes</span>" if c.holds else "<span class='no'>NO</span>",
            escape(c.name),
            escape(c.expected),
            escape(c.seen),
        )
        for c in findings.claims
    ]
    return _table(("", "claim", "expected", "seen"), rows)


def _canary(canary: CanaryResult) -> str:
    record = read_record(canary.record)
    return "\n".join(
        (
            f"<h2>Canary: the {escape(canary.name)} candidate, {escape(canary.phase)}</h2>",
            f"<p>{escape(canary.candidate)} against {escape(canary.stable)}, "
            f"{len(record.looks)} looks. {escape(canary.decisive.message)}</p>",
            _wide(pictures.rollout_picture(record)),
            "<p class='note'>Bars: what the canary's own rate may be, at a confidence that holds "
            "at every look at once; dashed: what is allowed.</p>",
            *_ratios(record),
        )
    )


def _ratios(record: Record) -> tuple[str, ...]:
    picture = pictures.ratio_picture(record)
    if not picture:
        return ("<p class='note'>No event in either arm: nothing to say of a ratio.</p>",)
    return (
        _wide(picture),
        "<p class='note'>Bars: the canary's rate over the stable arm's, at the same confidence; "
        "dashed: the ratio that is tolerable.</p>",
    )


def _drift(findings: Findings, runbooks: Path) -> str:
    rows = [
        (escape(alert.feature), escape(alert.summary), escape(alert.runbook))
        for alert in findings.alerts
    ]
    picture = (
        _wide(pictures.drift_picture(findings.windows, findings.drift_sent))
        if findings.windows
        else ""
    )
    pages = [
        f"<details><summary>Runbook {escape(name)}</summary>"
        f"{escape((runbooks / f'{name}.md').read_text(encoding='utf-8'))}</details>"
        for name in sorted({alert.name for alert in findings.alerts})
        if (runbooks / f"{name}.md").is_file()
    ]
    table = _table(("feature", "alert", "runbook"), rows)
    return f"<h2>Drift</h2>{picture}{table}{''.join(pages)}"


def _compression(variant: str, package: Package) -> str:
    compression = package.contract.compression
    rows = [
        _candidate(item, chosen=item.name == compression.chosen) for item in compression.candidates
    ]
    head = ("candidate", "bytes", "ms at batch", "quality", "difference to fp32", "verdict")
    return (
        f"<h2>Compression: the {escape(variant)} model</h2><p>{escape(compression.why)}</p>"
        + _table(head, rows)
    )


def _candidate(item: CompressionCandidate, *, chosen: bool) -> tuple[str, ...]:
    latency = item.latency_seconds
    return (
        f"<b>{escape(item.name)}</b> (chosen)" if chosen else escape(item.name),
        f"{item.bytes:,}",
        f"{latency.value * 1000:.3f} [{latency.lower * 1000:.3f}, {latency.upper * 1000:.3f}]",
        interval_text(item.quality),
        interval_text(item.difference) if item.difference else "",
        escape(item.reason),
    )


def _card(package: Package) -> str:
    card = (package.path / "card.html").read_text(encoding="utf-8")
    return f"<iframe title='model card' sandbox srcdoc=\"{escape(card, quote=True)}\"></iframe>"


def _wide(picture: str) -> str:
    """Return a picture that a narrow screen scrolls instead of shrinking it."""
    return f"<div class='scroll'>{picture}</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>"
