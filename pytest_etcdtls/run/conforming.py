"""What conforming etcds answered, once: the facts on which a check is tried without a network.

``conforming.json`` has what real etcds answered to each request of every fact that a check reads, in the
configurations of :data:`CLUSTERS`. ``python -m record_conforming`` makes it anew. To prove a check, the
ordinary functions of :mod:`pytest_etcdtls.facts` run on a :class:`~pytest_etcdtls.run.observer.Network` that
answers from this file. So a fact of requests that are in the file needs nothing else, and the file knows no
type of fact.

- **A request** is found again by a text: its purpose, who presents it, protocol, TLS version, method and
  path, and what else is unusual about it. A request that is not in the file is a :class:`NotRecordedError`,
  which names it.
- **Certificates and keys** are not in the file. It names a certificate by its file, as ``m0/server.crt``. The
  PKI of the same plan is generated when the file is read, and written to a temporary directory with etcd's
  command lines. So the declared files, their modes, the keys and every issued identity are real, and nothing
  expires.
- **Not verbatim** are metrics, of which the lines about versions and the server are kept, and the first bytes
  of a connection, which end with the first line. Local addresses and durations are left out.
- **Times** are those of the replay, also the ``Date`` of a response, for the same reason.
- **A target** is made by the code that makes it of a cluster that runs. :func:`views` also has
  the same clusters as a user names them, for facts that an owned cluster does not have.

Experiments, etcd's log and what depends on the machine are not here.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import convert

from pytest_etcdtls.checks.registry import Check, CheckFunction, catalogue, place_of
from pytest_etcdtls.checks.results import CannotJudge, Finding
from pytest_etcdtls.errors import RegistrationError, UnobservedError
from pytest_etcdtls.etcd.config import ClusterConfig, member_addresses, write_pki
from pytest_etcdtls.etcd.launch import Launch
from pytest_etcdtls.etcd.member import Member, owned_target
from pytest_etcdtls.etcd.presets import PRESETS
from pytest_etcdtls.etcd.process import EtcdProcess
from pytest_etcdtls.etcd.sources import EtcdSource
from pytest_etcdtls.facts.fact import Each, Need, Reading
from pytest_etcdtls.pki.bundle import ClusterPKI
from pytest_etcdtls.pki.profile import CLIENT, CALayout, MemberNames, PKIPlan
from pytest_etcdtls.role import Role
from pytest_etcdtls.run.observer import Network, Observer, find_fact
from pytest_etcdtls.target import Bounds, Listener, Target
from pytest_etcdtls.tls.attempt import Attempt, Request, Response, Ticket
from pytest_etcdtls.tls.hello import ClientHello, HelloExchange, version_name

FILE: Final = Path(__file__).with_suffix(".json")

ANEW: Final = "'PYTHONPATH=tests python -m record_conforming'"
"""The command that makes the file, in a work tree with an etcd."""
_RECORD = f"record it again with {ANEW}, or return with @check(..., conforming=...) what etcd answers"
_ASK = (
    "ask a real etcd: prove_check(..., observer=etcd_observer), in a test with the fixture etcd_observer, or "
    "return with @check(..., conforming=...) what etcd answers"
)

_SUITES = PRESETS["aead-suites"].config.cipher_suites

CLUSTERS: Final[Mapping[str, ClusterConfig]] = {
    "three-members": replace(
        PRESETS["hardened"].config,
        pki=PKIPlan(layout=CALayout.PER_ROLE),
        cipher_suites=_SUITES,
        tls_min_version="TLS1.2",
        tls_max_version="TLS1.3",
        metrics="https",
    ),
    "split-http": ClusterConfig(
        pki=PKIPlan(layout=CALayout.SHARED),
        client_crl_file="crl.der",
        peer_crl_file="crl.der",
        cipher_suites=_SUITES,
        client_http=True,
    ),
    # etcd's gateway cannot meet a rule about hostnames, and of the rules about peers only one can be set.
    "hostnames": ClusterConfig(
        pki=PKIPlan(client=replace(CLIENT, subject_alt_names=("localhost",))),
        client_cert_allowed_hostname="localhost",
        peer_cert_allowed_hostname="localhost",
        client_http=True,
    ),
}
"""The configurations that are recorded. What the first cannot have, one after it has."""


_PORT = re.compile(r"(?<=[0-9a-z\]]):[0-9]+")


class NotRecordedError(Exception):
    """A request has no answer in the file."""


def request_key(there: Listener, request: Request) -> str:
    """Return the text by which the answer to a request is found again."""
    unusual = {
        "plaintext": request.plaintext,
        "ALPN": request.alpn is not None and (" ".join(request.alpn) or "none"),
        "SNI": request.server_name is not None and (request.server_name or "none"),
        "headers": ", ".join(request.headers),
        "a session": request.resume is not None,
        "renegotiation": request.renegotiate,
    }
    line = f"{request.method} {request.path}".strip()
    texts = (
        # A purpose may name another listener, whose port is another one in each recording.
        line if request.purpose == line else f"{_PORT.sub('', request.purpose)}: {line}",
        f"as {request.identity.name} over {request.protocol}",
        *([request.version] if request.version else []),
        *(name if value is True else f"{name} {value}" for name, value in unusual.items() if value),
    )
    return ", ".join(texts) + _redirected(there)


def hello_key(there: Listener, hello: ClientHello) -> str:
    """Return the text by which the reply to a ClientHello is found again; a digest has what it offers."""
    offer = [getattr(hello, name) for name in hello.__struct_fields__ if name != "purpose"]
    digest = hashlib.sha256(repr(offer).encode()).hexdigest()[:8]
    return f"{hello.purpose}: ClientHello {digest}, {version_name(hello.version)}{_redirected(there)}"


def _redirected(there: Listener) -> str:
    return f", at {there.connect_to[0]}" if there.connect_to else ""


def certificate_names(pki: ClusterPKI) -> dict[bytes, str]:
    """Return the name of each served certificate and of each subject of a CA, by DER."""
    authorities = (("client", pki.client_ca), ("server", pki.server_ca), ("peer", pki.peer_ca))
    subjects = {ca.certificate.subject.public_bytes(): f"{name}-ca.crt" for name, ca in authorities}
    leaves = {
        identity.chain[0].public_bytes(Encoding.DER): f"{member}/{file}"
        for file, of_members in (("server.crt", pki.servers), ("peer.crt", pki.peers))
        for member, identity in of_members.items()
    }
    return subjects | leaves


def views(target: Target) -> tuple[Target, Target]:
    """Return the target of a recorded cluster, and the same as a user names it.

    Named is the first member alone, without the files that its listeners must serve and the revoked
    certificate. So the declaration and the member list say more than the user.
    """
    member = target.listeners[0].member
    named = replace(
        target,
        label=f"{target.label}, named",
        origin="live",
        listeners=tuple(listener for listener in target.listeners if listener.member == member),
        client=replace(target.client, revoked=None, signing_key=None),
        peer=replace(target.peer, signing_key=None),
        expected=(),
        discover=True,
    )
    return target, named


C = TypeVar("C", Attempt, HelloExchange)


class Replay(Network):
    """Answers from the file.

    Args:
        answers: by label of the listener and key of the request.
        ders: the certificate or the subject of a CA that a name stands for.
    """

    def __init__(
        self, answers: Mapping[str, Mapping[str, Mapping[str, Any]]], ders: Mapping[str, bytes]
    ) -> None:
        self._answers = answers
        self._ders = ders
        self._now = datetime.now(UTC)

    def attempt(self, there: Listener, request: Request, timeout: float) -> Attempt:
        """Return the recorded attempt, and fill the session's slot."""
        key = request_key(there, request)
        tickets = self._answer(there, key).get("tickets")
        if request.keep is not None and tickets is not None:
            request.keep.session = cast("Any", key)  # nothing resumes it: a request says that it does
            request.keep.tickets = convert(tickets, tuple[Ticket, ...])
        of_request: dict[str, Any] = {"identity": request.identity.name, "protocol": request.protocol}
        of_request |= {"purpose": request.purpose, "offered_version": request.version}
        return self._connection(Attempt, there, key, of_request)

    def hello(self, there: Listener, hello: ClientHello, timeout: float) -> HelloExchange:
        """Return the recorded reply."""
        of_hello = {"purpose": hello.purpose, "offered": version_name(hello.version)}
        return self._connection(HelloExchange, there, hello_key(there, hello), of_hello)

    def silence(self, there: Listener, purpose: str, seconds: float) -> HelloExchange:
        """Return how the recorded connection ended."""
        return self._connection(HelloExchange, there, purpose, {"purpose": purpose, "offered": ""})

    def _connection(self, kind: type[C], there: Listener, key: str, known: Mapping[str, Any]) -> C:
        answer = {**self._answer(there, key), **known, "url": there.url, "started_at": self._now}
        for name in {"chain", "announced_ca"} & answer.keys():
            answer[name] = [self._ders[file] for file in answer[name]]
        if "first_bytes" in answer:
            answer["first_bytes"] = answer["first_bytes"].encode("latin-1")
        if response := answer.get("response"):
            headers = dict(response.get("headers", {}))
            if "date" in headers:
                headers["date"] = format_datetime(self._now, usegmt=True)
            body = response.get("body", "").encode("latin-1")
            answer["response"] = Response(response["status"], headers, body)
        return convert(answer, kind)

    def _answer(self, there: Listener, key: str) -> Mapping[str, Any]:
        try:
            return self._answers[there.label][key]
        except KeyError:
            raise NotRecordedError(f"the recording has no request '{key}'") from None


BOUNDS: Final = Bounds(concurrency=1, max_connections=100_000)


@functools.cache
def observers() -> tuple[Observer, ...]:
    """Return an observer of each view of each cluster, in the order in which they are asked for facts."""
    document = json.loads(FILE.read_text(encoding="utf-8"))
    etcd = EtcdSource(kind="process", location="etcd", version=document["etcd"], why="it was recorded")
    directory = Path(tempfile.mkdtemp(prefix="etcdtls-recording-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return tuple(
        Observer(target, BOUNDS, network)
        for name, config in CLUSTERS.items()
        for target, network in _replayed(etcd, config, document["clusters"][name], directory / name)
    )


def _replayed(
    etcd: EtcdSource, config: ClusterConfig, recorded: Mapping[str, Any], directory: Path
) -> Iterator[tuple[Target, Replay]]:
    """Yield the views of a recorded cluster, whose PKI is generated in the directory, and their network."""
    ports, arguments = iter(recorded["ports"]), recorded["arguments"]
    pki = ClusterPKI.generate(config.pki, [MemberNames(member) for member in arguments])
    write_pki(pki, config, directory / "pki", with_ca_keys=False)
    members = []
    for member, argv in arguments.items():
        (directory / member / "data").mkdir(mode=0o700, parents=True)
        program, *arguments = (argument.replace("{directory}", str(directory)) for argument in argv)
        launch = Launch(name=member, label=member, arguments=tuple(arguments))
        members.append(
            Member(
                addresses=member_addresses(config, member, ports),
                pki_root=directory / "pki",
                files=pki.paths(member, with_ca_keys=True),
                server=EtcdProcess(program, launch, directory / "etcd.log", cast("Any", None)),
            )
        )
    network = Replay(recorded["answers"], {name: der for der, name in certificate_names(pki).items()})
    # Without a source no cluster is started for an experiment.
    target = replace(owned_target(etcd, config, pki, members), logs={}, source=None)
    yield from ((view, network) for view in views(target))


def prove_check(
    check: Check | CheckFunction | str, role: Role | None = None, *, observer: Observer | None = None
) -> None:
    """Try a check on conforming observations and on its own counterexample.

    It must be silent on what conforming etcds answered, or what its ``conforming=`` makes of that, and find
    something in the observations that its counterexample returns.

    Args:
        check: the check, its function, or its id.
        role: role of the listener that is judged (default: a client's if it judges that).
        observer: of a conforming etcd, as the fixture ``etcd_observer``, for a request that is not recorded
            (default: the recording of the package, without a network).

    Raises:
        AssertionError: if it does not. The message names the file and what to change.
    """
    check = _check(check)
    observations = conforming(check, role, observer)
    where = _where(check)
    yielded = [it for it in check.function(**observations) if isinstance(it, Finding | CannotJudge)]
    if yielded:
        raise AssertionError(
            f"{where} has findings about a conforming etcd: {yielded}. Correct the check, or return with "
            "@check(..., conforming=...) what a conforming etcd answers instead"
        )
    changed = dict(check.counterexample(**observations))
    if not changed or not changed.keys() <= observations.keys():
        raise AssertionError(
            f"{where}: the counterexample returns {sorted(changed)}; it must return some of the parameters "
            f"of the check, which are {sorted(observations)}"
        )
    findings = [it for it in check.function(**(observations | changed)) if isinstance(it, Finding)]
    if not findings:
        raise AssertionError(f"{where} finds nothing in its own counterexample, which returned {changed}")
    if not all(it.message and it.expected and it.observed for it in findings):
        raise AssertionError(f"{where}: a finding lacks message, expected or observed: {findings}")


def conforming(check: Check, role: Role | None = None, observer: Observer | None = None) -> dict[str, Any]:
    """Return observations of a conforming subject by the parameters of a check, about which it is silent.

    They are of the first recorded target that has all of them. One that no target has is ``None``, if the
    check can do without it or has ``conforming=``.

    Args:
        check: the check.
        role: role of the listener that is judged (default: a client's if it judges that).
        observer: of a conforming etcd (default: those of the recording).

    Raises:
        AssertionError: if a parameter cannot be observed, or no recorded etcd has it.
    """
    role = role or (Role.CLIENT if Role.CLIENT in check.roles else max(check.roles, default=None))
    partial: list[tuple[dict[str, Any], list[tuple[Need, str]]]] = []
    for tried in observers() if observer is None else (observer,):
        here = tried.target.first_of(role)
        if here is not None or role is None:
            partial.append(observed(check, tried, here))
            if not partial[-1][1]:
                break
    if not partial:
        raise AssertionError(f"{_where(check)}: the target has no {role} listener")
    given, missing = min(partial, key=lambda attempt: len(attempt[1]))
    needed = [text for need, text in missing if need.reading is not Reading.OPTIONAL]
    if needed and not check.conforming:
        advice = ""
        if observer is None:
            ours = check.function.__module__.startswith("pytest_etcdtls.")
            advice = f": {_RECORD if ours else _ASK}"
        raise AssertionError(f"{_where(check)}: {'; '.join(needed)}{advice}")
    return given | dict(check.conforming(**given) if check.conforming else {})


def observed(
    check: Check, observer: Observer, here: Listener | None
) -> tuple[dict[str, Any], list[tuple[Need, str]]]:
    """Return the arguments of a check on a recorded target, and why some are missing and ``None``."""
    missing: list[tuple[Need, str]] = []

    def read(need: Need) -> Any:  # noqa: ANN401 - of its type
        find_fact(need.type).check_key(need.key)
        try:
            if need.reading is Reading.EACH:
                return _each(need, observer)
            return observer.get(need.type, need.key, here)
        except (NotRecordedError, UnobservedError) as error:
            missing.append((need, f"{need.type.__name__}: {error}"))
            return None

    try:
        return check.arguments(observer.target, here, read), missing
    except RegistrationError as error:
        raise AssertionError(f"{_where(check)}: {error}") from error


def _each(need: Need, observer: Observer) -> Each[Any]:
    """Read the fact of every listener, or why it cannot be obtained, so that a recording has all."""
    facts: dict[Listener, Any] = {}
    for listener in observer.target.listeners:
        try:
            facts[listener] = observer.get(need.type, need.key, listener)
        except UnobservedError as error:
            facts[listener] = error
    return Each.of(facts)


def _where(check: Check) -> str:
    return f"{check.id} ({':'.join(map(str, place_of(check.function)))})"


def _check(check: Check | CheckFunction | str) -> Check:
    if isinstance(check, Check):
        return check
    for known in catalogue().values():
        if check == known.id or (callable(check) and place_of(check) == place_of(known.function)):
            return known
    raise AssertionError(f"{check} is no check: give the function that @check decorates, or an id")
