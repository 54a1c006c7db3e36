package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// connection is HTTP/1.1 on one connection, one request after another, written and read by the caller.
//
// Go's own client passes every request through three goroutines, which would be most of the generator's work. This
// client costs a fifth, so it can saturate servers that cost less than Go's client.
type connection struct {
	conn   net.Conn
	plain  *net.TCPConn // below TLS
	reader *bufio.Reader
	output []byte
	used   bool
	idle   time.Time // since when
}

// requests holds the parts that all requests to one server share.
type requests struct {
	dialer *dialer
	head   string
	fresh  bool
}

func newRequests(p *plan, d *dialer) *requests {
	fields := "Accept-Encoding: gzip\r\n"
	for name, values := range requestHeader() {
		fields += name + ": " + values[0] + "\r\n"
	}
	if p.FreshConnections {
		fields += "Connection: close\r\n"
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: ", p.Path, p.ServerName, fields)
	return &requests{dialer: d, head: head, fresh: p.FreshConnections}
}

func (r *requests) connect(ctx context.Context) (*connection, error) {
	conn, plain, err := r.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, plain: plain, reader: bufio.NewReader(conn)}, nil
}

// exchange sends one request and reads its answer into buffer. keep reports whether the connection can be reused.
func (r *requests) exchange(
	ctx context.Context, c *connection, content []byte, buffer *bytes.Buffer,
) (answer reply, keep bool, err error) {
	c.used = true
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return reply{}, false, err
		}
	}
	c.output = append(c.output[:0], r.head...)
	c.output = fmt.Appendf(c.output, "%d\r\n\r\n", len(content))
	c.output = append(c.output, content...)
	if _, err := c.conn.Write(c.output); err != nil {
		return reply{}, false, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return reply{}, false, err
	}
	defer response.Body.Close()
	buffer.Reset()
	if response.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(response.Body)
		if err != nil {
			return reply{}, false, err
		}
		if _, err := buffer.ReadFrom(unzipped); err != nil {
			return reply{}, false, err
		}
	} else if _, err := buffer.ReadFrom(response.Body); err != nil {
		return reply{}, false, err
	}
	answer = reply{
		status: response.StatusCode, retryAfter: response.Header.Get("Retry-After"), payload: buffer.Bytes(),
	}
	return answer, !response.Close && !r.fresh, nil
}

func (c *connection) close() { c.conn.Close() }

// single is the sender of a closed loop. It keeps one connection, and one goroutine uses it.
type single struct {
	requests *requests
	current  *connection
}

func (s *single) send(ctx context.Context, content []byte, buffer *bytes.Buffer) (reply, error) {
	if s.current == nil {
		opened, err := s.requests.connect(ctx)
		if err != nil {
			return reply{}, err
		}
		s.current = opened
	}
	answer, keep, err := s.requests.exchange(ctx, s.current, content, buffer)
	if err != nil || !keep {
		s.close()
	}
	return answer, err
}

func (s *single) close() {
	if s.current != nil {
		s.current.close()
		s.current = nil
	}
}
