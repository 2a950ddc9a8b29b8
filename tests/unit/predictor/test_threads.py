from pathlib import Path

import pytest

from davy.predictor.threads import cpu_limit, threads


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "limit"),
    [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("max 100000\n", None), ("", None)],
)
def test_limit_of_version_2(tmp_path: Path, text: str, limit: float | None) -> None:
    assert cpu_limit(write(tmp_path, cpuDOTmax=text)) == limit


@pytest.mark.parametrize(("quota", "limit"), [("150000\n", 1.5), ("-1\n", None)])
def test_limit_of_version_1(tmp_path: Path, quota: str, limit: float | None) -> None:
    files = {"cpu__cpuDOTcfs_quota_us": quota, "cpu__cpuDOTcfs_period_us": "100000\n"}
    assert cpu_limit(write(tmp_path, **files)) == limit


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("setting", "limit", "expected"),
    [(3, 1.0, 3), (None, 4.9, 4), (None, 0.2, 1), (None, None, 1)],
)
def test_threads(setting: int | None, limit: float | None, expected: int) -> None:
    assert threads(setting, limit) == expected
