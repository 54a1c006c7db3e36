package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// pacer sleeps for the sender.
//
// It waits for a timer of the kernel's through the network poller: Go's own timers are rounded up to
// whole milliseconds when the process is idle, which is the spacing of a thousand requests a second.
type pacer struct {
	fd   uintptr
	file *os.File
}

func newPacer() *pacer {
	const monotonic = 1
	fd, _, errno := syscall.Syscall(
		syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		panic(errno)
	}
	return &pacer{fd: fd, file: os.NewFile(fd, "timer")}
}

func (p *pacer) sleep(length time.Duration) {
	setting := [2]syscall.Timespec{{}, syscall.NsecToTimespec(int64(length))} // once, after length
	_, _, errno := syscall.Syscall6(
		syscall.SYS_TIMERFD_SETTIME, p.fd, 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	var expirations [8]byte
	if _, err := p.file.Read(expirations[:]); err != nil {
		panic(err)
	}
}

func (p *pacer) close() { p.file.Close() }
