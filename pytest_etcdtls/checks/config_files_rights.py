"""Who may read the keys: those of members and clients, and those of their CAs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from shlex import quote
from typing import Any

from pytest_etcdtls.declared.file_facts import DeclaredFiles, FileFact, MemberFiles
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import look_for
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_OF_OTHERS = 0o007
_WRITTEN_BY_GROUP = 0o020
_NOT_THE_OWNERS = 0o077


def _for_everybody(files: DeclaredFiles) -> Mapping[str, Any]:
    member, *others = files.members
    pair, *rest = member.pairs
    changed = replace(member, pairs=(replace(pair, key=replace(pair.key, mode=0o644)), *rest))
    return {"files": replace(files, members=(changed, *others))}


@check("config.key-file-mode", on=set(), counterexample=_for_everybody)
def keys_are_for_their_owner(files: DeclaredFiles) -> Iterator[Statement]:
    """Nobody but its owner, and a group that may read, has access to a private key.

    The key of a member or of a client is all that somebody on the machine needs to be one. 0600 is what
    kubeadm writes and the CIS Kubernetes Benchmark asks for; a group that may read is taken as meant, as
    where etcd has a user of its own. The owner of the very file that etcd reads is root, the user of etcd's
    data directory, or who runs this. Keys of clients that lie beside the declared files count as well.

    Spec: CIS Kubernetes 1.1.21
    Spec: etcd --key-file, --peer-key-file
    Severity: medium
    Level: SHOULD
    Remediation: chmod 600 the file, and chown it to root or to the user that etcd runs as.
    """
    keys = {(member.label, key.path): (member, key) for member in files.members for key in _keys(member)}
    for member, key in keys.values():
        if key.mode is not None and key.mode & (_OF_OTHERS | _WRITTEN_BY_GROUP):
            yield _open(member, key, "a private key is open to others")
        elif _is_a_strangers(member, key, files.reader):
            yield Finding(
                message=f"{member.label}: a private key belongs to somebody else",
                expected=f"root, user {member.data_owner} of the data directory, or user {files.reader}",
                observed=f"{key.path}: owner {key.owner}",
                evidence={"declared": key.said},
                reproduce=(
                    look_for(f"ls -ln {quote(str(key.path))}", "the third column: the numeric owner"),
                ),
            )
    if not any(key.mode is not None for _, key in keys.values()):
        yield Verdict(*_nothing_to_see(files))


def _keys(member: MemberFiles) -> Iterator[FileFact]:
    keys = [*(pair.key for pair in member.pairs), *(client.key for client in member.clients)]
    yield from (key for key in keys if key.path is not None)


def _is_a_strangers(member: MemberFiles, key: FileFact, reader: int | None) -> bool:
    """Return whether the file that etcd reads is owned by a user who has nothing to do with it."""
    known = {0, reader, member.data_owner}
    return key.original and member.data_owner is not None and key.owner not in known


def _nothing_to_see(files: DeclaredFiles) -> tuple[Outcome, str]:
    absent = [key.absent for member in files.members for pair in member.pairs if (key := pair.key).absent]
    if absent:
        return Outcome.NOT_VERIFIED, "; ".join(dict.fromkeys(absent))
    return Outcome.NOT_APPLICABLE, "no key file is declared, or the system has no rights to files"


def _open(member: MemberFiles, key: FileFact, what: str) -> Finding:
    return Finding(
        message=f"{member.label}: {what}",
        expected="0600, or 0640 for a group of etcd's own",
        observed=f"{key.path}: mode {key.mode or 0:04o}",
        evidence={"declared": key.said},
        reproduce=(look_for(f"stat -c '%a %U %n' {quote(str(key.path))}", "the mode: 600, or 640"),),
    )


def _ca_key_for_everybody(files: DeclaredFiles) -> Mapping[str, Any]:
    member, *others = files.members
    lying = FileFact(said="beside ca.crt", path="/pki/ca.key", mode=0o640, owner=0)
    bundles = {side: replace(bundle, keys=(lying,)) for side, bundle in member.bundles.items()}
    return {"files": replace(files, members=(replace(member, bundles=bundles), *others))}


@check("config.ca-key-beside", on=set(), counterexample=_ca_key_for_everybody)
def no_ca_key_lies_open_beside_its_certificate(files: DeclaredFiles) -> Iterator[Statement]:
    """No key of a trusted CA lies beside its certificate for others to read.

    Who has it makes clients that every member lets in, for as long as the CA is trusted. kubeadm keeps it
    there with 0600, which is noted and no more; best it lies on another machine. It is looked for by its
    name, and never opened.

    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: CIS Kubernetes 1.1.21
    Severity: medium
    Level: SHOULD
    Remediation: move the key to where certificates are issued, or chmod 600 it at least.
    """
    bundles = [(member, bundle) for member in files.members for bundle in member.bundles.values()]
    if not bundles:
        yield Verdict(Outcome.NOT_APPLICABLE, "no file of trusted CAs is declared")
    here = [(member, bundle) for member, bundle in bundles if bundle.file.path is not None]
    if bundles and not here:
        reasons = dict.fromkeys(f"{member.label}: {bundle.file.absent}" for member, bundle in bundles)
        yield Verdict(Outcome.NOT_VERIFIED, "; ".join(reasons))
    lying = {(member.label, key.path): (member, key) for member, bundle in here for key in bundle.keys}
    for member, key in lying.values():
        if key.mode is not None and key.mode & _NOT_THE_OWNERS:
            yield Finding(
                message=f"{member.label}: the key of a trusted CA lies open beside its certificate",
                expected="no such file, or one with mode 0600",
                observed=f"{key.path}: mode {key.mode:04o}",
                evidence={"found": key.said},
                reproduce=(look_for(f"stat -c '%a %U %n' {quote(str(key.path))}", "the mode: 600, or 640"),),
            )
        else:
            yield Note(f"{key.path} lies there, for its owner alone")
