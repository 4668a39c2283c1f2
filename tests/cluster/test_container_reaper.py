"""Starting a cluster does not change the settings of another user of testcontainers."""

from __future__ import annotations

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.labels import LABEL_SESSION_ID, create_labels

from pytest_etcdtls.cluster.container import reaper_off

IMAGE = "pytest-etcdtls/etcd:3.6.16"


@pytest.mark.parametrize("before", [None, True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_the_reaper_setting_is_restored(
    before: bool | None, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", before)
    image = testcontainers_config.ryuk_image
    with reaper_off(IMAGE, keep=keep):
        assert testcontainers_config.ryuk_disabled
    assert testcontainers_config._ryuk_disabled is before
    assert testcontainers_config.ryuk_image == image


def test_the_reaper_setting_is_restored_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", False)
    with pytest.raises(RuntimeError), reaper_off(IMAGE, keep=False):
        raise RuntimeError
    assert not testcontainers_config.ryuk_disabled


def test_a_later_setting_of_another_user_of_testcontainers_is_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Testcontainers reads the environment at the first use only, which must not be ours."""
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", None)
    monkeypatch.delenv("TESTCONTAINERS_RYUK_DISABLED", raising=False)
    with reaper_off(IMAGE, keep=False):
        pass
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    assert testcontainers_config.ryuk_disabled


def test_a_kept_container_has_no_label_of_the_reaper() -> None:
    with reaper_off(IMAGE, keep=False):
        assert LABEL_SESSION_ID in create_labels(IMAGE, {})
    with reaper_off(IMAGE, keep=True):
        assert LABEL_SESSION_ID not in create_labels(IMAGE, {})
