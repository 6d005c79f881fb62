"""How many cores this process may keep busy: its affinity, and the processor quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dspark_engines.machine.mounts import unescape_mount

PROC = Path("/proc/self")


class Mount(NamedTuple):
    """A mounted control group file system: which group of the hierarchy it shows at which path."""

    root: PurePosixPath
    point: Path
    version: int


def usable_cores(proc: Path = PROC) -> int:
    """Cores for engine threads, at least 1: no more than the affinity mask holds, and whole cores of the quota.

    A quota of 1.5 processors counts as one core: a second thread would spend its share early, and both would then wait
    for the rest of every period.
    """
    cores = len(os.sched_getaffinity(0))
    quota = processor_quota(proc)
    return cores if quota is None else max(1, min(cores, int(quota)))


def processor_quota(proc: Path = PROC) -> float | None:
    """The smallest quota, in processors, of this process's groups and those above them; None without one.

    Read from `cpu.max` (version 2 of control groups) and `cpu.cfs_quota_us` over `cpu.cfs_period_us` (version 1).
    """
    quotas: list[float] = []
    with suppress(OSError, ValueError):  # no control groups, or none that may be read
        for folder, version in _group_folders(proc):
            quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)
            quotas += [] if quota is None else [quota]
    return min(quotas, default=None)


def _group_folders(proc: Path) -> Iterator[tuple[Path, int]]:
    """The folder of every group that limits this process, with the version, from the inside out."""
    mounts = list(_mounts((proc / "mountinfo").read_text("utf-8", "surrogateescape")))
    for line in (proc / "cgroup").read_text("utf-8", "surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        version = 1 if controllers else 2
        if version == 1 and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            if mount.version == version:
                inside = _inside(PurePosixPath(path), mount.root)
                folders = [mount.point / inside, *(mount.point / parent for parent in inside.parents)]
                yield from ((folder, version) for folder in folders)


def _mounts(mountinfo: str) -> Iterator[Mount]:
    """Control groups' mounts that can hold a processor quota; see proc(5), /proc/pid/mountinfo."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, point = (os.fsdecode(unescape_mount(os.fsencode(part))) for part in left.split(" ")[3:5])
        if kind == "cgroup2":
            yield Mount(PurePosixPath(root), Path(point), 2)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield Mount(PurePosixPath(root), Path(point), 1)


def _inside(path: PurePosixPath, root: PurePosixPath) -> PurePosixPath:
    """Where a group lies below a mount. A container sees its own group at the mount's root, by whatever name."""
    with suppress(ValueError):
        return path.relative_to(root)
    return PurePosixPath()


def _quota_v2(folder: Path) -> float | None:
    with suppress(OSError, ValueError):  # the topmost group has no such file
        quota, period = (folder / "cpu.max").read_text("utf-8").split()
        if quota != "max":
            return int(quota) / int(period)
    return None


def _quota_v1(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text("utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text("utf-8"))
        if quota > 0 and period > 0:
            return quota / period
    return None
