"""Programs that start etcd in a way of their own: kOps' etcd-manager, Talos, and the wrapper of etcd-druid.

And which program overwrites a declaration, so that a change of it is lost (:func:`who_overwrites`).

Their files do not have etcd's settings, but what these follow from. etcd-manager is a container that starts
etcd with ``ETCD_`` variables (kubernetes-sigs/etcd-manager, pkg/etcd/etcdprocess.go, etcdProcess.Start, and
cmd/etcd-manager/main.go for the defaults). Talos starts etcd as a service with flags from its machine
configuration (siderolabs/talos, internal/app/machined/pkg/system/services/etcd.go, argsForControlPlane).

The container of etcd-druid gets its configuration file over HTTP from another one of the pod, which makes it
of a file in a ConfigMap for all pods (gardener/etcd-druid, internal/component/configmap/etcdconfig.go).

What they add when they run (the node's name and address, the directory of a volume) is unresolved. Talos
since 1.14 has another port for HTTP and a minimum of TLS 1.3, and its releases are not told apart without the
image of the installer. Where that is not known, the file is refused: the running etcd tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from yaml.nodes import MappingNode, Node

from pytest_etcdtls.declared.declaration import Declaration, Form, SourceLine
from pytest_etcdtls.declared.shell import ProgramStart, Variable, Word
from pytest_etcdtls.declared.yaml_files import documents, entries, items, node_at, place_of, text_of
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.untrusted import printable
from pytest_etcdtls.versions import version_key

ETCD_MANAGER: Final = "etcd-manager"
_OF_MANAGER: Final = {
    "client-urls": "https://__address__:4001",
    "peer-urls": "https://__address__:2380",
    "etcd-address": "0.0.0.0",  # noqa: S104 - of the declared etcd
    "listen-metrics-urls": "",
    "etcd-insecure": "false",
}
"""Flags of etcd-manager with their defaults, as far as they decide how etcd is started."""
_PKI: Final = "/VOLUME/pki/TOKEN"
"""The directory of etcd's files, which has names that etcd-manager chooses."""
_ON_THE_NODE: Final = "etcd-manager makes it of the node's name and address"


def started_by_manager(words: Iterable[Word], environment: Iterable[Variable]) -> ProgramStart:
    """Return how etcd-manager with these words starts etcd.

    Raises:
        UsageError: if one of its flags that decides about etcd is not in the file.
    """
    flags = {name: (value, SourceLine("")) for name, value in _OF_MANAGER.items()}
    place = SourceLine("")
    for word in words:
        place = word.place
        name, equals, value = word.text.lstrip("-").partition("=")
        if name in flags:
            if word.unresolved:
                raise UsageError(f"{word.place}: --{name} of etcd-manager is not in this file")
            flags[name] = (value if equals else "true", word.place)
    variables: dict[str, Variable] = {}

    def add(name: str, value: str, flag: str = "", unresolved: str = "") -> None:
        where = flags[flag][1] if flag and flags[flag][1].file else place
        variables[name] = Variable(name, value, where, unresolved)

    insecure = flags["etcd-insecure"][0] == "true"
    for name, flag, advertised in (
        ("ETCD_LISTEN_CLIENT_URLS", "client-urls", "ETCD_ADVERTISE_CLIENT_URLS"),
        ("ETCD_LISTEN_PEER_URLS", "peer-urls", "ETCD_INITIAL_ADVERTISE_PEER_URLS"),
    ):
        urls = flags[flag][0]
        urls = urls.replace("https://", "http://") if insecure else urls
        add(name, re.sub(r"(://)[^,/]*(?=:\d)", rf"\g<1>{flags['etcd-address'][0]}", urls), flag)
        of_node = "__name__" in urls or "__address__" in urls
        add(advertised, "" if of_node else urls, flag, _ON_THE_NODE if of_node else "")
    if flags["listen-metrics-urls"][0]:
        add("ETCD_LISTEN_METRICS_URLS", flags["listen-metrics-urls"][0], "listen-metrics-urls")
    for name in ("ETCD_NAME", "ETCD_INITIAL_CLUSTER", "ETCD_DATA_DIR"):
        add(name, "", unresolved=_ON_THE_NODE)
    if not insecure:
        for side, directory, pair in (("", "clients", "server"), ("PEER_", "peers", "me")):
            add(f"ETCD_{side}CLIENT_CERT_AUTH", "true")
            add(f"ETCD_{side}TRUSTED_CA_FILE", f"{_PKI}/{directory}/ca.crt")
            add(f"ETCD_{side}CERT_FILE", f"{_PKI}/{directory}/{pair}.crt")
            add(f"ETCD_{side}KEY_FILE", f"{_PKI}/{directory}/{pair}.key")
    # Variables of the container come last, "so that any param can be overwritten".
    variables |= {one.name: one for one in environment if one.name.startswith("ETCD_")}
    return ProgramStart(program=(Word("etcd", place),), environment=tuple(variables.values()))


_NEWEST_TALOS: Final = (1, 13)
"""The newest line of Talos whose flags for etcd are known here."""
_SECRETS: Final = "/system/secrets/etcd"
_CIPHERS: Final = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,"
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,"
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"
)
_RUNNING = (
    "pass the command line of the running etcd (talosctl read /proc/PID/cmdline > etcd.cmdline, with PID "
    "from talosctl processes)"
)


def machine_configuration(text: str, file: str) -> Node | None:
    """Return the document of a Talos machine configuration that has etcd; ``None`` if a text is none.

    Raises:
        UsageError: if it is that of a worker, or is not YAML.
    """
    if not re.search(r"^machine\s*:", text, re.MULTILINE) or not re.search(
        r"^cluster\s*:", text, re.MULTILINE
    ):
        return None
    for root in documents(text, file):
        if isinstance(node_at(root, "machine"), MappingNode) and node_at(root, "cluster") is not None:
            kind = text_of(node_at(root, "machine", "type"))
            if kind not in ("controlplane", "init"):
                raise UsageError(
                    f"{file} is Talos' configuration of a {printable(str(kind), 20)}: no etcd there"
                )
            return root
    return None


def started_by_talos(root: Node, text: str, file: str) -> ProgramStart:
    """Return how Talos with that machine configuration starts etcd.

    Raises:
        UsageError: if its flags are not known for that release, or an address that it listens on is not in
            the file.
    """
    etcd = node_at(root, "cluster", "etcd")
    release = _release(root, file)
    place = place_of(etcd if etcd is not None else root, file)
    if any(items(node_at(etcd, one)) for one in ("listenSubnets", "subnet")):
        raise UsageError(
            f"{place}: Talos listens on addresses of listenSubnets, which only the node has: {_RUNNING}"
        )
    flags = {
        "name": _hostname(root, text, file),
        "listen-client-urls": "https://0.0.0.0:2379",
        "listen-peer-urls": "https://0.0.0.0:2380",
        "data-dir": "/var/lib/etcd",
        "auto-tls": "false",
        "peer-auto-tls": "false",
    }
    for side, pair in (("", "server"), ("peer-", "peer")):
        flags |= {
            f"{side}client-cert-auth": "true",
            f"{side}cert-file": f"{_SECRETS}/{pair}.crt",
            f"{side}key-file": f"{_SECRETS}/{pair}.key",
            f"{side}trusted-ca-file": f"{_SECRETS}/ca.crt",
        }
    extra = dict(_extra(etcd, file))
    unresolved = dict.fromkeys(("advertise-client-urls", "initial-advertise-peer-urls"), "the node's address")
    if not flags["name"]:
        unresolved["name"] = "the node's name"
    words = [Word("etcd", place)]
    words += [Word(f"--{name}={value}", place) for name, value in flags.items() if value]
    words += [Word(f"--{name}=", place, (why,)) for name, why in unresolved.items() if name not in extra]
    words += [word for values in extra.values() for word in values]
    environment = [
        Variable(one.key, text_of(one.value) or "", one.place)
        for one in entries(node_at(root, "machine", "env"), file)
    ]
    environment.append(Variable("ETCD_CIPHER_SUITES", _CIPHERS, release))
    return ProgramStart(
        program=tuple(words), environment=tuple(environment), image=text_of(node_at(etcd, "image"))
    )


def _release(root: Node, file: str) -> SourceLine:
    """Return where the release is written; one whose flags are not known is refused.

    Raises:
        UsageError: if it is newer, or not written.
    """
    node = node_at(root, "machine", "install", "image")
    tag = re.search(r":v(\d+\.\d+)[^/:]*$", text_of(node) or "")
    if node is None or tag is None:
        raise UsageError(
            f"{file} does not tell the release of Talos (machine.install.image), on which etcd's flags "
            f"depend: {_RUNNING}"
        )
    if version_key(tag[1]) > _NEWEST_TALOS:
        raise UsageError(
            f"{place_of(node, file)}: which flags Talos {tag[1]} gives etcd is not known here, only up to "
            f"{'.'.join(map(str, _NEWEST_TALOS))}: {_RUNNING}"
        )
    return place_of(node, file)


def _hostname(root: Node, text: str, file: str) -> str:
    documented = [
        text_of(node_at(one, "hostname"))
        for one in documents(text, file)
        if text_of(node_at(one, "kind")) == "HostnameConfig"
    ]
    return next(filter(None, (*documented, text_of(node_at(root, "machine", "network", "hostname")))), "")


def _extra(etcd: Node | None, file: str) -> Iterator[tuple[str, list[Word]]]:
    for one in entries(node_at(etcd, "extraArgs"), file):
        values = items(one.value) or [one.value]
        yield one.key, [Word(f"--{one.key}={text_of(value) or ''}", one.place) for value in values]


DRUIDS_COMMAND: Final = "start-etcd"
"""The first argument of the container, whose image is gardener/etcd-wrapper."""
DRUIDS_FILE: Final = "etcd.conf.yaml"
"""The key of the ConfigMap."""


def configuration_of_pod(text: str, pod: str, file: str) -> str:
    """Return the configuration that a pod of etcd-druid has, of that for all pods. Lines keep their numbers.

    The name is the pod's, and of the advertised URLs, which are lists by pod, it gets its own.
    """
    lines = text.splitlines()
    for root in documents(text, file):
        if not isinstance(root, MappingNode):
            continue
        prefixed = node_at(root, "member-name-prefix") is not None
        for key, value in root.value:
            if key.value == "name":
                lines[key.start_mark.line] = "" if prefixed else f"name: {pod}"
            elif key.value in ("advertise-client-urls", "initial-advertise-peer-urls"):
                urls = [text_of(one) or "" for one in items(node_at(value, pod))]
                if not urls:
                    continue
                end = value.end_mark.line + (value.end_mark.column > 0)
                for number in range(key.start_mark.line, end):
                    lines[number] = ""
                lines[key.start_mark.line] = f"{key.value}: {','.join(urls)}"
    return "".join(f"{line}\n" for line in lines)


_OF_RANCHER: Final = (
    "{0} overwrites this file when it starts: give keys of its top level, such as tls-min-version, as "
    "etcd-arg in /etc/rancher/{1}/config.yaml; a restart of {0} brings back its own sections for TLS"
)
_WRITERS: Final = (
    (r"/rke2/server/tls/etcd/", _OF_RANCHER.format("RKE2", "rke2")),
    (r"/server/tls/etcd/(server-client|server-ca)\.crt$", _OF_RANCHER.format("k3s", "k3s")),
    (
        r"^/system/secrets/etcd/",
        "Talos starts etcd with flags of its own: give the same in cluster.etcd.extraArgs of the machine "
        "configuration (talosctl edit machineconfig)",
    ),
    (
        r"/k0s/pki/etcd/",
        "k0s starts etcd with flags of its own: give the same in spec.storage.etcd.extraArgs of its "
        "configuration, /etc/k0s/k0s.yaml",
    ),
    (
        r"/pki/[^/]+/clients/[^/]+\.crt$",
        "kOps writes this manifest, and etcd-manager starts etcd: give the same as ETCD_ variables in "
        "etcdClusters[].manager.env (kops edit cluster)",
    ),
    (
        r"/etcd-all-(certs|bundles)/",
        "OpenShift's etcd operator overwrites this manifest: versions and suites of TLS follow from "
        "spec.tlsSecurityProfile (oc edit apiserver cluster), and other flags are the operator's own",
    ),
)
"""What overwrites a declaration, by the path of a certificate, and where to give the same instead."""
_KUBEADM: Final = (
    "kubeadm upgrade overwrites this manifest: give the same flags in etcd.local.extraArgs of its "
    "ClusterConfiguration (kubectl -n kube-system edit configmap kubeadm-config)"
)
_KUBEADM_FILES: Final = ("ca.crt", "server.crt", "peer.crt")


def kubeadm_directory(declaration: Declaration) -> str:
    """Return the directory of etcd's certificates if kubeadm made them, else an empty text."""
    for path in _paths(declaration):
        directory, _, file = path.rpartition("/")
        if declaration.form is Form.MANIFEST and directory.endswith("/pki/etcd") and file in _KUBEADM_FILES:
            return directory
    return ""


def who_overwrites(declaration: Declaration) -> Iterator[str]:
    """Yield which program overwrites a declaration, and where a change is given so that it stays."""
    kind, _, name = declaration.owner.partition(" ")
    if kind == "Helm":
        yield f"Helm writes this object ({name}): give the same in the values of its chart"
    elif kind == "node":
        yield f"the kubelet of {name or 'a node'} makes this pod of a file in its directory: change that file"
    elif kind:
        yield f"the {kind} {name} owns this object, and its controller overwrites it: give the same there"
    for pattern, sentence in _WRITERS:
        if any(re.search(pattern, path) for path in _paths(declaration)):
            yield sentence
            return
    if kubeadm_directory(declaration):
        yield _KUBEADM


def _paths(declaration: Declaration) -> Iterator[str]:
    for name in ("trusted-ca-file", "peer-trusted-ca-file", "cert-file", "peer-cert-file"):
        if path := declaration.text(name):
            yield path
