#!/usr/bin/env bash
# Runs kubelet as kubeadm's 10-kubeadm.conf does, without systemd: kubelet.sh KUBELET
until [[ -e /var/lib/kubelet/config.yaml ]]; do sleep 0.2; done
while :; do
    KUBELET_KUBEADM_ARGS=
    # shellcheck source=/dev/null
    [[ ! -e /var/lib/kubelet/kubeadm-flags.env ]] || . /var/lib/kubelet/kubeadm-flags.env
    # shellcheck disable=SC2086 # several words
    "$1" --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
        --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
    sleep 1
done
