#!/usr/bin/env bash
# A machine in namespaces of its own: machine.sh NAME DIRECTORY CGROUP
#
# It prints the process id of its init, and lives until its standard input ends, which is when the program that
# started it closes it or ends, however that ends. Then every process of the machine is killed, its mounts and
# interfaces go with their namespaces, and its cgroups and DIRECTORY are removed. What the machine writes below /etc,
# /opt, /root, /run, /var/lib and /var/log is in DIRECTORY; all other directories are those of this machine.
set -euo pipefail

inside() { # NAME DIRECTORY
    local init place number=0
    # This /proc is still the one outside, and so is the id.
    read -r init _ </proc/self/stat
    mount --make-rshared /
    for place in etc opt root var/lib var/log; do
        mkdir -p "$2/$place/upper" "$2/$place/work"
        mount -t overlay -o "lowerdir=/$place,upperdir=$2/$place/upper,workdir=$2/$place/work" overlay "/$place"
    done
    mount -t tmpfs run /run
    mount -t proc proc /proc
    # containerd's own overlays cannot be on one.
    mkdir -p /var/lib/containerd "$2/containerd"
    mount --bind "$2/containerd" /var/lib/containerd
    mount --make-rshared /
    # kubelet sets these, which are of the kernel and not of a namespace: it shall set copies.
    for place in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
        kernel/keys/root_maxbytes; do
        number=$((number + 1))
        cat "/proc/sys/$place" >"$2/kernel.$number"
        mount --bind "$2/kernel.$number" "/proc/sys/$place"
    done
    rm -f /etc/resolv.conf
    echo 'nameserver 127.0.0.1' >/etc/resolv.conf
    printf '%s\n' '127.0.0.1 localhost' '10.11.0.1 laptop' '10.11.0.2 cp1' >/etc/hosts
    hostname "$1"
    ip link set lo up
    echo "$init"
    exec >/dev/null
    while read -r _; do :; done # bash reaps orphans meanwhile
}

main() { # NAME DIRECTORY CGROUP
    local file
    # Each hierarchy of version 1 and the root of version 2; what is below that root has a cgroup.type.
    for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
        [[ ! -e $file || -e ${file%.procs}.type ]] || mkdir -p "${file%/*}/$3"
    done
    unshare --mount --net --uts --pid --ipc --fork --kill-child --propagation private "$0" --inside "$1" "$2" || true
    find /sys/fs/cgroup -depth -type d -path "*/$3*" -exec rmdir {} + 2>/dev/null || true
    rm -rf --one-file-system "$2"
}

if [[ $1 == --inside ]]; then inside "$2" "$3"; else main "$@"; fi
