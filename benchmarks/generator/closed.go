package main

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// closed lets each connection send its next request as soon as its last was answered.
func (r *run) closed(ctx context.Context) {
	r.record.begin()
	ctx, cancel := context.WithTimeout(ctx, r.plan.warmup()+r.plan.measured())
	defer cancel()
	var waiting sync.WaitGroup
	for range r.plan.Connections {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			r.repeat(ctx)
		}()
	}
	warm := time.NewTimer(r.plan.warmup())
	defer warm.Stop()
	select {
	case <-warm.C:
		r.record.measuring()
	case <-ctx.Done():
	}
	<-ctx.Done()
	now := time.Since(r.record.start)
	r.record.ended(now)
	waiting.Wait()
	r.record.measured(time.Since(r.record.start) - now)
}

func (r *run) repeat(ctx context.Context) {
	c := &single{requests: newRequests(r.plan, r.dialer)}
	defer c.close()
	buffer := new(bytes.Buffer)
	for ctx.Err() == nil {
		now := time.Now()
		scheduled := now.Sub(r.record.start)
		r.record.sending(scheduled, -1)
		of, o := r.ask(c, buffer, now)
		r.record.done(scheduled, of, o)
		if o.failure != "" {
			// Wait, so that a server that refuses at once does not get requests in a busy loop.
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}
