"""The tools that are compared: how each is installed, run on one cluster, and read.

A tool's output becomes *facts*: lines of the form ``what: value``. A fact is ``rated`` where the tool itself
calls it bad, by the rule of its class.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 600
"""Seconds of one run of a tool."""


@dataclass(frozen=True)
class Fact:
    """One result of a tool.

    Attributes:
        what: the field, check or label, with the listener in front.
        value: what it says of it.
        rated: whether the tool calls it bad.
    """

    what: str
    value: str
    rated: bool


@dataclass(frozen=True)
class Subject:
    """One cluster, reached through counting proxies.

    Attributes:
        ports: the port of the proxy before each listener, by role.
        urls: the listener's own URL, by role.
        files: certificates and keys by role and name: ``ca``, ``cert``, ``key``.
        manifest: the declaration of the member.
        directory: for what a tool writes.
    """

    ports: Mapping[str, int]
    urls: Mapping[str, str]
    files: Mapping[str, Mapping[str, Path]]
    manifest: Path
    directory: Path


class Scanner:
    """A tool.

    Attributes:
        name: in tables.
        rule: when a fact counts as rated, for the page.
        given: what it gets beside the address.
    """

    name: str
    rule: str
    given: str

    def version(self) -> str:
        """Return the tool's version."""
        raise NotImplementedError

    def scan(self, subject: Subject) -> list[Fact]:
        """Run the tool on the cluster and return what it said."""
        raise NotImplementedError


def run(
    arguments: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without standard input; the caller judges its exit code.

    One that does not end in time is stopped, and what it has said until then counts.
    """
    words = ["timeout", str(TIMEOUT), *(str(argument) for argument in arguments)]
    return subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


class Ours(Scanner):
    """pytest-etcdtls, with credentials, and with or without the member's declaration."""

    rule = "a check violates; shown: a check warns"

    def __init__(self, *, declared: bool) -> None:
        self._declared = declared
        self.name = "pytest-etcdtls" + (" with `--etcd-config`" if declared else "")
        self.given = "CA, certificate and key of each port" + (", the declaration" if declared else "")

    def version(self) -> str:
        from pytest_etcdtls import __version__

        return __version__

    def scan(self, subject: Subject) -> list[Fact]:
        report = subject.directory / "report.json"
        arguments = [sys.executable, "-m", "pytest", "--pyargs", "pytest_etcdtls", "-q"]
        arguments += ["-p", "no:cacheprovider", f"--etcd-report={report}"]
        for role, prefix in (("client", "--etcd-"), ("peer", "--etcd-peer-")):
            files = subject.files[role]
            arguments += [f"{prefix}endpoint={subject.urls[role]}"]
            arguments += [
                f"{prefix}cacert={files['ca']}",
                f"{prefix}cert={files['cert']}",
                f"{prefix}key={files['key']}",
            ]
            address = subject.urls[role].rpartition("/")[2]
            arguments += [f"--etcd-connect-to={address}:127.0.0.1:{subject.ports[role]}"]
        if self._declared:
            arguments += [f"--etcd-config={subject.manifest}"]
        ended = run(arguments, subject.directory)
        if ended.returncode not in (0, 1):
            raise RuntimeError(f"{self.name}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
        facts = []
        results = json.loads(report.read_text(encoding="utf-8"))["results"]
        for result in sorted(results, key=lambda result: result.get("cause") is not None):
            if result["outcome"] in ("violates", "warns"):
                role = str(result["listener"]).partition("-")[0]
                violates = result["outcome"] == "violates"
                facts.append(Fact(f"{role} {result['check']}", result["outcome"], violates))
        return facts


class SSLyze(Scanner):
    """sslyze, a separate program in an environment of its own."""

    name = "sslyze"
    rule = (
        "FAILED, VULNERABLE or ERROR in its line, or an issue of its comparison with Mozilla's recommendation"
    )
    given = "CA of each port; run with certificate and key, and without"

    def __init__(self, directory: Path) -> None:
        self._venv = directory / "sslyze"
        if not (self._venv / "bin" / "sslyze").exists():
            subprocess.run([sys.executable, "-m", "venv", self._venv], check=True)
            subprocess.run(
                [self._venv / "bin" / "python", "-m", "pip", "--quiet", "install", "sslyze"], check=True
            )

    def version(self) -> str:
        said = run([self._venv / "bin" / "python", "-m", "pip", "show", "sslyze"], self._venv).stdout
        [version] = re.findall(r"^Version: (\S+)", said, re.MULTILINE)
        return str(version)

    def scan(self, subject: Subject) -> list[Fact]:
        facts: list[Fact] = []
        for role, port in subject.ports.items():
            files, written = subject.files[role], subject.directory / f"sslyze-{role}.json"
            for name, pair in (
                ("", ()),
                (" with certificate", ("--cert", files["cert"], "--key", files["key"])),
            ):
                program = self._venv / "bin" / "sslyze"
                options = ["--certinfo_ca_file", files["ca"], "--json_out", written, *pair]
                ended = run([program, *options, f"127.0.0.1:{port}"], subject.directory)
                facts += self._facts(f"{role}{name}", ended.stdout.replace(f":{port}", ""))
                for result in (
                    json.loads(written.read_text(encoding="utf-8"))["server_scan_results"]
                    if written.exists()
                    else ()
                ):
                    auth = (result["connectivity_result"] or {}).get("client_auth_requirement")
                    facts.append(Fact(f"{role}{name} client_auth_requirement", str(auth), rated=False))
                written.unlink(missing_ok=True)
        return facts

    @staticmethod
    def _facts(role: str, output: str) -> Iterator[Fact]:
        section = label = ""
        for line in output.splitlines():
            # It prints sets, in any order.
            text = re.sub(r"\{(.*?)\}", lambda found: ", ".join(sorted(found[1].split(", "))), line)
            text = re.sub(r"\s+", " ", text).strip()
            if heading := re.match(r" \* (.*?):?$", line):
                section = heading[1]
            elif re.match(r" [A-Z][A-Z0-9 .]+$", line):
                section = text.title()
            elif section and text and not set(text) <= {"-"} and "Wrote JSON output" not in text:
                name, colon, value = text.partition(": ")
                label = name if colon else label
                bad = re.search(r"FAILED|VULNERABLE|ERROR", text) or text.startswith("* ")
                yield Fact(f"{role} {section}, {name}", value if colon else text, bool(bad))


class Debian(Scanner):
    """A tool from a Debian package, unpacked with the packages it lacks here into a directory."""

    package: str

    def __init__(self, directory: Path) -> None:
        self._root = directory / self.package
        if not self._root.exists():
            self._unpack()
        libraries = ":".join(str(path) for path in self._root.glob("usr/lib/*-linux-*"))
        self._environment = {
            "PATH": f"{self._root}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": libraries,
        }

    def _unpack(self) -> None:
        if shutil.which("apt-get") is None:
            raise RuntimeError(f"{self.package} comes from Debian, and there is no apt-get here")
        archives = self._root.with_name(f"{self.package}-archives")
        archives.mkdir()
        simulated = run(
            ["apt-get", "install", "--simulate", "--no-install-recommends", self.package], archives
        ).stdout
        names = re.findall(r"^Inst (\S+)", simulated, re.MULTILINE) or [self.package]
        subprocess.run(["apt-get", "-qq", "download", *names], cwd=archives, check=True)
        for archive in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, self._root], check=True)

    def version(self) -> str:
        [archive] = self._root.with_name(f"{self.package}-archives").glob(f"{self.package}_*.deb")
        return f"{archive.name.split('_')[1]} (Debian)"


class SSLScan(Debian):
    """sslscan."""

    name = package = "sslscan"
    rule = "an expired or self-signed certificate, a suite below acceptable, SSL or TLS 1.0 or 1.1 enabled"
    given = "certificate and key of each port"

    def scan(self, subject: Subject) -> list[Fact]:
        facts: list[Fact] = []
        for role, port in subject.ports.items():
            files, written = subject.files[role], subject.directory / f"sslscan-{role}.xml"
            run(
                [
                    *("sslscan", f"--xml={written}", "--show-client-cas", "--no-colour"),
                    *(f"--certs={files['cert']}", f"--pk={files['key']}", f"127.0.0.1:{port}"),
                ],
                subject.directory,
                self._environment,
            )
            facts += self._facts(role, written.read_text(errors="replace", encoding="utf-8"))
        return facts

    @staticmethod
    def _facts(role: str, text: str) -> Iterator[Fact]:
        text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text)
        try:
            root = ElementTree.fromstring(text)  # noqa: S314 - written by the program that was started
        except ElementTree.ParseError as error:
            yield Fact(f"{role} XML", f"cannot be read: {error}", rated=False)
            return
        for element in root.iter():
            attributes = " ".join(
                f"{name}={value}"
                for name, value in element.attrib.items()
                if name not in ("host", "sniname", "port", "status", "ecdhebits", "curve")
            )
            value = f"{attributes} {(element.text or '').strip()}".strip()
            old = element.tag == "protocol" and element.get("enabled") == "1"
            bad = (
                (element.tag in ("expired", "self-signed") and value == "true")
                or element.get("strength") in ("weak", "medium", "null", "anonymous")
                or (old and (element.get("type") == "ssl" or element.get("version") in ("1.0", "1.1")))
            )
            if value:
                what = f"{element.tag} {attributes}" if element.tag in ("cipher", "protocol") else element.tag
                yield Fact(f"{role} {what.strip()}", value, bad)


class TestSSL(Debian):
    """testssl.sh."""

    name = "testssl.sh"
    package = "testssl.sh"
    rule = "a severity of LOW or above, or FATAL, in its JSON"
    given = "CA of each port; `-p -s -P -S`: protocols, ciphers, server preference and defaults"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._environment["TESTSSL_INSTALL_DIR"] = str(self._root / "etc" / "testssl")

    def scan(self, subject: Subject) -> list[Fact]:
        facts: list[Fact] = []
        for role, port in subject.ports.items():
            written = subject.directory / f"testssl-{role}.json"
            run(
                [
                    *("bash", self._root / "usr" / "bin" / "testssl", "--quiet", "--color", "0"),
                    *("--warnings", "batch", "--nodns", "min", "-p", "-s", "-P", "-S"),
                    *("--add-ca", subject.files[role]["ca"]),
                    *("--jsonfile", written, f"127.0.0.1:{port}"),
                ],
                subject.directory,
                self._environment,
            )
            for entry in json.loads(
                written.read_text(errors="replace", encoding="utf-8") or "[]", strict=False
            ):
                rated = entry["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
                facts.append(Fact(f"{role} {entry['id']}", f"{entry['severity']} {entry['finding']}", rated))
            written.unlink()
        return facts


def scanners(directory: Path, only: Collection[str] = ()) -> list[Scanner]:
    """Return all tools, or those of these names, installed below the directory where they are not yet."""
    directory.mkdir(parents=True, exist_ok=True)
    found: list[Scanner] = [Ours(declared=False), Ours(declared=True)]
    found = [tool for tool in found if not only or tool.name in only]
    peers: Sequence[type[SSLyze | SSLScan | TestSSL]] = (SSLyze, SSLScan, TestSSL)
    return [*found, *(peer(directory) for peer in peers if not only or peer.name in only)]
