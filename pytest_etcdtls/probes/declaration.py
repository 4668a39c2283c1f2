"""What was declared about a listener, and what the etcd that runs makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_etcdtls.declared.effective_listener import EffectiveListener
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.declared.standing import Declarations, ListenerDeclaration, MemberDeclaration
from pytest_etcdtls.errors import NotApplicableError, UnobservedError
from pytest_etcdtls.observations.release import EtcdRelease
from pytest_etcdtls.pki.names import is_address
from pytest_etcdtls.probes.contact import listener_of
from pytest_etcdtls.probes.registry import Context, probe
from pytest_etcdtls.target import Listener, Target

_NOTHING = "nothing says what {} was told to be: --etcd-config names its manifest or configuration"


@probe(ListenerDeclaration, cost=0, needs=[(EtcdRelease, None)], across=True)
def _of_listener(context: Context, key: str | None) -> ListenerDeclaration:
    listener = listener_of(context)
    told = context.target.declared.get(listener.member)
    if told is None:
        raise NotApplicableError(_NOTHING.format(listener.url))
    return listener_declaration(context.target, listener, _standing(context, listener.member, told))


@probe(Declarations, cost=0, needs=[(EtcdRelease, None)], across=True)
def _of_members(context: Context, key: str | None) -> Declarations:
    if not context.target.declared:
        raise NotApplicableError(_NOTHING.format("the cluster"))
    declared = sorted(context.target.declared.items())
    return Declarations(tuple(_standing(context, label, told) for label, told in declared))


def listener_declaration(
    target: Target, listener: Listener, member: MemberDeclaration
) -> ListenerDeclaration:
    """Return what its member's declaration says of a listener."""
    elsewhere = target.origin == "container" or listener.connect_to is not None
    declared = _declared_as(listener, member.effective.at(listener.role), elsewhere=elsewhere)
    return ListenerDeclaration(url=listener.url, role=listener.role, member=member, listener=declared)


def _standing(context: Context, label: str, told: DeclaredMember) -> MemberDeclaration:
    return MemberDeclaration.of(label, told, next(_versions(context, label), None))


def _versions(context: Context, label: str) -> Iterator[str]:
    """Yield the versions that the member's listeners tell."""
    for listener in context.target.listeners:
        if listener.member == label:
            try:
                yield str(context.get(EtcdRelease, listener=listener).release)
            except UnobservedError:
                continue
    if context.target.etcd_version is not None:
        yield context.target.etcd_version


def _declared_as(
    listener: Listener, declared: tuple[EffectiveListener, ...], *, elsewhere: bool
) -> EffectiveListener | None:
    """Return the declared listener that one that is judged is.

    Its own host and port come first; one on every address has the port alone. No name is looked up: it may
    stand for any address, but for loopback only if nothing else is declared. Behind a published port or a
    tunnel (``elsewhere``) neither need fit, and the only declared one of that role and scheme is it.
    """
    alike = [one for one in declared if _speaks_scheme(one, listener)]

    def named(one: EffectiveListener) -> bool:
        names = not (is_address(one.url.host) and is_address(listener.host))
        return names and one.url.port == listener.port

    fits: tuple[Callable[[EffectiveListener], bool], ...] = (
        lambda one: (one.url.host, one.url.port) == (listener.host, listener.port),
        lambda one: one.url.port == listener.port and one.url.is_wildcard,
        lambda one: named(one) and one.url.is_loopback is (listener.host == "localhost"),
        named,
        lambda one: elsewhere and len(alike) == 1,
    )
    for fit in fits:
        if found := [one for one in alike if fit(one)]:
            return found[0]
    return None


def _speaks_scheme(declared: EffectiveListener, listener: Listener) -> bool:
    return declared.tls if listener.scheme == "https" else declared.plaintext
