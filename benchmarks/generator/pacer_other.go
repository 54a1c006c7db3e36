//go:build !linux

package main

import "time"

// pacer sleeps for the sender, as finely as this system's timers allow.
type pacer struct{}

func newPacer() *pacer                      { return &pacer{} }
func (p *pacer) sleep(length time.Duration) { time.Sleep(length) }
func (p *pacer) close()                     {}
