"""Every alert has a test that fires it, one that keeps it quiet, and a runbook.

Those of `ALWAYS` cannot be kept quiet: their tests say that nothing does.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
TESTS = sorted(Path(__file__).parent.glob("*.yaml"))
RUNBOOKS = MONITORING / "runbooks"
DASHBOARDS = MONITORING / "dashboards"
SEVERITIES = {"page", "ticket"}
# Alerts that fire for as long as rules are evaluated, and why: no input could keep them quiet.
ALWAYS = {"DavyWatchdog": "its silence is the alarm"}
SECTIONS = (
    "## What it means",
    "## See why",
    "## Go back",
    "## Silence it",
    "## False alarms",
)


def alerts():
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield rule


NAMES = sorted({rule["alert"] for rule in alerts()})


CHOSEN = r"var-(\w+)=\{\{ \$labels\.(\w+) \| urlquery \}\}"
LINK = re.compile(
    r"\{\{ \$externalLabels\.dashboard_base \}\}d/([\w-]+)(?:\?("
    + CHOSEN
    + "(?:&"
    + CHOSEN
    + ")*))?"
)


def run(program, package, *arguments):
    path = shutil.which(program)
    assert path, f"{program} is not installed: it comes with Debian's package {package}"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expectations(name):
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                if case["alertname"] == name:
                    yield case["exp_alerts"]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_finds_nothing_wrong_with_the_rules(path):
    said = run("promtool", "prometheus", "check", "rules", "--lint=all", "--lint-fatal", str(path))
    assert "SUCCESS" in said


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_the_alerts_fire_and_stay_quiet_as_their_tests_say(path):
    run("promtool", "prometheus", "test", "rules", str(path))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(ALWAYS)))
def test_every_alert_has_a_test_that_fires_it_and_one_that_keeps_it_quiet(name):
    expected = list(expectations(name))
    assert any(expected), f"no test in tests/rules fires {name}"
    assert not all(expected), f"no test in tests/rules keeps {name} quiet"


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_an_alert_that_always_fires_does_so_without_data_and_with_any(name):
    expected = list(expectations(name))
    assert len(expected) >= 2, f"{name} is to be seen at several times and inputs"
    assert all(expected), f"{name} must always fire ({ALWAYS[name]}), yet a test expects silence"


def test_an_alert_that_always_fires_depends_on_no_data_and_waits_for_nothing():
    always = [rule for rule in alerts() if rule["expr"] == "vector(1)"]
    assert [rule["alert"] for rule in always] == sorted(ALWAYS)
    assert not any("for" in rule for rule in always)


@pytest.mark.parametrize("rule", list(alerts()), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on(rule):
    # What always fires is not urgent, and must match no route of what is.
    severities = {"none"} if rule["alert"] in ALWAYS else SEVERITIES
    assert rule["labels"]["severity"] in severities
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    link = f"{{{{ $externalLabels.runbook_base }}}}monitoring/runbooks/{rule['alert']}.md"
    assert rule["annotations"]["runbook_url"] == link


@pytest.mark.parametrize("rule", list(alerts()), ids=lambda rule: rule["alert"])
def test_every_alert_links_the_page_that_shows_it_with_what_it_names_chosen(rule):
    link = LINK.fullmatch(rule["annotations"]["dashboard_url"])
    assert link, rule["annotations"]["dashboard_url"]
    page = json.loads((DASHBOARDS / f"{link[1]}.json").read_text())
    assert page["uid"] == link[1]
    choices = {item["name"] for item in page["templating"]["list"] if item["type"] == "query"}
    text = rule["annotations"]["summary"] + rule["annotations"]["description"]
    named = {name for name in choices if f"$labels.{name} " in text}
    assert re.findall(CHOSEN, link[2] or "") == [(name, name) for name in sorted(named)]


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_runbook_with_all_its_parts(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    places = [text.find(section) for section in SECTIONS]
    assert -1 not in places, [s for s, at in zip(SECTIONS, places, strict=True) if at < 0]
    assert places == sorted(places)
    for section in SECTIONS[1:4]:
        part = text.split(section)[1].split("\n## ")[0]
        assert re.search(r"```sh\n.+\n```", part, re.DOTALL), f"{section} holds no command"


def test_no_runbook_is_left_of_an_alert_that_is_gone():
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == NAMES


def test_amtool_finds_nothing_wrong_with_the_base_configuration():
    path = MONITORING / "alertmanager" / "alertmanager.yaml"
    said = run("amtool", "prometheus-alertmanager", "check-config", str(path))
    assert "SUCCESS" in said


@pytest.mark.parametrize(
    ("alert", "receiver"),
    [
        ({"severity": "page"}, "pages"),
        ({"severity": "ticket"}, "tickets"),
        ({}, "tickets"),
        ({"alertname": "DavyWatchdog", "severity": "none"}, "watchdog"),
        # Whatever somebody's own rules make of its labels: never a page.
        ({"alertname": "DavyWatchdog", "severity": "page"}, "watchdog"),
    ],
)
def test_alerts_reach_the_receiver_of_their_severity(alert, receiver):
    path = MONITORING / "alertmanager" / "alertmanager.yaml"
    labels = [f"{name}={value}" for name, value in ({"alertname": "Any"} | alert).items()]
    said = run(
        "amtool",
        "prometheus-alertmanager",
        "config",
        "routes",
        "test",
        f"--config.file={path}",
        *labels,
    )
    assert said.strip() == receiver
