// Command oracle verifies served certificates as a TLS client of etcd that is written in Go does, and those of
// a client as etcd does.
//
// It reads cases as JSON, one a line, and writes an answer for each. What it does is what
// crypto/tls.(*Conn).verifyServerCertificate does with the Certificate message, after the client has read its
// CA file as etcd does (client/pkg/tlsutil.NewCertPool), and before the server proves that it has the key. With a
// client's it does what processCertsFromClient does, which parses and verifies them.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Case is what a client gets: its CA file, the Certificate message, and whom it asked for. Without a host the
// message is a client's.
type Case struct {
	Roots [][]byte  `json:"roots"` // DER, in base64 on the wire
	Chain [][]byte  `json:"chain"` // DER, leaf first
	Host  string    `json:"host"`
	Time  time.Time `json:"time"`
}

// Answer says whether the client refuses, at which stage, and with which words.
type Answer struct {
	Refused bool   `json:"refused"`
	Phase   string `json:"phase"`
	Error   string `json:"error"`
}

// The bound of crypto/tls for the keys in a Certificate message (checkKeySize).
const maxRSABits = 8192

// The bound of crypto/rsa for signatures (checkKeySize).
const minRSABits = 1024

func judge(c Case) (stage string, err error) {
	roots := x509.NewCertPool()
	for _, der := range c.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return "roots", err
		}
		roots.AddCert(root)
	}
	if len(c.Chain) == 0 {
		return "parse", fmt.Errorf("no certificate")
	}
	intermediates := x509.NewCertPool()
	var leaf *x509.Certificate
	for i, der := range c.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return "parse", fmt.Errorf("certificate %d: %w", i, err)
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return "size", fmt.Errorf("certificate %d: RSA key larger than %d bits", i, maxRSABits)
		}
		if i == 0 {
			leaf = cert
		} else {
			intermediates.AddCert(cert)
		}
	}
	usage := x509.ExtKeyUsageServerAuth
	if c.Host == "" {
		usage = x509.ExtKeyUsageClientAuth
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		DNSName:       c.Host,
		CurrentTime:   c.Time,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}); err != nil {
		return "verify", err
	}
	if c.Host == "" {
		return "", nil
	}
	return "handshake", usable(leaf.PublicKey)
}

// usable tells whether the key can sign a handshake of TLS 1.3 (crypto/tls.signatureSchemesForPublicKey).
func usable(public any) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("RSA key of %d bits", key.N.BitLen())
		}
		// crypto/internal/fips140/rsa.checkPublicKey
		if key.N.Bit(0) == 0 || key.E < 2 || key.E&1 == 0 || key.E > 1<<31-1 {
			return fmt.Errorf("RSA key with the exponent %d, or an even modulus", key.E)
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return fmt.Errorf("no signature scheme of TLS 1.3 for the curve %s", key.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("unsupported type of public key: %T", public)
	}
	return nil
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	encoder := json.NewEncoder(out)
	for in.More() {
		var c Case
		if err := in.Decode(&c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		stage, err := judge(c)
		answer := Answer{Refused: err != nil}
		if err != nil {
			answer.Phase, answer.Error = stage, err.Error()
		}
		if err := encoder.Encode(answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
