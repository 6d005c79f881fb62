"""Which processor this is, and how many of its cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dspark_engines.machine import cores, instruction_set, processor, processor_name, usable_cores

V2 = "31 23 0:28 / {point} rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 {root} {point} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "33 31 0:31 / {point}/memory rw - cgroup cgroup rw,memory\n24 23 0:2 / /proc rw - proc proc rw\n"


def machine(
    folder: Path, *, mounts: str, groups: str, files: dict[str, str], root: str = "/", point: str = "cgroup"
) -> Path:
    """A /proc/self whose control groups are mounted below `folder`."""
    place = folder / point
    proc = folder / "proc"
    proc.mkdir()
    escaped = str(place).replace(" ", "\\040")
    (proc / "mountinfo").write_text((mounts + OTHER).format(root=root, point=escaped))
    (proc / "cgroup").write_text(groups)
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc


CASES: dict[str, tuple[dict[str, object], float | None]] = {
    "version 2": ({"mounts": V2, "groups": "0::/app\n", "files": {"app/cpu.max": "150000 100000\n"}}, 1.5),
    "version 2, no limit": ({"mounts": V2, "groups": "0::/app\n", "files": {"app/cpu.max": "max 100000\n"}}, None),
    "version 2, the group above is smaller": (
        {
            "mounts": V2,
            "groups": "0::/pod/app\n",
            "files": {"pod/app/cpu.max": "400000 100000\n", "pod/cpu.max": "100000 100000\n"},
        },
        1.0,
    ),
    "version 2, inside a container": ({"mounts": V2, "groups": "0::/\n", "files": {"cpu.max": "50000 100000\n"}}, 0.5),
    "version 1": (
        {
            "mounts": V1,
            "groups": "4:memory:/x\n1:cpu,cpuacct:/app\n0::/\n",
            "files": {"app/cpu.cfs_quota_us": "200000\n", "app/cpu.cfs_period_us": "100000\n"},
        },
        2.0,
    ),
    "version 1, no limit": (
        {
            "mounts": V1,
            "groups": "1:cpu,cpuacct:/\n",
            "files": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
        },
        None,
    ),
    "version 1, docker without a namespace of its own": (
        {
            "mounts": V1,
            "root": "/docker/abc",
            "groups": "1:cpu,cpuacct:/docker/abc\n",
            "files": {"cpu.cfs_quota_us": "100000\n", "cpu.cfs_period_us": "100000\n"},
        },
        1.0,
    ),
    "version 1, a mount of some other group": (
        {
            "mounts": V1,
            "root": "/elsewhere",
            "groups": "1:cpu,cpuacct:/app\n",
            "files": {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"},
        },
        3.0,
    ),
    "a folder with a space": (
        {"mounts": V2, "groups": "0::/\n", "files": {"cpu.max": "100000 100000\n"}, "point": "c group"},
        1.0,
    ),
    "nonsense": ({"mounts": V2, "groups": "0::/\n", "files": {"cpu.max": "a lot\n"}}, None),
    "no control groups": ({"mounts": "", "groups": "", "files": {}}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_quota_is_read(tmp_path: Path, name: str) -> None:
    arguments, expected = CASES[name]
    assert cores.processor_quota(machine(tmp_path, **arguments)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quota", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("199000 100000", 1), ("250000 100000", 2)]
)
def test_threads_stay_within_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    proc = machine(tmp_path, mounts=V2, groups="0::/\n", files={"cpu.max": quota})
    assert usable_cores(proc) == expected
    assert usable_cores(tmp_path / "nowhere") == 4


def test_the_affinity_is_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    proc = machine(tmp_path, mounts=V2, groups="0::/\n", files={"cpu.max": "800000 100000"})
    assert usable_cores(proc) == 1


X86 = """processor\t: 0
model name\t: AMD EPYC
cpu family\t: 25
model\t\t: 1
stepping\t: 1
flags\t\t: fpu {}

processor\t: 1
"""


def test_the_instruction_set_tells_processors_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for flags in ("sse2 fma avx avx2", "avx2 avx512f sse2 avx fma avx512_vnni", "avx avx2 fma ssse3"):
        file = tmp_path / "cpuinfo"
        file.write_text(X86.format(flags))
        monkeypatch.setattr(processor, "CPU_INFO", file)
        assert processor_name() == "AMD EPYC 25 1 1"
        found.append(instruction_set())
    assert found[0] == found[2]
    assert found[0].endswith(" avx avx2 fma")
    assert found[1] != found[0]
    assert "avx512_vnni" in found[1]
