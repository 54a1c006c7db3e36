package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	modeOpen   = "open"
	modeClosed = "closed"

	clientGo  = "net/http"
	clientOwn = "own"
)

// plan describes the load: bodies, targets and rate. Durations are in seconds.
type plan struct {
	// Targets are dialled in turn, by host:port.
	Targets []string `json:"targets"`
	// TargetsFile overrides Targets: a host:port a line, read again when it has changed.
	TargetsFile string `json:"targets_file"`
	ServerName  string `json:"server_name"`
	// CAFile holds the CA in PEM. Empty means plain HTTP.
	CAFile string `json:"ca_file"`
	Path   string `json:"path"`
	// Mode is "open" (Rate a second, evenly spaced) or "closed" (Connections, each sending its next
	// request when its last was answered).
	Mode          string  `json:"mode"`
	Rate          float64 `json:"rate"`
	Connections   int     `json:"connections"`
	WarmupSeconds float64 `json:"warmup_seconds"`
	Seconds       float64 `json:"seconds"`
	// Client of an open loop: "net/http", which API servers use, or "own". The latter follows the same rules for
	// connections (see pool.go) and costs a fifth, so it reaches higher rates.
	Client string `json:"client"`
	// MaxIdle connections are kept in open loop; those beyond it are closed after their answer.
	MaxIdle int `json:"max_idle"`
	// MaxDials limits the dials that the client "own" has in progress; 0 means no limit, as in an API server. A
	// handshake costs the generator as much as the server, so its own dials could use all of its core.
	MaxDials         int     `json:"max_dials"`
	FreshConnections bool    `json:"fresh_connections"`
	MaxInFlight      int     `json:"max_in_flight"`
	Timeout          float64 `json:"timeout"`
	RetryShed        bool    `json:"retry_shed"`
	// CheckRevisions counts an answer as wrong if its policy was already superseded when the request was sent. The
	// audit annotation "policy" has the revision.
	CheckRevisions bool       `json:"check_revisions"`
	Seed           uint64     `json:"seed"`
	Bodies         []bodyPlan `json:"bodies"`
	Images         *imagePlan `json:"images"`
}

type bodyPlan struct {
	File   string  `json:"file"`
	Weight float64 `json:"weight"`
	Expect expect  `json:"expect"`
}

// expect describes the right answer. Absent fields are not checked.
type expect struct {
	Status   *int  `json:"status"`
	Allowed  *bool `json:"allowed"`
	Patch    *bool `json:"patch"`
	Warnings *bool `json:"warnings"`
}

func (e expect) status() int {
	if e.Status == nil {
		return 200
	}
	return *e.Status
}

type imagePlan struct {
	Count      int     `json:"count"`
	Zipf       float64 `json:"zipf"`
	FreshShare float64 `json:"fresh_share"`
	Format     string  `json:"format"`
}

// readPlan parses and checks a plan. The defaults are those of an API server.
func readPlan(from io.Reader) (*plan, error) {
	p := &plan{
		ServerName:  "localhost",
		Path:        "/",
		Client:      clientGo,
		MaxIdle:     25,
		MaxInFlight: 20000,
		Timeout:     10,
		Seed:        1,
	}
	decoder := json.NewDecoder(from)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(p); err != nil {
		return nil, fmt.Errorf("bad plan: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("bad plan: %w", err)
	}
	return p, nil
}

func (p *plan) check() error {
	switch {
	case len(p.Targets) == 0 && p.TargetsFile == "":
		return errors.New("no targets")
	case p.Mode != modeOpen && p.Mode != modeClosed:
		return fmt.Errorf("mode %q is neither open nor closed", p.Mode)
	case p.Client != clientGo && p.Client != clientOwn:
		return fmt.Errorf("client %q is neither %s nor %s", p.Client, clientGo, clientOwn)
	case p.Mode == modeOpen && p.Rate <= 0:
		return errors.New("an open loop needs a rate")
	case p.Mode == modeClosed && p.Connections <= 0:
		return errors.New("a closed loop needs connections")
	case p.Seconds <= 0 || p.WarmupSeconds < 0:
		return errors.New("seconds must be positive, warmup_seconds not negative")
	case p.Timeout <= 0 || p.MaxInFlight <= 0 || p.MaxIdle < 0 || p.MaxDials < 0:
		return errors.New("timeout and max_in_flight must be positive, max_idle and max_dials not negative")
	case len(p.Bodies) == 0:
		return errors.New("no bodies")
	}
	for _, body := range p.Bodies {
		if body.Weight < 0 {
			return fmt.Errorf("the weight of %s is negative", body.File)
		}
	}
	if i := p.Images; i != nil && (i.Count <= 0 || i.Zipf < 0 || i.FreshShare < 0 || i.FreshShare > 1) {
		return errors.New("images need a count, a zipf >= 0 and a fresh_share within 0..1")
	}
	return nil
}

func (p *plan) timeout() time.Duration  { return seconds(p.Timeout) }
func (p *plan) warmup() time.Duration   { return seconds(p.WarmupSeconds) }
func (p *plan) measured() time.Duration { return seconds(p.Seconds) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
