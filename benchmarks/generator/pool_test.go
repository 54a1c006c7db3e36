package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// server answers with what it was sent, and lets a test hold its answers back.
func server(t *testing.T) (*plan, func(hold bool), *httptest.Server) {
	t.Helper()
	var gate sync.RWMutex
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.RLock()
		defer gate.RUnlock()
		content, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s", content)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &plan{
		Targets: []string{strings.TrimPrefix(s.URL, "https://")}, ServerName: "example.com", CAFile: ca,
		Path: "/", MaxIdle: 2, Seconds: 60, Bodies: []bodyPlan{{}},
	}
	return p, func(hold bool) {
		if hold {
			gate.Lock()
		} else {
			gate.Unlock()
		}
	}, s
}

func poolOf(t *testing.T, p *plan) (*pool, *record) {
	t.Helper()
	r := newRecord(p)
	r.begin()
	d, err := newDialer(p, r)
	if err != nil {
		t.Fatal(err)
	}
	return newPool(p, d), r
}

func post(t *testing.T, s sender, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := s.send(ctx, []byte(text), new(bytes.Buffer))
	if err != nil || answer.status != 200 || string(answer.payload) != text {
		t.Errorf("%v %d %q", err, answer.status, answer.payload)
	}
}

func TestOneAfterAnotherShareAConnection(t *testing.T) {
	p, _, _ := server(t)
	pool, record := poolOf(t, p)
	for i := range 20 {
		post(t, pool, fmt.Sprint("request ", i))
	}
	if record.dials != 1 {
		t.Errorf("%d dials", record.dials)
	}
}

func TestNoMoreThanMaxIdleAreKept(t *testing.T) {
	p, hold, _ := server(t)
	pool, record := poolOf(t, p)
	hold(true)
	var waiting sync.WaitGroup
	for range 6 {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			post(t, pool, "x")
		}()
	}
	for { // until all six wait for their answers
		record.mutex.Lock()
		dials := record.handshake.count
		record.mutex.Unlock()
		if dials == 6 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	hold(false)
	waiting.Wait()
	pool.mutex.Lock()
	defer pool.mutex.Unlock()
	if len(pool.idle) != 2 {
		t.Errorf("%d idle", len(pool.idle))
	}
}

func TestAConnectionThatTheServerClosedIsNotUsed(t *testing.T) {
	p, _, s := server(t)
	pool, record := poolOf(t, p)
	post(t, pool, "a")
	s.CloseClientConnections()
	pool.mutex.Lock()
	idle := pool.idle[0]
	pool.mutex.Unlock()
	for idle.alive() { // until the end has arrived
		time.Sleep(time.Millisecond)
	}
	post(t, pool, "b")
	if record.dials != 2 {
		t.Errorf("%d dials", record.dials)
	}
}

func TestFreshConnectionsAreNotKept(t *testing.T) {
	p, _, _ := server(t)
	p.FreshConnections = true
	pool, record := poolOf(t, p)
	for range 3 {
		post(t, pool, "x")
	}
	if record.dials != 3 || len(pool.idle) != 0 {
		t.Errorf("%d dials, %d idle", record.dials, len(pool.idle))
	}
}

func TestGoAndOwnClientSendTheSame(t *testing.T) {
	p, _, _ := server(t)
	for _, name := range []string{clientGo, clientOwn} {
		p.Client = name
		pool, _ := poolOf(t, p)
		s, err := newSender(p, pool.requests.dialer)
		if err != nil {
			t.Fatal(err)
		}
		post(t, s, "x")
	}
}

func TestTargetsAreReadAgainWhenTheFileChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "targets")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	targets := newTargets(&plan{TargetsFile: file})
	if got := targets.take(); got != "" {
		t.Error(got)
	}
	put("a:1\nb:22\n")
	if got := targets.take() + targets.take() + targets.take(); got != "a:1b:22a:1" {
		t.Error(got)
	}
	put("")
	if got := targets.take(); got != "b:22" {
		t.Error("an empty file is not the last word:", got)
	}
	put("c:333\n")
	if got := targets.take(); got != "c:333" {
		t.Error(got)
	}
}
