package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// ListCase is a file of a revocation list.
type ListCase struct {
	Data []byte `json:"data"`
}

// Reading is what one function reads of it.
type Reading struct {
	Error      string   `json:"error"`
	Serials    []string `json:"serials"`
	NextUpdate int64    `json:"next_update"`
}

// ListAnswer has what etcd up to 3.5 and etcd since 3.6 read (client/pkg/transport, checkCRL), and the first
// PEM block.
type ListAnswer struct {
	ParseCRL            Reading `json:"parse_crl"`
	ParseRevocationList Reading `json:"parse_revocation_list"`
	Label               string  `json:"label"`
	Block               []byte  `json:"block"`
}

func reading(err error, serials []*big.Int, next time.Time) Reading {
	if err != nil {
		return Reading{Error: err.Error(), Serials: []string{}}
	}
	found := make([]string, len(serials))
	for i, serial := range serials {
		found[i] = new(big.Int).SetBytes(serial.Bytes()).String()
	}
	return Reading{Serials: found, NextUpdate: next.Unix()}
}

func readList(data []byte) (answer ListAnswer) {
	var serials []*big.Int
	old, err := x509.ParseCRL(data) //nolint:staticcheck // etcd 3.5 calls it
	var next time.Time
	if err == nil {
		for _, entry := range old.TBSCertList.RevokedCertificates {
			serials = append(serials, entry.SerialNumber)
		}
		next = old.TBSCertList.NextUpdate
	}
	answer.ParseCRL = reading(err, serials, next)
	serials = nil
	list, err := x509.ParseRevocationList(data)
	if err == nil {
		for _, entry := range list.RevokedCertificateEntries {
			serials = append(serials, entry.SerialNumber)
		}
		next = list.NextUpdate
	}
	answer.ParseRevocationList = reading(err, serials, next)
	if block, _ := pem.Decode(data); block != nil {
		answer.Label, answer.Block = block.Type, block.Bytes
	}
	return answer
}

func readLists(in *json.Decoder, out *json.Encoder) {
	for in.More() {
		var c ListCase
		if err := in.Decode(&c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(readList(c.Data)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
