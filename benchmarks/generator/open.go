package main

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"
)

// patience is how long after the end of the schedule overdue requests may still be sent.
const patience = 3 * time.Second

// job is one request of the schedule.
type job struct {
	scheduled time.Duration // from the start
}

// open sends at the planned rate whatever the server does.
func (r *run) open(ctx context.Context) {
	pacer := newPacer()
	defer pacer.close()
	workers := &workers{run: r, sender: r.sender}
	r.record.begin()
	end := r.plan.warmup() + r.plan.measured()
	measuring, due := false, time.Duration(0)
	now := time.Duration(0)
	burst := newBurst(r.plan.Rate)
	number := 0
	for (now < end || due < end && now < end+patience) && ctx.Err() == nil {
		now = time.Since(r.record.start)
		for ; due <= now && due < end && burst.take(now); due = schedule(number, r.plan.Rate, r.plan.warmup()) {
			if !measuring && due >= r.plan.warmup() {
				measuring = true
				r.record.measuring()
			}
			workers.start(job{scheduled: due})
			number++
		}
		pacer.sleep(nap(min(due, end) - time.Since(r.record.start)))
	}
	r.record.ended(now)
	for ; due < end && ctx.Err() == nil; due = schedule(number, r.plan.Rate, r.plan.warmup()) {
		r.record.sending(due, now-due)
		r.record.done(due, nil, outcome{failure: "generator_late"})
		number++
	}
	workers.waiting.Wait()
	r.record.measured(time.Since(r.record.start) - now)
}

// burst limits the effect of the generator's own delays on the server. After the sender did not get to run, it
// sends overdue requests at twice the rate, and not all at once: that would dial many connections that the planned
// load does not need. Latency and lag still count from the schedule.
type burst struct {
	rate, tokens, most float64
	last               time.Duration
}

func newBurst(rate float64) *burst {
	const spell = 0.015 // seconds whose requests may go out at once; max_idle connections hold about as many
	most := 4 + rate*spell
	return &burst{rate: 2 * rate, tokens: most, most: most}
}

func (b *burst) take(now time.Duration) bool {
	b.tokens = min(b.tokens+b.rate*(now-b.last).Seconds(), b.most)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// nap returns how long to sleep when the next request is due after wait. The lower limit bounds the cost of waking
// up; the upper limit bounds how long an interrupt waits.
func nap(wait time.Duration) time.Duration {
	const shortest, longest = 100 * time.Microsecond, 50 * time.Millisecond
	return min(max(wait, shortest), longest)
}

// schedule returns when a request is due. Requests are evenly spaced, except that the rate rises from zero during
// the first half of the warm-up. So connections are made one after another, as an API server makes them over time.
// All at once, they would measure many simultaneous handshakes.
func schedule(number int, rate float64, warmup time.Duration) time.Duration {
	rise := warmup.Seconds() / 2
	risen := rate * rise / 2 // requests until then
	if n := float64(number); n < risen {
		return seconds(math.Sqrt(2 * rise * n / rate))
	} else {
		return seconds(rise + (n-risen)/rate)
	}
}

// workers are goroutines that send. Their number is the largest number of requests that were in flight at once.
// They are kept, because their stacks have already grown.
type workers struct {
	run     *run
	sender  sender
	waiting sync.WaitGroup

	mutex  sync.Mutex
	idle   []chan job
	flying int
}

func (w *workers) start(j job) {
	w.mutex.Lock()
	if w.flying >= w.run.plan.MaxInFlight {
		w.mutex.Unlock()
		w.run.record.sending(j.scheduled, -1)
		w.run.record.done(j.scheduled, nil, outcome{failure: "generator_full"})
		return
	}
	w.flying++
	w.waiting.Add(1)
	var worker chan job
	if last := len(w.idle) - 1; last >= 0 {
		// Use the worker that was busy last, because its stack is in the cache.
		worker, w.idle = w.idle[last], w.idle[:last]
	}
	w.mutex.Unlock()
	if worker == nil {
		worker = make(chan job, 1)
		go w.work(worker)
	}
	worker <- j
}

func (w *workers) work(jobs chan job) {
	buffer := new(bytes.Buffer)
	record := w.run.record
	for j := range jobs {
		since := record.start.Add(j.scheduled)
		record.sending(j.scheduled, time.Since(since))
		of, o := w.run.ask(w.sender, buffer, since)
		record.done(j.scheduled, of, o)
		w.mutex.Lock()
		w.idle = append(w.idle, jobs)
		w.flying--
		w.mutex.Unlock()
		w.waiting.Done()
	}
}
