"""A cluster of Kubernetes that kubeadm makes on machines of :mod:`kubernetes.machines`.

API server, kubelet, containerd and etcd are the real ones, and etcd is a static pod. Every image is written
from the programs that ``build.sh`` has built, under the name that kubeadm expects, so nothing is pulled.
CoreDNS and kube-proxy are left out: no test needs a service.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from kubernetes.images import write_image
from kubernetes.machines import Machine, connect, started, wait_until
from pytest_etcdtls.etcd.sources import binary_version

HERE = Path(__file__).parent
CONTAINERD = "unix:///run/containerd/containerd.sock"
NETWORK = "10.11.0"
LAPTOP, NODE = f"{NETWORK}.1", f"{NETWORK}.2"
PODS = "10.244.0.0/24"

_CONTAINERD_TOML = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
"""


class KubeadmCluster:
    """A control plane of one node.

    Args:
        laptop: a machine that reaches the node and is none; it has the kubeconfig of the administrator.
        node: the machine of the control plane.
        programs: directory of kubeadm, kubelet and the others.
        etcd: static binary of etcd for the node.
    """

    def __init__(self, laptop: Machine, node: Machine, programs: Path, etcd: Path) -> None:
        self.laptop = laptop
        self.node = node
        self._programs = programs
        self._etcd = etcd
        self._version = programs.parent.name
        listed = laptop.run("kubeadm", "config", "images", "list", f"--kubernetes-version=v{self._version}")
        self._images = {name.rpartition("/")[2].partition(":")[0]: name for name in listed.stdout.split()}
        self._images["etcd"] = f"registry.k8s.io/etcd:{binary_version(etcd)}-0"

    def kubectl(self, *words: str | Path, check: bool = True, text: str | None = None) -> str:
        """Run kubectl on the laptop and return what it wrote."""
        ran = self.laptop.run("kubectl", *words, check=check, text=text)
        return ran.stdout if check else ran.stdout + ran.stderr

    def init(self) -> None:
        """Make the node with ``kubeadm init``, and wait until it is ready."""
        node = self.node
        self._prepare()
        documents = [
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "InitConfiguration",
                "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": 6443},
                "nodeRegistration": {
                    "name": node.name,
                    "criSocket": CONTAINERD,
                    "imagePullPolicy": "IfNotPresent",
                    "taints": [],
                },
            },
            {
                "apiVersion": "kubeadm.k8s.io/v1beta4",
                "kind": "ClusterConfiguration",
                "kubernetesVersion": f"v{self._version}",
                "controlPlaneEndpoint": f"{node.address}:6443",
                "networking": {"podSubnet": PODS},
                "etcd": {"local": {"imageTag": self._images["etcd"].rpartition(":")[2]}},
            },
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": node.cgroup,
                "failSwapOn": False,
                # Images that are collected could not be pulled again; a full disk of the host is not ours.
                "imageGCHighThresholdPercent": 100,
                "evictionHard": {
                    "memory.available": "50Mi",
                    "nodefs.available": "1%",
                    "nodefs.inodesFree": "1%",
                    "imagefs.available": "1%",
                },
            },
        ]
        node.write("/etc/kubernetes/kubeadm.yaml", yaml.safe_dump_all(documents))
        self._kubeadm("init", "--skip-phases=addon/coredns,addon/kube-proxy")
        self.laptop.write(
            str(self.laptop.directory / ".kube/config"), node.read("/etc/kubernetes/admin.conf")
        )
        for what in (f"node/{node.name}", f"pod/etcd-{node.name}"):
            for condition in ("create", "condition=Ready"):
                self.kubectl("wait", f"--for={condition}", what, "-n", "kube-system", "--timeout=120s")

    def load(self, image: Path) -> None:
        """Make an image known to the node."""
        self.node.run("ctr", "--namespace=k8s.io", "images", "import", image)

    def _prepare(self) -> None:
        """Start containerd and kubelet, which waits for kubeadm, and write the images."""
        node = self.node
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        plugins = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}
        node.write("/etc/cni/net.d/10-pods.conflist", json.dumps(plugins))
        node.write("/etc/containerd/config.toml", _CONTAINERD_TOML.format(pause=self._images["pause"]))
        node.write("/proc/sys/net/ipv4/ip_forward", "1")
        node.start("containerd", log=node.directory / "containerd.log")
        wait_until(
            lambda: node.run("ctr", "version", check=False).returncode == 0, f"{node.name}: containerd"
        )
        for name, image in self._images.items():
            if name in ("coredns", "kube-proxy"):
                continue
            program = self._etcd if name == "etcd" else self._programs / name
            archive = node.directory / f"{name}.tar"
            write_image(
                archive,
                image,
                {f"/usr/local/bin/{name}": program},
                config={"Entrypoint": ["/usr/local/bin/pause"]} if name == "pause" else None,
            )
            self.load(archive)
            archive.unlink()
        node.start(HERE / "kubelet.sh", self._programs / "kubelet", log=node.directory / "kubelet.log")

    def _kubeadm(self, *words: str) -> None:
        node = self.node
        # They are about modules that the kernel has built in, swap, and cgroups of version 1.
        ran = node.run(
            *("kubeadm", words[0], "--config=/etc/kubernetes/kubeadm.yaml", "--ignore-preflight-errors=all"),
            *words[1:],
            check=False,
        )
        if ran.returncode != 0:
            said = (node.directory / "kubelet.log").read_text(encoding="utf-8").splitlines()[-20:]
            raise AssertionError("\n".join(["kubeadm:", ran.stdout, ran.stderr, "kubelet:", *said]))


@contextmanager
def running(directory: Path, programs: Path, etcd: Path) -> Iterator[KubeadmCluster]:
    """Bring up a cluster, and remove it.

    Args:
        directory: a new one, of all that is written.
        programs: of ``build.sh``.
        etcd: static binary of etcd.
    """
    directory.mkdir()
    path = [programs, Path(sys.executable).parent]
    try:
        with ExitStack() as stack:
            laptop, node = (
                stack.enter_context(started(name, address, directory / name, path))
                for name, address in (("laptop", LAPTOP), ("cp1", NODE))
            )
            connect(laptop, node)
            cluster = KubeadmCluster(laptop, node, programs, etcd)
            cluster.init()
            yield cluster
    finally:
        directory.rmdir()
