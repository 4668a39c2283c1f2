//go:build tools

// Package tools pins the etcd that is built here; nothing imports it.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
