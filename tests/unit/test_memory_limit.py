"""A container's limit of memory, as the kernel's files tell it, and who heeds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agebench.benchmark.sweep import check_memory
from agebench.errors import UsageError
from agebench.types import CropSpec, ViewSpec
from agebench.util import memory_limit
from agebench.util.memory_limit import left_to_us

GB = 10**9


def _files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16 * GB),
        (  # version 2, seen from inside: 4 GB less 3 GB, of which half a GB is cached files
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": f"{4 * GB}\n",
                "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 7\ninactive_file {GB // 2}\nactive_file 9\n",
            },
            3 * GB // 2,
        ),
        (  # the group has no limit, the one that it lies in has
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/one/memory.max": "max\n",
                "sys/fs/cgroup/pods/one/memory.current": "5\n",
                "sys/fs/cgroup/pods/memory.max": f"{2 * GB}\n",
                "sys/fs/cgroup/pods/memory.current": f"{GB}\n",
            },
            GB,
        ),
        (  # version 1; the path is that of the host
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/docker/a\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{6 * GB}\n",
                "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\n",
            },
            3 * GB,
        ),
        (  # version 1 without a limit
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6\n",
            },
            16 * GB,
        ),
        (  # more is taken than there may be
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "5\n",
                "sys/fs/cgroup/memory.current": "6\n",
            },
            0,
        ),
    ],
    ids=["none", "v2", "v2, parent", "v1", "v1, no limit", "over it"],
)
def test_the_smallest_limit_holds(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert left_to_us(16 * GB, _files(tmp_path, files)) == expected


def test_a_batch_beyond_the_containers_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "_left_in_groups", lambda _root: iter([1_000_000]))
    with pytest.raises(UsageError, match=r"0\.0 GB.*smaller batch"):
        check_memory("mine", CropSpec({"face": ViewSpec("face", (64, 64))}), 100)
