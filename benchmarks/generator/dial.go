package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

const dialTimeout = 30 * time.Second

// dialer makes connections and counts them.
type dialer struct {
	record  *record
	targets *targets
	config  *tls.Config // nil for plain HTTP
	net     net.Dialer
}

// handshakeError marks an error of the TLS handshake, as opposed to one of the TCP connection.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// dialError is a connection that could not be made.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func newDialer(p *plan, r *record) (*dialer, error) {
	d := &dialer{record: r, targets: newTargets(p), net: net.Dialer{Timeout: dialTimeout}}
	if p.CAFile == "" {
		return d, nil
	}
	pem, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", p.CAFile)
	}
	// As an API server's: no session cache, so that every connection is a full handshake, and no HTTP/2.
	d.config = &tls.Config{
		RootCAs: roots, ServerName: p.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}
	return d, nil
}

// dial connects to the next target and, unless HTTP is plain, does the TLS handshake.
// It returns the connection and the TCP connection below it.
func (d *dialer) dial(ctx context.Context) (net.Conn, *net.TCPConn, error) {
	target := d.targets.take()
	if target == "" {
		return nil, nil, dialError{errors.New("no target is known")}
	}
	d.record.dialled(time.Now())
	dialled, err := d.net.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, nil, dialError{err}
	}
	plain, ok := dialled.(*net.TCPConn)
	if !ok {
		return nil, nil, dialError{fmt.Errorf("%T is no TCP connection", dialled)}
	}
	if d.config == nil {
		return plain, plain, nil
	}
	start := time.Now()
	secured := tls.Client(plain, d.config)
	if err := secured.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, nil, handshakeError{err}
	}
	d.record.shook(start, time.Since(start))
	return secured, plain, nil
}
