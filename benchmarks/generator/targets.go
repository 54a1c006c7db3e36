package main

import (
	"os"
	"strings"
	"sync"
	"time"
)

// targets are dialled in turn; a file of them is read again when it has changed.
type targets struct {
	file string

	mutex    sync.Mutex
	list     []string
	next     int
	modified time.Time
	size     int64
}

func newTargets(p *plan) *targets {
	return &targets{list: p.Targets, file: p.TargetsFile}
}

// take returns the next address to dial, or nothing while none is known.
func (t *targets) take() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.refresh()
	if len(t.list) == 0 {
		return ""
	}
	t.next++
	return t.list[(t.next-1)%len(t.list)]
}

// refresh keeps the last known targets when the file cannot be read or is empty.
func (t *targets) refresh() {
	if t.file == "" {
		return
	}
	info, err := os.Stat(t.file)
	if err != nil || (info.ModTime().Equal(t.modified) && info.Size() == t.size) {
		return
	}
	content, err := os.ReadFile(t.file)
	if err != nil {
		return
	}
	t.modified, t.size = info.ModTime(), info.Size()
	if list := strings.Fields(string(content)); len(list) > 0 {
		t.list = list
	}
}
