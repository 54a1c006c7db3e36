// Command generator sends AdmissionReviews as an API server would and checks every answer.
//
// It reads one plan (JSON, see plan.go) from standard input and writes one JSON object per line to
// standard output: {"event":"measuring"} when the warm-up ends, {"event":"measured"} when the last
// request of the measured interval has ended, then {"event":"result"} with all figures. An interrupt
// ends the run early and still writes the result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// garbagePercent makes garbage collections rare, so that they do not add to the latencies. The live heap is only
// some megabytes, so this takes little memory.
const garbagePercent = 1000

func main() {
	debug.SetGCPercent(garbagePercent)
	run, err := prepare()
	if err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if run.plan.Mode == modeOpen {
		run.open(ctx)
	} else {
		run.closed(ctx)
	}
	write(run.record.result(run.checker))
}

func prepare() (*run, error) {
	plan, err := readPlan(os.Stdin)
	if err != nil {
		return nil, err
	}
	bodies, err := readBodies(plan)
	if err != nil {
		return nil, err
	}
	record := newRecord(plan)
	dialer, err := newDialer(plan, record)
	if err != nil {
		return nil, err
	}
	sender, err := newSender(plan, dialer)
	if err != nil {
		return nil, err
	}
	return &run{
		plan:    plan,
		bodies:  bodies,
		record:  record,
		checker: newChecker(plan, len(bodies.list)),
		dialer:  dialer,
		sender:  sender,
	}, nil
}

// run holds the parts that every request needs.
type run struct {
	plan    *plan
	bodies  *bodies
	record  *record
	checker *checker
	dialer  *dialer
	sender  sender // of an open loop
}

// write writes one line to standard output without buffering: the reader measures the server between these lines.
func write(document any) {
	line, err := json.Marshal(document)
	if err != nil {
		panic(err) // only our own types get here
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		os.Exit(1) // nobody reads us
	}
}
