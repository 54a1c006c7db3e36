package main

import (
	"sync"
	"syscall"
	"time"
)

const maxExamples = 5

// record counts what happened, for requests scheduled within the measured interval only.
type record struct {
	plan  *plan
	start time.Time // of the schedule

	mutex       sync.Mutex
	sent        int
	ok          int
	wrong       int
	shed        int
	failed      int
	errors      map[string]int
	examples    []string
	latency     histogram
	lag         histogram
	handshake   histogram
	dials       int
	dialsInTime int
	byBody      []histogram
	timeline    []*second
	length      time.Duration // of the measured interval; less than planned after an interrupt
	from        time.Duration // when measuring began, from start; as the next two
	cpuFrom     time.Duration // processor time used by then
	cpu         time.Duration // used from then until the schedule ended
	cpuLength   time.Duration // the time in which it was used
	drained     time.Duration
}

// second holds the figures of one second. A request belongs to the second in which it was scheduled.
type second struct {
	sent, ok, shed, failed, dials int
	latency                       histogram
}

// outcome is how a request ended.
type outcome struct {
	latency time.Duration
	shed    bool
	failure string // kind of an error, or nothing
	wrong   string // what is wrong with the answer, or nothing
}

func newRecord(p *plan) *record {
	return &record{plan: p, errors: map[string]int{}, byBody: make([]histogram, len(p.Bodies))}
}

func (r *record) begin() { r.start = time.Now() }

// measures reports whether this time is within the measured interval.
func (r *record) measures(scheduled time.Duration) bool {
	return scheduled >= r.plan.warmup() && scheduled < r.plan.warmup()+r.plan.measured()
}

func (r *record) measuring() {
	r.from, r.cpuFrom = time.Since(r.start), processorTime()
	write(map[string]any{"event": "measuring"})
}

// ended records that the schedule is over, and its duration.
func (r *record) ended(after time.Duration) {
	r.length = max(min(after-r.plan.warmup(), r.plan.measured()), 0)
	if r.length > 0 { // else an interrupt came before the interval
		r.cpu, r.cpuLength = processorTime()-r.cpuFrom, time.Since(r.start)-r.from
	}
}

func (r *record) measured(drained time.Duration) {
	r.drained = drained
	write(map[string]any{"event": "measured", "drained_seconds": drained.Seconds()})
}

// sending counts a request that is being sent. lag is negative if there is no schedule.
func (r *record) sending(scheduled, lag time.Duration) {
	if !r.measures(scheduled) {
		return
	}
	r.mutex.Lock()
	r.sent++
	r.second(scheduled).sent++
	if lag >= 0 {
		r.lag.add(lag)
	}
	r.mutex.Unlock()
}

func (r *record) done(scheduled time.Duration, of *body, o outcome) {
	if !r.measures(scheduled) {
		if o.wrong == "" {
			return
		}
		// A wrong answer counts even outside the measured interval.
		r.mutex.Lock()
		r.addWrong(o.wrong)
		r.mutex.Unlock()
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	at := r.second(scheduled)
	switch {
	case o.failure != "":
		r.failed++
		at.failed++
		r.errors[o.failure]++
	case o.shed:
		r.shed++
		at.shed++
	case o.wrong != "":
		r.addWrong(o.wrong)
	default:
		r.ok++
		at.ok++
		r.latency.add(o.latency)
		at.latency.add(o.latency)
		if len(r.byBody) > 1 {
			r.byBody[of.index].add(o.latency)
		}
	}
}

func (r *record) addWrong(text string) {
	r.wrong++
	if len(r.examples) < maxExamples {
		r.examples = append(r.examples, text)
	}
}

func (r *record) dialled(at time.Time) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.dials++
	if scheduled := at.Sub(r.start); r.measures(scheduled) {
		r.dialsInTime++
		r.second(scheduled).dials++
	}
}

func (r *record) shook(at time.Time, taken time.Duration) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.measures(at.Sub(r.start)) {
		r.handshake.add(taken)
	}
}

func (r *record) second(scheduled time.Duration) *second {
	at := int((scheduled - r.plan.warmup()) / time.Second)
	for len(r.timeline) <= at {
		r.timeline = append(r.timeline, &second{})
	}
	return r.timeline[at]
}

func (r *record) result(c *checker) map[string]any {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	length := r.length.Seconds()
	result := map[string]any{
		"event": "result", "sent": r.sent, "ok": r.ok, "wrong": r.wrong, "shed": r.shed, "failed": r.failed,
		"errors": r.errors, "wrong_examples": append([]string{}, r.examples...), "seconds": length,
		"achieved_rate": ratio(float64(r.sent), length), "goodput": ratio(float64(r.ok), length),
		"latency_ms": map[string]float64{
			"mean": milliseconds(r.latency.mean()),
			"p50":  milliseconds(r.latency.quantile(0.5)), "p90": milliseconds(r.latency.quantile(0.9)),
			"p99": milliseconds(r.latency.quantile(0.99)), "p999": milliseconds(r.latency.quantile(0.999)),
			"max": milliseconds(r.latency.max),
		},
		"latency_histogram": r.latency.buckets(),
		"dials":             r.dials, "dials_measured": r.dialsInTime, "handshake_ms": short(&r.handshake),
		"cpu_seconds": r.cpu.Seconds(), "cpu_share": ratio(r.cpu.Seconds(), r.cpuLength.Seconds()),
		"drained_seconds": r.drained.Seconds(), "by_body": r.bodies(), "timeline": r.seconds(),
	}
	if r.plan.Mode == modeOpen {
		result["lag_ms"] = short(&r.lag)
	}
	if r.plan.CheckRevisions {
		result["revisions"], result["stale"] = len(c.since), c.stale
	}
	return result
}

func (r *record) bodies() map[string]any {
	by := map[string]any{}
	for index := range r.byBody {
		h := &r.byBody[index]
		if len(r.byBody) == 1 {
			h = &r.latency
		}
		by[r.plan.Bodies[index].File] = map[string]any{
			"ok": h.count, "p50": milliseconds(h.quantile(0.5)), "p99": milliseconds(h.quantile(0.99)),
		}
	}
	return by
}

func (r *record) seconds() []map[string]any {
	listed := []map[string]any{}
	for number, s := range r.timeline {
		listed = append(listed, map[string]any{
			"second": number, "sent": s.sent, "ok": s.ok, "shed": s.shed, "failed": s.failed, "dials": s.dials,
			"p99_ms": milliseconds(s.latency.quantile(0.99)), "max_ms": milliseconds(s.latency.max),
		})
	}
	return listed
}

func short(h *histogram) map[string]float64 {
	return map[string]float64{
		"p50": milliseconds(h.quantile(0.5)), "p99": milliseconds(h.quantile(0.99)), "max": milliseconds(h.max),
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// processorTime returns the user and system time that this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
