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
//   - without one it starts a dial, and takes what comes first: that connection or one that becomes idle;
//   - a connection no longer needed goes to the request that has waited longest, else it stays as one of
//     max_idle, else it is closed. So it is with a dial whose request was served by another connection.
//
// With max_dials, no more than these are under way at once, and a dial that has not begun when its
// request is served is left out.
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

// dial makes a connection for w, or for whoever needs it when w has been served meanwhile.
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
	// Not ended with w: the connection is of use to others, too.
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
