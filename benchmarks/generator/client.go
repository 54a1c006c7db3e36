package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	idleTimeout = 90 * time.Second
	maxRetries  = 10
	// writeBuffer: the head and a body of common size go out in one write, as one or a few TLS records.
	writeBuffer = 64 << 10
)

// reply is an answer as received.
type reply struct {
	status     int
	retryAfter string
	payload    []byte
}

// client sends with Go's own HTTP client, set up as an API server sets up its webhook clients.
type client struct {
	transport *http.Transport
	url       *url.URL
	header    http.Header
	host      string
	plan      *plan
}

func newClient(p *plan, d *dialer) (*client, error) {
	where, err := url.Parse(scheme(d) + "://" + p.ServerName + p.Path)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, _, err := d.dial(ctx)
		return conn, err
	}
	return &client{
		url:    where,
		host:   p.ServerName,
		plan:   p,
		header: requestHeader(),
		transport: &http.Transport{
			DialContext: dial, DialTLSContext: dial,
			MaxIdleConnsPerHost: p.MaxIdle, IdleConnTimeout: idleTimeout,
			DisableKeepAlives: p.FreshConnections || p.MaxIdle == 0,
			WriteBufferSize:   writeBuffer,
			TLSNextProto:      nil, ForceAttemptHTTP2: false,
		},
	}, nil
}

func scheme(d *dialer) string {
	if d.config == nil {
		return "http"
	}
	return "https"
}

func requestHeader() http.Header {
	return http.Header{
		"Accept":       {"application/json, */*"},
		"Content-Type": {"application/json"},
		"User-Agent":   {"kube-apiserver-admission"},
	}
}

// send posts the body and reads the whole answer into buffer.
func (c *client) send(ctx context.Context, content []byte, buffer *bytes.Buffer) (reply, error) {
	request := (&http.Request{
		Method: http.MethodPost, URL: c.url, Host: c.host, Header: c.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(content)),
		// net/http recognises this reader as in memory. With another reader it would send the head separately.
		Body:    io.NopCloser(bytes.NewReader(content)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}).WithContext(ctx)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	buffer.Reset()
	if _, err := buffer.ReadFrom(response.Body); err != nil {
		return reply{}, err
	}
	return reply{
		status: response.StatusCode, retryAfter: response.Header.Get("Retry-After"), payload: buffer.Bytes(),
	}, nil
}

// sender is one way of sending.
type sender interface {
	send(ctx context.Context, content []byte, buffer *bytes.Buffer) (reply, error)
}

func newSender(p *plan, d *dialer) (sender, error) {
	if p.Client == clientOwn {
		return newPool(p, d), nil
	}
	return newClient(p, d)
}

// ask chooses a body, sends it with s and checks the answer. Latency counts from since.
func (r *run) ask(s sender, buffer *bytes.Buffer, since time.Time) (*body, outcome) {
	d := r.bodies.draw()
	deadline := time.Now().Add(r.plan.timeout())
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	for attempt := 0; ; attempt++ {
		sent := time.Now()
		answer, err := s.send(ctx, d.bytes, buffer)
		received := time.Now()
		if err != nil {
			return d.body, outcome{failure: failureKind(err)}
		}
		if wait, shed := answer.shed(); shed && d.body.expect.status() == 200 {
			if !r.plan.RetryShed || attempt >= maxRetries || received.Add(wait).After(deadline) {
				return d.body, outcome{shed: true}
			}
			time.Sleep(wait)
			continue
		}
		wrong := r.checker.check(&d, answer.status, answer.payload, sent, received)
		if wrong == "" {
			// The answer has the body's uid, so the server has read all of it, and its memory can be reused.
			r.bodies.release(d)
		}
		return d.body, outcome{latency: received.Sub(since), wrong: wrong}
	}
}

// shed reports whether the server asked for a retry, and after how long.
func (r reply) shed() (time.Duration, bool) {
	if r.status != http.StatusTooManyRequests && r.status != http.StatusServiceUnavailable {
		return 0, false
	}
	after, err := strconv.Atoi(r.retryAfter)
	return time.Duration(after) * time.Second, err == nil && after >= 0
}

func failureKind(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.As(err, new(handshakeError)):
		return "handshake"
	case errors.As(err, new(dialError)):
		return "dial"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	}
	return "other: " + err.Error()
}
