"""What the pages say exists: commands, make targets, settings, files; and links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from davy.cli import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=PAGES, ids=page_id)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def code(text: str) -> str:
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join(blocks + spans)


def test_links_lead_to_files(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page_id(page)} links to {target}"


def test_commands_exist(page: Path):
    known = reference.commands()
    groups = {" ".join(name.split()[:n]) for name in known for n in range(1, 4)}
    # In lines of these programs "davy" is a namespace, a release, a folder.
    others = re.compile(r"^(?:helm|kubectl (?!davy )).*$", re.MULTILINE)
    text = others.sub("", code(page.read_text()))
    for line in re.findall(r"(?:^|[/\s`])(davy(?: [a-z][a-z-]*)+)", text, re.MULTILINE):
        words = line.split()
        for n in range(2, min(len(words), 3) + 1):
            name = " ".join(words[:n])
            assert name in groups, f"{page_id(page)} names the command '{name}'"
            if name in known:
                break


def test_options_exist(page: Path):
    known = reference.commands()
    for line in code(page.read_text()).splitlines():
        found = re.search(r"(?:^|[/\s])(davy [a-z-]+ [a-z-]+)\b(.*)", line)
        if found and found.group(1) in known:
            options = {
                opt for p in known[found.group(1)].params for opt in (*p.opts, *p.secondary_opts)
            }
            for option in re.findall(r"(--[a-z][a-z-]*)", found.group(2)):
                assert option in options | {"--help"}, f"{page_id(page)}: {line}"


def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"\bmake ([a-z]+)", code(page.read_text())):
        assert target in targets, f"{page_id(page)} names 'make {target}'"


def test_settings_exist(page: Path):
    # Those are read by the command line and by the tests themselves.
    known = {"DAVY_CONFIG", "DAVY_BED", "DAVY_BED_IMAGES"} | {
        (str(cls.model_config.get("env_prefix", "")) + name).upper()
        for cls in reference.settings_classes()
        for name in cls.model_fields
    }
    prefixes = {str(cls.model_config.get("env_prefix", "")) for cls in reference.settings_classes()}
    for variable in re.findall(r"\bDAVY_[A-Z0-9_]*\*?", page.read_text()):
        allowed = variable in known or variable.removesuffix("*") in prefixes
        assert allowed, f"{page_id(page)} names {variable}"


def test_every_make_target_is_in_help():
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in phony.group(1).split():
        assert f"make {target}" in shown


def test_nothing_committed_names_this_machine():
    tracked = subprocess.run(
        ["git", "grep", "-lIE", r"(/ro[o]t/|/hom[e]/[a-z]+/|files\.pythonhos[t]ed)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert not tracked
