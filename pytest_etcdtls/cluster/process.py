"""A cluster of etcd processes on this host. Does not know what is judged on it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_etcdtls.cluster.addresses import MemberAddresses
from pytest_etcdtls.cluster.binary import binary_flags
from pytest_etcdtls.cluster.command_line import Place, command_line
from pytest_etcdtls.cluster.config_yaml import render
from pytest_etcdtls.cluster.etcd_process import EtcdProcess, clean_environment, stop_all
from pytest_etcdtls.cluster.farewell import farewell
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.cluster.owned import OwnedCluster
from pytest_etcdtls.cluster.pki_files import FileNames
from pytest_etcdtls.cluster.process_member import ProcessMember


class ProcessCluster(OwnedCluster[ProcessMember]):
    """Local etcd processes, started by construction; the source is the path of a binary."""

    origin: Literal["process", "container"] = "process"

    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it."""
        pids = " ".join(str(process.pid) for process in _processes(self.members))
        stop = f"kill {pids}; rm -rf {shlex.quote(str(self.directory))}"
        password_file = self._password_file if self.user else None
        return farewell(self, self.directory, stop, password_file=password_file)

    def _known_flags(self) -> FlagSet:
        return binary_flags(Path(self.source))

    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> ProcessMember:
        own = addresses[index]
        directory = self.directory / own.name
        place = Place(
            data=PurePosixPath(directory, "data"),
            pki=PurePosixPath(self.pki_directory),
            config_file=PurePosixPath(directory, "etcd.conf.yml"),
        )
        flags = self._member_flags(addresses, index, place)
        directory.mkdir(mode=0o700)
        config_file = Path(place.config_file) if self.config.config_file else None
        if config_file is not None:
            config_file.write_text(render(flags, self.config, place))
        extra = {name: place.fill_in(value) for name, value in self.config.environment.items()}
        return ProcessMember(
            addresses=own,
            argv=command_line(self.source, flags, self.config, place),
            environment=clean_environment({**extra, **self._watchdog.mark}),
            directory=directory,
            watchdog=self._watchdog,
            pki_root=self.pki_directory,
            files=FileNames.of_member(self.pki, own.name),
            variables=extra,
            config_file=config_file,
        )

    def _stop(self, members: Sequence[ProcessMember]) -> None:
        stop_all(_processes(members))

    def _discard(self) -> None:
        stop_all(_processes(self.members))
        for member in self.members:
            member.forget()

    def _abandon(self) -> None:
        for process in _processes(self.members):
            process.abandon()


def _processes(members: Sequence[ProcessMember]) -> list[EtcdProcess]:
    return [member.process for member in members if member.process is not None]
