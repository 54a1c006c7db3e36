package main

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// pool is the sender of an open loop. It keeps connections by the rules of Go's http.Transport:
//
//   - a request takes the connection that became idle last, unless it is over 90 s or was closed;
//   - if there is none, it dials, and takes the first of the new connection and one that becomes idle;
//   - a connection that becomes idle goes to the request that has waited longest. If none waits, it is kept, up
//     to max_idle connections, or else closed. The same holds for a new connection that its request no longer needs.
//
// max_dials limits the dials that are in progress at once. A dial that has not begun when its request is served
// is cancelled.
type pool struct {
	requests *requests
	maxIdle  int
	dialling chan struct{} // holds one for each dial under way; nil for no limit

	mutex   sync.Mutex
	idle    []*connection
	waiting []*waiter // the longest first
}

// waiter is a request without a connection.
type waiter struct {
	served chan *connection // of size one
	failed chan error       // of size one
	done   bool
}

func newPool(p *plan, d *dialer) *pool {
	maxIdle := p.MaxIdle
	if p.FreshConnections {
		maxIdle = 0
	}
	made := &pool{requests: newRequests(p, d), maxIdle: maxIdle}
	if p.MaxDials > 0 {
		made.dialling = make(chan struct{}, p.MaxDials)
	}
	return made
}

func (p *pool) send(ctx context.Context, content []byte, buffer *bytes.Buffer) (reply, error) {
	c, err := p.take(ctx)
	if err != nil {
		return reply{}, err
	}
	answer, keep, err := p.requests.exchange(ctx, c, content, buffer)
	if err != nil || !keep {
		c.close()
	} else {
		p.put(c)
	}
	return answer, err
}

func (p *pool) take(ctx context.Context) (*connection, error) {
	if c := p.newestIdle(); c != nil {
		return c, nil
	}
	w := &waiter{served: make(chan *connection, 1), failed: make(chan error, 1)}
	p.mutex.Lock()
	p.waiting = append(p.waiting, w)
	p.mutex.Unlock()
	go p.dial(ctx, w)
	select {
	case c := <-w.served:
		return c, nil
	case err := <-w.failed:
		return nil, err
	case <-ctx.Done():
		p.mutex.Lock()
		w.done = true
		p.mutex.Unlock()
		select {
		case c := <-w.served: // at the same moment
			p.put(c)
		default:
		}
		return nil, ctx.Err()
	}
}

func (p *pool) newestIdle() *connection {
	for {
		p.mutex.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mutex.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle = p.idle[:last]
		p.mutex.Unlock()
		if time.Since(c.idle) < idleTimeout && c.alive() {
			return c
		}
		c.close()
	}
}

// dial makes a connection for w, or for another waiting request if w has been served meanwhile.
func (p *pool) dial(ctx context.Context, w *waiter) {
	if p.dialling != nil {
		p.dialling <- struct{}{}
		defer func() { <-p.dialling }()
		p.mutex.Lock()
		done := w.done
		p.mutex.Unlock()
		if done {
			return
		}
	}
	// The dial does not end with w, because other requests can use the connection.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	c, err := p.requests.connect(limited)
	p.mutex.Lock()
	if w.done {
		p.mutex.Unlock()
		if err == nil {
			p.put(c)
		}
		return
	}
	w.done = true
	p.mutex.Unlock()
	if err != nil {
		w.failed <- err
		return
	}
	w.served <- c
}

// put makes a connection that has no request available to others.
func (p *pool) put(c *connection) {
	p.mutex.Lock()
	for len(p.waiting) > 0 {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		if !w.done {
			w.done = true
			w.served <- c
			p.mutex.Unlock()
			return
		}
	}
	if len(p.idle) < p.maxIdle {
		c.idle = time.Now()
		p.idle = append(p.idle, c)
		c = nil
	}
	p.mutex.Unlock()
	if c != nil {
		c.close()
	}
}
