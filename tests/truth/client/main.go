// Command truth asks a server as a client of etcd that is written in Go does, once for each job.
//
// It reads a list of jobs as JSON from each line, and writes the list of answers. A job is one identity in one
// TLS version and protocol. The certificate is presented whatever CAs the server announces, as etcd's own client
// does (client/pkg/transport.TLSInfo.ClientConfig sets GetClientCertificate).
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Job is one connection.
type Job struct {
	Address  string   `json:"address"`
	Host     string   `json:"host"`    // whom it asks for
	Plain    bool     `json:"plain"`   // no TLS
	Version  uint16   `json:"version"` // 0x0303, 0x0304
	Protocol string   `json:"protocol"`
	Path     string   `json:"path"`
	Chain    [][]byte `json:"chain"` // DER, leaf first; empty for none
	Key      []byte   `json:"key"`   // PKCS #8
	Roots    [][]byte `json:"roots"` // DER; by which the served chain is verified
}

// Answer says how far the client came.
type Answer struct {
	Status    int      `json:"status"` // of HTTP; 0 without a response
	Error     string   `json:"error"`
	Handshake bool     `json:"handshake"` // the client's handshake was complete
	Announced [][]byte `json:"announced"` // names of CAs
	Leaf      []byte   `json:"leaf"`      // the served leaf, DER
	Verify    string   `json:"verify"`    // why the served chain is refused
}

const timeout = 10 * time.Second

// The empty message of grpc.health.v1.HealthCheckRequest in a frame of gRPC.
var emptyMessage = []byte{0, 0, 0, 0, 0}

func ask(job Job) (answer Answer) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	config, err := configure(job, &answer)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	dialer := &net.Dialer{}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(job.Protocol == "http1")
	protocols.SetHTTP2(job.Protocol != "http1" && !job.Plain)
	protocols.SetUnencryptedHTTP2(job.Protocol != "http1" && job.Plain)
	transport := &http.Transport{
		Protocols:         protocols,
		DisableKeepAlives: job.Protocol == "http1",
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, job.Address)
		},
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			raw, err := dialer.DialContext(ctx, network, job.Address)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, config)
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			answer.Handshake = true
			return conn, nil
		},
	}
	defer transport.CloseIdleConnections()
	scheme, method, body := "https", http.MethodGet, []byte(nil)
	if job.Plain {
		scheme = "http"
	}
	if job.Protocol == "grpc" {
		method, body = http.MethodPost, emptyMessage
	}
	if strings.HasPrefix(job.Path, "/v3/") {
		method, body = http.MethodPost, []byte("{}")
	}
	request, err := http.NewRequestWithContext(
		ctx, method, scheme+"://"+net.JoinHostPort(job.Host, "1")+job.Path, bytes.NewReader(body))
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	if job.Protocol == "grpc" {
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("Te", "trailers")
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	answer.Status = response.StatusCode
	response.Body.Close()
	return answer
}

func configure(job Job, answer *Answer) (*tls.Config, error) {
	config := &tls.Config{
		ServerName:         job.Host,
		InsecureSkipVerify: true, // judged below, so that the connection goes on
		MinVersion:         job.Version,
		MaxVersion:         job.Version,
	}
	if job.Protocol != "http1" {
		config.NextProtos = []string{"h2"}
	}
	certificate := &tls.Certificate{Certificate: job.Chain}
	if len(job.Key) > 0 {
		key, err := x509.ParsePKCS8PrivateKey(job.Key)
		if err != nil {
			return nil, err
		}
		certificate.PrivateKey = key.(crypto.Signer)
	}
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		answer.Announced = info.AcceptableCAs
		return certificate, nil
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		answer.Leaf = state.PeerCertificates[0].Raw
		answer.Verify = verify(job, state.PeerCertificates)
		return nil
	}
	return config, nil
}

func verify(job Job, chain []*x509.Certificate) string {
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: job.Host,
	}
	for _, der := range job.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return err.Error()
		}
		options.Roots.AddCert(root)
	}
	for _, other := range chain[1:] {
		options.Intermediates.AddCert(other)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return err.Error()
	}
	return ""
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var jobs []Job
		if err := json.Unmarshal(line, &jobs); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answers := make([]Answer, len(jobs))
		limit := make(chan struct{}, 4)
		var wait sync.WaitGroup
		for i, job := range jobs {
			wait.Add(1)
			limit <- struct{}{}
			go func() {
				defer wait.Done()
				answers[i] = ask(job)
				<-limit
			}()
		}
		wait.Wait()
		if err := out.Encode(answers); err != nil {
			return
		}
	}
}
