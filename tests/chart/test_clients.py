"""Where the programs are looked for, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.bed import clients
from tests.cluster.bed.programs import SETTING, ProgramsMissingError


@pytest.mark.parametrize("setting", ["", "require"])
def test_missing_ones_are_not_built_unasked(tmp_path: Path, setting: str) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path), SETTING: setting}
    with pytest.raises(ProgramsMissingError, match=r"tests\.cluster\.bed\.clients"):
        clients.find_clients(environ)
    assert list(tmp_path.iterdir()) == []


def test_those_that_are_there_are_used(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    base = tmp_path / "davy/bed"
    programs = {
        f"helm-{clients.HELM}/helm",
        f"kubeconform-{clients.KUBECONFORM}/kubeconform",
        f"kubernetes-{clients.programs.KUBERNETES}-etcd-{clients.programs.ETCD}/kubectl",
    }
    (base / f"prometheus-operator-{clients.PROMETHEUS_OPERATOR}").mkdir(parents=True)
    for name in programs:
        with pytest.raises(ProgramsMissingError, match="not in"):
            clients.find_clients(environ)
        (base / name).parent.mkdir(parents=True)
        (base / name).touch(mode=0o755)
    assert clients.find_clients(environ).missing() == []
