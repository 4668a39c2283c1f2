"""A cluster of etcd containers, each member with its published ports, on a network of their own.

Owns the network, the containers and their end. Does not know what is judged on it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_etcdtls.cluster.addresses import MemberAddresses
from pytest_etcdtls.cluster.command_line import Place, command_line
from pytest_etcdtls.cluster.config_yaml import render
from pytest_etcdtls.cluster.container_addresses import at_host, inside_addresses, published_ports
from pytest_etcdtls.cluster.container_cleanup import cleanup_command, remove_cluster
from pytest_etcdtls.cluster.container_engine import LABEL, engine, published_host
from pytest_etcdtls.cluster.container_image import image_flags
from pytest_etcdtls.cluster.container_member import ContainerMember
from pytest_etcdtls.cluster.etcd_container import ContainerPlan
from pytest_etcdtls.cluster.farewell import farewell
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.cluster.owned import OwnedCluster
from pytest_etcdtls.cluster.pki_files import FileNames
from pytest_etcdtls.errors import ClusterStartError, UsageError
from pytest_etcdtls.pki.bundle import MemberNames

_EVERYWHERE = "0.0.0.0"  # noqa: S104
_HOME = PurePosixPath("/etc/etcd")
_PLACE = Place(
    data=PurePosixPath("/var/lib/etcd/data"), pki=_HOME / "pki", config_file=_HOME / "etcd.conf.yml"
)


class ContainerCluster(OwnedCluster[ContainerMember]):
    """Containers of one image, started by construction; the source is the image's name.

    The PKI is copied in, nothing of the host is mounted: an engine on another machine, or in another
    container, sees the same files. What is replaced in ``pki_directory`` while a member runs reaches it with
    :meth:`~pytest_etcdtls.cluster.container_member.ContainerMember.copy_files`, or when it is started again.
    """

    origin: Literal["process", "container"] = "container"

    def farewell(self) -> str:
        """Return how to talk to a kept cluster and how to stop it."""
        label = shlex.quote(f"label={LABEL}={self.token}")
        stop = (
            f"docker rm -fv $(docker ps -aq --filter {label}); "
            f"docker network rm {self._network}; rm -rf {shlex.quote(str(self.directory))}"
        )
        password_file = self._password_file if self.user else None
        return farewell(self, self.directory, stop, password_file=password_file)

    @property
    def _network(self) -> str:
        return self.token

    def _known_flags(self) -> FlagSet:
        return image_flags(self.source, self.version)

    def _names(self, name: str) -> MemberNames:
        # The other members reach it by its name, we perhaps by that of the engine's host.
        host = published_host()
        return MemberNames(name, (*MemberNames(name).hosts, name, *([host] if host else [])))

    def _addresses(self, name: str, ports: Iterator[int]) -> MemberAddresses:
        addresses, host = super()._addresses(name, ports), published_host()
        return at_host(addresses, host) if host else addresses

    def _prepare(self) -> None:
        self._watchdog.guard_command(cleanup_command(self.token))
        try:
            with engine() as client:
                client.networks.create(self._network, driver="bridge", labels={LABEL: self.token})
        except UsageError as error:
            raise ClusterStartError(f"the members' network cannot be created: {error}") from error

    def _member(self, addresses: Sequence[MemberAddresses], index: int) -> ContainerMember:
        own, inside = addresses[index], [inside_addresses(published) for published in addresses]
        flags = self._member_flags(inside, index, _PLACE)
        files: list[tuple[Path | bytes, str]] = [(self.pki_directory, str(_HOME))]
        config_file = self.directory / f"{own.name}.conf.yml" if self.config.config_file else None
        if config_file is not None:
            config_file.write_text(render(flags, self.config, _PLACE))
            files.append((config_file.read_bytes(), str(_PLACE.config_file)))
        argv = command_line("etcd", flags, self.config, _PLACE)
        variables = {name: _PLACE.fill_in(value) for name, value in self.config.environment.items()}
        plan = ContainerPlan(
            image=self.source,
            name=f"{self.token}-{own.name}",
            host_name=own.name,
            network=self._network,
            cluster=self.token,
            argv=argv,
            environment=variables,
            ports=published_ports(own),
            # On a host that is not this one its loopback would be out of reach.
            address=_EVERYWHERE if published_host() else self.config.host,
            files=files,
            keep=self._keep,
        )
        return ContainerMember(
            addresses=own,
            argv=argv,
            pki_root=self.pki_directory,
            files=FileNames.of_member(self.pki, own.name),
            variables=variables,
            config_file=config_file,
            sees_pki_root=False,
            plan=plan,
            listen_urls=(*inside[index].listen_client, *inside[index].listen_client_http),
        )

    def _stop(self, members: Sequence[ContainerMember]) -> None:
        containers = [member.container for member in members if member.container is not None]
        with ThreadPoolExecutor(max_workers=len(containers) or 1) as pool:
            for stopped in [pool.submit(container.stop) for container in containers]:
                stopped.result()

    def _discard(self) -> None:
        for member in self.members:
            member.forget()
        remove_cluster(self.token)

    def _abandon(self) -> None:
        for member in self.members:
            member.forget()
