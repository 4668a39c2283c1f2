"""A declaration at other ports and paths: what is launched to replay it on this machine.

Every declared setting is kept, in its order and as a flag, a variable or a key, except for those of the
machine or of the other members. The declaration may be a stranger's, and this etcd has our rights: a key of
a configuration file that is not known is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import (
    FILES,
    FLAGS,
    Declaration,
    DeclaredURL,
    Setting,
    bind_problem,
    in_force,
    parse_urls,
    refused_urls,
)
from pytest_etcdtls.declared.effective import tls_side
from pytest_etcdtls.declared.flags import top_level_flag, variable_of
from pytest_etcdtls.declared.yaml_files import SECTION_FLAGS, edited
from pytest_etcdtls.etcd.launch import Launch, MemberPaths, Served
from pytest_etcdtls.role import Role

_LISTS: Final = frozenset(FLAGS.values())
_ALWAYS: Final = {"log-output": "stderr", "log-outputs": "stderr", "log-format": "json"}
_INSTEAD: Final = {
    ("initial-cluster-state", "existing"): "new",
    **{("log-level", level): "info" for level in ("warn", "error", "panic", "fatal")},
}
"""Values of settings that a replay replaces: always, and instead of a certain value."""
_SWITCHED_OFF: Final = {
    "enable-log-rotation": "logs are not rotated",
    "enable-distributed-tracing": "traces are not sent",
    "experimental-enable-distributed-tracing": "traces are not sent",
}
_DEFAULT_PEER_URL: Final = "http://localhost:2380"
MEMBER: Final = "m0"


class Place(Struct, frozen=True, kw_only=True):
    """Where a declaration is replayed.

    Attributes:
        listen: the address that etcd listens on.
        ports: the port for each declared address (``10.0.0.11:2379``) and for etcd's own defaults.
        paths: the directories; in that of the PKI each file keeps its declared path.
    """

    listen: str
    ports: Mapping[str, int]
    paths: MemberPaths

    def file(self, declared: str) -> PurePosixPath:
        """Return where the file of a declared path is."""
        return self.paths.pki / below_root(declared)

    def url(self, declared: DeclaredURL) -> str:
        """Return the URL that etcd listens on instead."""
        scheme = "https" if declared.secure else "http"
        return f"{scheme}://{self.listen}:{self.ports[declared.address]}"


def below_root(declared: str) -> PurePosixPath:
    """Return a declared path without its root and without ``..``."""
    return PurePosixPath(*(part for part in PurePosixPath(declared).parts if part not in ("/", "..", ".")))


def moved_urls(declaration: Declaration) -> dict[str, list[DeclaredURL]]:
    """Return the declared URLs that are moved, by the flag that lists them, and etcd's defaults.

    A URL that etcd refuses is not moved, so that it is refused in the replay too.
    """
    moved = {
        flag: [
            url
            for url in parse_urls(declaration.text(flag) or "")
            if not url.is_socket and bind_problem(url) is None
        ]
        for flag in FLAGS.values()
    }
    for role, port in ((Role.CLIENT, 2379), (Role.PEER, 2380)):
        if declaration.text(FLAGS[role]) is None:
            moved[FLAGS[role]] = [DeclaredURL("http", "localhost", port)]
    return moved


def replacements(declaration: Declaration) -> Iterator[str]:
    """Yield the differences to the declaration, one sentence each, except for ports and directories."""
    for setting in (*declaration.settings.values(), *declaration.hidden):
        if replacement := _replaced(setting, declaration):
            yield f"{setting.spelled}: {replacement}"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if name in declaration.go_environment:
            yield f"{name}: the root certificates are this machine's"
    yield from (f"left out: {note}" for note in declaration.notes)


def _replaced(setting: Setting, declaration: Declaration) -> str:
    name, value = setting.name, setting.value
    if name in _LISTS and (sockets := [str(url) for url in parse_urls(value) if url.is_socket]):
        return f"{', '.join(sockets)} is not opened"
    if name == "initial-cluster" and value.count("=") > 1:
        return "only this member"
    if name == "discovery-config" or (name.startswith("discovery") and value):
        return "not used"
    if name in _SWITCHED_OFF and setting.on:
        return _SWITCHED_OFF[name]
    instead = _instead(name, value)
    return "" if instead == value or value == "default" else instead


def _instead(name: str, value: str) -> str:
    """Return the value of a setting that a replay has for every declaration."""
    if name == "auth-token" and value.startswith("jwt"):
        return "simple"
    return _ALWAYS.get(name) or _INSTEAD.get((name, value), value)


def relocate(declaration: Declaration, version: str, place: Place, *, additions: Mapping[str, str]) -> Launch:
    """Return what etcd is started with at another place.

    The additions are settings of this etcd that are given where the declaration does not give them. It opens
    the client listeners that this version reads from the declaration.
    """
    started, known = declaration.started_with, _Values(declaration, place)
    added = {**additions, "data-dir": str(place.paths.data), **known.defaults()}
    added = {name: value for name, value in added.items() if name not in declaration.settings}
    arguments = [
        one if isinstance(one, str) else f"{one.spelled}={known.of(one.name, one.value)}"
        for one in started.arguments
    ]
    variables = {variable.spelled: known.of(variable.name, variable.value) for variable in started.variables}
    if "GODEBUG" in declaration.go_environment:
        variables["GODEBUG"] = declaration.go_environment["GODEBUG"]
    text = started.configuration
    if text is not None:
        variables.pop(variable_of("config-file"), None)
        if not any(isinstance(one, Setting) and one.name == "config-file" for one in started.arguments):
            arguments.insert(0, f"--config-file={place.paths.config_file}")
        text = edited(text, lambda document: _configured(document, known, added))
    else:
        arguments = [*(f"--{name}={value}" for name, value in added.items()), *arguments]
    moved = moved_urls(in_force(declaration, version))
    served = (url for role in (Role.CLIENT, Role.CLIENT_HTTP) for url in moved[FLAGS[role]])
    return Launch(
        name=MEMBER,
        label=f"member {declaration.name}",
        arguments=tuple(arguments),
        environment=variables,
        config_file=text,
        ports={port: port for port in place.ports.values()},
        serves=Served.from_urls(map(place.url, served)),
    )


class _Values:
    """The values of settings at another place.

    Args:
        declaration: the declaration.
        place: where it is replayed.
    """

    def __init__(self, declaration: Declaration, place: Place) -> None:
        self._place = place
        self._name = declaration.name
        self._peer_urls = declaration.text("initial-advertise-peer-urls") or _DEFAULT_PEER_URL
        self._moved = moved_urls(declaration)
        self._given = declaration.settings
        self._generates = tls_side(declaration, "client", None).generated
        self._left_out = declaration.started_with.left_out
        self._by_name: dict[str, Callable[[str], str]] = {
            **dict.fromkeys(_LISTS, lambda value: self._listened(value) if value else value),
            **dict.fromkeys(FILES, lambda value: str(place.file(value)) if value else value),
            **dict.fromkeys(_SWITCHED_OFF, lambda _: "false"),
            "config-file": lambda _: str(place.paths.config_file),
            "data-dir": lambda _: str(place.paths.data),
            "wal-dir": lambda value: str(place.paths.data / "wal") if value else value,
            "advertise-client-urls": self._advertised,
            "initial-cluster": lambda _: self._members(),
        }

    def of(self, name: str, value: Any) -> Any:  # noqa: ANN401 - of a YAML document
        """Return the value of a setting."""
        if not isinstance(value, str):
            if name == "log-outputs":
                return ["stderr"]
            return False if name in _SWITCHED_OFF and value is True else value
        if name.startswith("discovery"):
            return "" if name in ("discovery", "discovery-srv", "discovery-endpoints") else value
        return self._by_name[name](value) if name in self._by_name else _instead(name, value)

    def defaults(self) -> dict[str, str]:
        """Return the lists of URLs that etcd has by default, at their new ports."""
        lists = {
            flag: ",".join(map(self._place.url, urls))
            for flag, urls in self._moved.items()
            if flag not in self._given and urls
        }
        # etcd requires these with others. Those whose declared value is not known get one.
        if FLAGS[Role.CLIENT] in lists or "advertise-client-urls" in self._left_out:
            lists["advertise-client-urls"] = "http://localhost:2379"
        if self._left_out & {"name", "initial-cluster"}:
            lists["initial-cluster"] = self._members()
        return lists

    def _advertised(self, value: str) -> str:
        """Return the advertised URLs; with --auto-tls those of the address that the certificate is for."""
        if not self._generates or any(refused_urls(value)):
            return value
        return ",".join(dict.fromkeys(f"{url.scheme}://127.0.0.1:{url.port}" for url in parse_urls(value)))

    def _members(self) -> str:
        return ",".join(f"{self._name}={url}" for url in self._peer_urls.split(","))

    def _listened(self, value: str) -> str:
        listed: dict[str, None] = {}
        for text in value.split(","):
            urls = parse_urls(text)
            if urls and urls[0].is_socket:
                continue
            # A URL that etcd refuses is kept, and one that another setting overrides.
            moves = bool(urls) and bind_problem(urls[0]) is None and urls[0].address in self._place.ports
            listed[self._place.url(urls[0]) if moves else text] = None
        # If all are sockets: etcd needs a list, and opens this one in its working directory.
        return ",".join(listed) or "unix://replay-of-a-socket:0"


def _configured(document: Mapping[str, Any], known: _Values, added: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the keys of a configuration file with the values of another place.

    A key that is not known is left out: Go takes U+017F for an s, and decodes fields of etcd's Config by
    their names. So is ``discovery-config``, which names others.
    """
    changed: dict[str, Any] = {}
    for key, value in document.items():
        name = str(key).lower()
        if name in SECTION_FLAGS and isinstance(value, dict):
            flags = {inner: SECTION_FLAGS[name].get(str(inner).lower()) for inner in value}
            changed[key] = {inner: known.of(flag, value[inner]) for inner, flag in flags.items() if flag}
        elif value is not None and top_level_flag(name) and name != "discovery-config":
            changed[key] = known.of(name, value)
    lower = {key.lower() for key in changed}
    for name, setting in added.items():
        if name not in lower:
            scalar = int(setting) if setting.isdigit() else setting
            changed[name] = [setting] if name == "log-outputs" else scalar
    return changed
