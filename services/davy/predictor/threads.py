"""How many threads a container may use.

Belongs here: reading the CPU limit of control groups, version 1 and 2. Not here: using it.
"""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cpu_limit(root: Path = CGROUPS) -> float | None:
    """Return the CPU limit of this container in cores, None where there is none.

    Parameters
    ----------
    root : Path
        Where control groups are mounted.
    """
    quota = _numbers(root / "cpu.max")
    if not quota:
        quota = [
            *_numbers(root / "cpu" / "cpu.cfs_quota_us"),
            *_numbers(root / "cpu" / "cpu.cfs_period_us"),
        ]
    if len(quota) != 2 or min(quota) <= 0:
        return None
    return quota[0] / quota[1]


def threads(setting: int | None, limit: float | None) -> int:
    """Return the threads to execute with: the setting, else the limit's whole cores, else one.

    One where there is no limit: rows of a table keep a single core busy for microseconds, and
    more threads only wait for each other.

    Examples
    --------
    >>> threads(None, 2.5), threads(None, 0.5), threads(4, 2.0), threads(None, None)
    (2, 1, 4, 1)
    """
    if setting is not None:
        return setting
    return max(1, int(limit or 1))


def _numbers(path: Path) -> list[float]:
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        # No such group, or "max": no limit.
        return []
