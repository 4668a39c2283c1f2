"""Which of the tests a run has. All of them take hours, so a run has a part that turns with the commits.

Two variables decide; the Makefile and ``.ci/run`` set them:

- ``TESTS`` is ``few`` (``make test``, the default), ``turn`` (CI) or ``all`` (``make test TESTS=all``). A
  number N is one test in N of every file (``.ci/machine embedded`` in CI).
- ``TURN`` is the number of commits. It chooses the part, so after some commits each test has run, on each
  etcd. The same commit has the same part.

A test for every etcd runs on one of them, and with ``all`` on each. Of the files and folders in ``SHARES``
one test in so many runs; of the tests of another file that need an etcd, one in eight in ``make test`` and
one in two in CI. The other tests are deselected.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import pytest

TESTS: Final = os.environ.get("TESTS") or "few"
TURN: Final = int(os.environ.get("TURN") or 0)
ALL: Final = TESTS == "all"
ONE_IN: Final = int(TESTS) if TESTS.isdecimal() else 0


class Share(NamedTuple):
    """One test in so many runs, in ``make test`` and in CI; 0 stands for no test."""

    few: int
    turn: int = 1

    @property
    def now(self) -> int:
        return ONE_IN or {"few": self.few, "turn": self.turn}.get(TESTS, 1)


SHARES: Final = {
    "by_hand/test_by_hand.py": Share(2),
    "certificates/test_issuers.py": Share(6),
    "ci/test_recipes.py": Share(36, 4),
    "cluster/test_backends.py": Share(4),
    "cluster/test_container.py": Share(12, 3),
    "cluster/test_container_engine.py": Share(6, 3),
    "cluster/test_discovery.py": Share(4),
    "cluster/test_testcontainer.py": Share(6, 3),
    "cluster/test_watchdog.py": Share(24, 3),
    "declared/test_configuration_file_on_etcd.py": Share(12, 3),
    "declared/test_pod.py": Share(3),
    "discovery/test_discovery_in_pytest.py": Share(24, 2),
    "etcd_log/test_agreement.py": Share(16, 2),
    "etcd_log/test_log_option.py": Share(16, 2),
    "fuzz": Share(20, 5),
    "hostile": Share(40, 7),
    "hostile/test_pasted_commands.py": Share(4),
    "hostile/test_text.py": Share(6, 2),
    "impostors/test_impostors.py": Share(8, 2),
    "kubeadm": Share(24, 3),
    "lifecycle/test_clean.py": Share(12, 3),
    "live/test_plan.py": Share(24, 3),
    "live/test_server_addresses.py": Share(24, 3),
    "live/test_wrong_endpoints.py": Share(4),
    "oracle/test_clients.py": Share(3),
    "oracle/test_oracle.py": Share(0),
    "packaging/test_benchmarks.py": Share(12, 4),
    "packaging/test_examples.py": Share(20, 2),
    "pki/test_authority.py": Share(2),
    "pki/test_bundle.py": Share(3),
    "pki/test_identities.py": Share(4),
    "pki/test_loading.py": Share(3),
    "plugin": Share(20, 3),
    "plugin/test_command_line.py": Share(12, 2),
    "plugin/test_consumer.py": Share(3),
    "plugin/test_program.py": Share(3),
    "presets/test_presets.py": Share(40, 2),
    "process": Share(12, 2),
    "profiles/test_guidelines_on_etcd.py": Share(72, 12),
    "profiles/test_profiles_in_pytest.py": Share(4),
    "remedies/test_cured_settings.py": Share(40, 4),
    "remedies/test_printed_commands.py": Share(60, 4),
    "replay/test_replay.py": Share(16, 3),
    "report/test_browser.py": Share(0),
    "report/test_formats.py": Share(16, 2),
    "report/test_hostile_content.py": Share(8),
    "report/test_metadata.py": Share(8, 2),
    "report/test_openmetrics.py": Share(12, 2),
    "report/test_report_document.py": Share(10),
    "tests/test_commands.py": Share(60, 6),
    "tests/test_recording.py": Share(16, 2),
    "tests/test_startup.py": Share(12, 2),
    "truth/test_modes.py": Share(16, 3),
    "truth/test_truth.py": Share(16, 3),
    "zoo/test_independent_faults.py": Share(60, 10),
}
"""The files whose tests are alike and take long, and folders of such files."""

WHOLE: Final = Share(0, 4)
"""Of the tests marked ``whole``, in each file."""
ON_ETCD: Final = Share(8, 2)
"""Of the tests that need an etcd, in each file that the table does not have."""


class OnEtcd(NamedTuple):
    """A test that is for every etcd, on one of them; ``test`` is its id without the version."""

    test: str
    version: str


def left_out(
    items: Iterable[pytest.Item],
    on_etcd: Callable[[pytest.Item], OnEtcd | None],
    uses_etcd: Callable[[pytest.Item], bool],
) -> set[pytest.Item]:
    """Return the items that another turn has, or ``make test TESTS=all`` alone.

    Args:
        on_etcd: says which etcd an item is for; ``None`` if it is not for every etcd.
        uses_etcd: says whether an item needs an etcd.
    """
    if ALL:
        return set()
    parts: dict[tuple[str, Share], dict[str, list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        place, name = on_etcd(item), "/".join(item.path.parts[-2:])
        if item.get_closest_marker("whole") is not None:
            share = WHOLE
        else:
            usual = ON_ETCD if uses_etcd(item) else Share(1)
            share = SHARES.get(name, SHARES.get(item.path.parent.name, usual))
        parts[name, share][place.test if place else item.nodeid].append(item)
    left: set[pytest.Item] = set()
    for (name, share), tests in parts.items():
        # Files with a single test are not all in the same turn.
        first = TURN + zlib.crc32(name.encode())
        for number, test in enumerate(sorted(tests), first):
            left.update(tests[test])
            if share.now and number % share.now == 0:
                of_test = tests[test]
                left.remove(of_test[number // share.now % len(of_test)])
    return left
