"""The parts of a node that need none: texts, archives, processes, what Prometheus is to scrape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tomllib
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.bed import __main__ as command
from tests.cluster.bed.certificates import Authority
from tests.cluster.bed.node import configuration, programs
from tests.cluster.bed.node.addons import MANIFESTS
from tests.cluster.bed.node.apply import KINDS, manifest
from tests.cluster.bed.node.archive import write_archive
from tests.cluster.bed.node.node import write_once
from tests.cluster.bed.node.pod_targets import targets
from tests.cluster.bed.node.processes import Processes, started_at
from tests.cluster.bed.node.settings import NodeSettings
from tests.cluster.bed.programs import SETTING, ProgramsMissingError

NODE = NodeSettings(Path("/srv/bed"))


def credentials(folder: Path) -> configuration.Credentials:
    pair = folder / "a.crt", folder / "a.key"
    names = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager")
    configs = {name: folder / f"{name}.kubeconfig" for name in names}
    return configuration.Credentials(folder / "ca.crt", pair, pair, pair, pair[1], configs)


def test_addresses_are_of_the_networks_that_are_told() -> None:
    assert (NODE.host, NODE.node) == (IPv4Address("10.241.0.1"), IPv4Address("10.241.0.2"))
    assert NODE.dns in NODE.services
    assert NODE.api_service == NODE.services[1]


@pytest.mark.parametrize(
    ("folder", "name"), [("/srv/bed", "n" * 12), ("/srv/bed", ""), (f"/srv/{'b' * 100}", "bed")]
)
def test_names_that_the_kernel_would_cut_are_refused(folder: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"characters|path"):
        NodeSettings(Path(folder), name=name)


def test_two_nodes_share_no_control_groups_no_results_and_no_sockets(tmp_path: Path) -> None:
    keys = credentials(tmp_path)
    other = NodeSettings(Path("/srv/other"), name="other")
    for text in (configuration.containerd, configuration.cni):
        assert text(NODE) != text(other)
    assert yaml.safe_load(configuration.kubelet(NODE, keys))["cgroupRoot"] == "/davybed"
    assert yaml.safe_load(configuration.kubelet(other, keys))["cgroupRoot"] == "/other"
    assert json.loads(configuration.cni(other))["name"] == "other"


def test_containerd_reads_what_it_is_told() -> None:
    told = tomllib.loads(configuration.containerd(NODE))
    assert told["root"].startswith("/srv/bed/")
    cri = told["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == configuration.PAUSE_IMAGE
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


def test_every_object_of_the_manifests_can_be_applied() -> None:
    found = [
        *manifest(MANIFESTS / "coredns.yaml", image="coredns:1", dns="10.96.0.10"),
        *manifest(MANIFESTS / "gateway.yaml"),
    ]
    assert {item["kind"] for item in found} <= set(KINDS)
    assert all(("namespace" in item["metadata"]) == KINDS[item["kind"]][1] for item in found)


def test_an_archive_is_the_same_each_time_and_holds_what_was_given(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    for name in ("one.tar", "other.tar"):
        write_archive(tmp_path / name, "davy.local/x:1", {"/bin/x": program}, ["/bin/x"])
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        told = archive.extractfile("manifest.json")
        assert told is not None
        (image,) = json.load(told)
        layer = archive.extractfile(image["Layers"][0])
        assert image["RepoTags"] == ["davy.local/x:1"]
        with tarfile.open(fileobj=layer) as files:
            entry = files.getmember("bin/x")
            assert entry.mode & 0o111


def test_a_file_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "file"
    write_once(path, "one")
    os.utime(path, ns=(1, 1))
    write_once(path, "one")
    assert path.stat().st_mtime_ns == 1
    write_once(path, "other")
    assert path.read_text() == "other"


def test_a_program_is_started_once_told_again_and_ended(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "pids", tmp_path / "log")
    sleep = [sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)"]
    processes.start("sleeper", sleep)
    pid = processes.pid("sleeper")
    assert pid is not None
    # By another process that knows the folder alone.
    assert Processes(tmp_path / "pids", tmp_path / "log").pid("sleeper") == pid
    processes.start("sleeper", sleep)
    assert processes.pid("sleeper") == pid
    processes.stop("sleeper")
    assert started_at(pid) is None
    assert processes.names() == []


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "pids", tmp_path / "log")
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); "
    processes.start("deaf", [sys.executable, "-c", f"{deaf}time.sleep(60)"])
    log = tmp_path / "log/deaf.log"
    while "deaf" not in log.read_text():
        assert processes.alive("deaf")
    pid = processes.pid("deaf")
    assert pid is not None
    processes.stop("deaf", wait=0.2)
    assert started_at(pid) is None


def test_a_pid_that_another_process_has_by_now_is_left_alone(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "pids", tmp_path / "log")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        (tmp_path / "pids").mkdir()
        note = {"pid": stranger.pid, "started": "1"}
        (tmp_path / "pids/ours").write_text(json.dumps(note))
        assert not processes.alive("ours")
        processes.stop("ours")
        assert stranger.poll() is None
        stranger.send_signal(signal.SIGKILL)


def test_an_authority_is_gone_on_with(tmp_path: Path) -> None:
    first = Authority(tmp_path)
    certificate, _ = first.issue("server", "server", hosts=["10.241.0.2", "davybed"])
    again = Authority(tmp_path)
    assert again.certificate.read_bytes() == first.certificate.read_bytes()
    other, _ = again.issue("client", "client")
    from cryptography import x509

    authority = x509.load_pem_x509_certificate(first.certificate.read_bytes())
    for path in (certificate, other):
        x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authority)
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    told = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert told.get_values_for_type(x509.IPAddress)[-1] == IPv4Address("10.241.0.2")
    assert "davybed" in told.get_values_for_type(x509.DNSName)


def pod(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metadata": {
            "name": "tiny-0",
            "namespace": "shop",
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "3000"},
            "labels": {"serving.kserve.io/inferenceservice": "tiny"},
        },
        "status": {"phase": "Running", "podIP": "10.244.0.7"},
    }
    for place, more in changes.items():
        found[place] = {**found[place], **more}
    return found


def test_a_pod_that_asks_for_it_is_scraped_under_its_name() -> None:
    assert targets([pod()]) == [
        {
            "targets": ["10.244.0.7:3000"],
            "labels": {
                "namespace": "shop",
                "pod": "tiny-0",
                "__metrics_path__": "/metrics",
                "serving_kserve_io_inferenceservice": "tiny",
            },
        }
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"annotations": {}}},
        {"metadata": {"annotations": {"prometheus.io/scrape": "false"}}},
        {"status": {"phase": "Pending"}},
        {"status": {"phase": "Running", "podIP": None}},
    ],
)
def test_others_are_not(changes: dict[str, Any]) -> None:
    assert targets([pod(**changes)]) == []


def test_programs_that_are_missing_are_named_with_the_command_that_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "missing_from_debian", list)
    monkeypatch.setattr(programs, "UNIFIED", tmp_path / "none")
    environ = {"XDG_CACHE_HOME": str(tmp_path), SETTING: "require"}
    with pytest.raises(ProgramsMissingError, match=r"kubelet.*tests\.cluster\.bed\.node\.programs"):
        programs.find_node_programs(environ)
    monkeypatch.setattr(programs, "missing_from_debian", lambda: ["runc"])
    with pytest.raises(ProgramsMissingError, match="apt-get install runc"):
        programs.find_node_programs(environ)
    monkeypatch.setattr(programs, "UNIFIED", tmp_path)
    with pytest.raises(ProgramsMissingError, match="version 1 alone"):
        programs.find_node_programs(environ)
    monkeypatch.setattr(programs.os, "geteuid", lambda: 1000)
    with pytest.raises(ProgramsMissingError, match="root"):
        programs.find_node_programs(environ)


@pytest.mark.parametrize("arguments", [[], ["sideways"], ["up", "down"]])
def test_the_command_says_how_it_is_used(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 64
    assert "up|down|status" in capsys.readouterr().err
