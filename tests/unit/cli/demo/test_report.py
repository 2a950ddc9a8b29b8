from datetime import UTC, datetime
from pathlib import Path

from davy.cli.demo import report
from davy.cli.demo.story import Findings
from davy.cli.demo.watch import Alert


def test_who_reads_an_alert_has_its_runbook_on_the_page(tmp_path: Path):
    (tmp_path / "DavyFeatureDrift.md").write_text("Look at <feature> first.", encoding="utf-8")
    alerts = [Alert("DavyFeatureDrift", name, "v1", "it moved", "RUNBOOK") for name in "ab"]
    page = report._drift(Findings(alerts=alerts), tmp_path)
    assert page.count("Look at &lt;feature&gt; first.") == 1


def test_an_alert_without_a_runbook_still_has_its_row(tmp_path: Path):
    alerts = [Alert("DavyNew", "a", "v1", "it moved", "RUNBOOK")]
    page = report._drift(Findings(alerts=alerts), tmp_path)
    assert "it moved" in page
    assert "<details>" not in page


def test_the_page_says_when_and_by_what_it_was_made():
    made = report.Made(datetime(2017, 5, 4, 13, 7, tzinfo=UTC), 354.4, "0.1.0+abc", Path())
    assert (
        made.sentence() == "Ended on 2017-05-04 at 13:07 UTC after 5 min 54 s, by Davy 0.1.0+abc."
    )
