// creator repeatedly sends the same few objects to an API server and reports how long the answers took.
//
// It is a program of its own so that the measured machine's time goes to the API server and its webhooks: a create
// costs it about a tenth of a millisecond. Each of -creators clients has one keep-alive HTTP/1.1 connection and
// sends its next request when the last one is answered (closed loop), the bodies of -bodies one after another.
//
// Standard output gets three lines of JSON: {"event":"measuring"} when the warm-up is over, {"event":"measured"} when
// the measured time is over, and the Result. A create counts when its answer is complete within the measured time;
// requests in progress at the end are completed. The exit status is 0 even when answers were wrong: the reader of the
// Result must check it.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	requestTimeout = 30 * time.Second
	maxSeconds     = 120 // no mistake in a flag makes a load without end
	maxCreators    = 256
	maxProblems    = 5
)

// created is what a Pod looks like in an answer of the API server: the kind comes first.
var created = []byte(`{"kind":"Pod",`)

// Latency is in milliseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Result is the last line. Statuses, Problems, Warnings and Errors count answers of the warm-up too, because an
// error in the warm-up is also an error.
type Result struct {
	Event      string         `json:"event"`
	Creates    int            `json:"creates"` // answered 201 with a Pod, within the measured time
	Seconds    float64        `json:"seconds"`
	PerSecond  float64        `json:"per_second"`
	LatencyMS  Latency        `json:"latency_ms"`
	Statuses   map[string]int `json:"statuses"`
	Errors     int            `json:"errors"`   // requests without an answer, and 201s without a Pod
	Warnings   int            `json:"warnings"` // Warning headers
	Problems   []string       `json:"problems"` // the first few texts of what was not a 201, and of warnings
	Dials      int            `json:"dials"`
	CPUSeconds float64        `json:"cpu_seconds"` // of this program, within the measured time
}

// creator is one client; its fields are read after it has ended.
type creator struct {
	client    *http.Client
	url       string
	bodies    [][]byte
	next      int
	latencies []time.Duration
	statuses  map[int]int
	errors    int
	warnings  int
	problems  []string
	buffer    bytes.Buffer
}

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "creator:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	url := flag.String("url", "", "where to POST")
	ca := flag.String("ca", "", "PEM file of the authority to trust")
	certificate := flag.String("cert", "", "PEM file of the client certificate")
	key := flag.String("key", "", "PEM file of its key")
	file := flag.String("bodies", "", "file of JSON bodies, one a line")
	creators := flag.Int("creators", 16, "clients at once")
	warmUp := flag.Float64("warm-up", 1, "seconds that are not measured")
	seconds := flag.Float64("seconds", 5, "seconds that are measured")
	flag.Parse()
	if *creators < 1 || *creators > maxCreators {
		return fmt.Errorf("-creators is 1 to %d", maxCreators)
	}
	if *seconds <= 0 || *warmUp < 0 || *seconds+*warmUp > maxSeconds {
		return fmt.Errorf("-seconds and -warm-up are together at most %d", maxSeconds)
	}
	bodies, err := readBodies(*file)
	if err != nil {
		return err
	}
	trust, err := trusting(*ca, *certificate, *key)
	if err != nil {
		return err
	}

	crew := make([]*creator, *creators)
	dials := 0
	var dialled sync.Mutex
	for number := range crew {
		own := trust.Clone() // a transport writes into the one it is given
		own.VerifyConnection = func(tls.ConnectionState) error {
			dialled.Lock()
			defer dialled.Unlock()
			dials++
			return nil
		}
		transport := &http.Transport{TLSClientConfig: own, MaxIdleConnsPerHost: 1, DisableCompression: true}
		crew[number] = &creator{
			client:   &http.Client{Transport: transport, Timeout: requestTimeout},
			url:      *url,
			bodies:   bodies,
			next:     number % len(bodies),
			statuses: map[int]int{},
		}
	}

	lines := json.NewEncoder(out)
	begin := time.Now().Add(duration(*warmUp))
	end := begin.Add(duration(*seconds))
	var working sync.WaitGroup
	for _, one := range crew {
		working.Add(1)
		go func(one *creator) {
			defer working.Done()
			one.work(begin, end)
		}(one)
	}
	time.Sleep(time.Until(begin))
	before := cpu()
	if err := lines.Encode(map[string]string{"event": "measuring"}); err != nil {
		return err
	}
	time.Sleep(time.Until(end))
	used := cpu() - before
	// Write the line before waiting for the last answers, because its reader ends its own measurement then.
	if err := lines.Encode(map[string]string{"event": "measured"}); err != nil {
		return err
	}
	working.Wait()
	result := Result{Seconds: *seconds, CPUSeconds: used}
	result.add(crew)
	dialled.Lock()
	result.Dials = dials
	dialled.Unlock()
	return lines.Encode(result)
}

func (c *creator) work(begin, end time.Time) {
	for {
		start := time.Now()
		if !start.Before(end) {
			return
		}
		good := c.create()
		now := time.Now()
		if good && !now.Before(begin) && now.Before(end) {
			c.latencies = append(c.latencies, now.Sub(start))
		}
	}
}

// create sends one request and reports whether the answer was the Pod.
func (c *creator) create() bool {
	body := c.bodies[c.next]
	c.next = (c.next + 1) % len(c.bodies)
	answer, err := c.client.Post(c.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return c.failed(err.Error())
	}
	defer answer.Body.Close()
	c.buffer.Reset()
	if _, err := c.buffer.ReadFrom(answer.Body); err != nil {
		return c.failed(err.Error())
	}
	c.statuses[answer.StatusCode]++
	for _, warning := range answer.Header.Values("Warning") {
		c.warnings++
		c.note(warning)
	}
	if answer.StatusCode != http.StatusCreated {
		c.note(fmt.Sprintf("%d %s", answer.StatusCode, c.buffer.String()))
		return false
	}
	if !bytes.HasPrefix(c.buffer.Bytes(), created) {
		return c.failed("201 without a Pod: " + c.buffer.String())
	}
	return true
}

func (c *creator) failed(problem string) bool {
	c.errors++
	c.note(problem)
	return false
}

func (c *creator) note(problem string) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, problem[:min(len(problem), 400)])
	}
}

func (r *Result) add(crew []*creator) {
	r.Event = "result"
	r.Statuses = map[string]int{}
	r.Problems = []string{}
	var all []time.Duration
	for _, one := range crew {
		all = append(all, one.latencies...)
		r.Errors += one.errors
		r.Warnings += one.warnings
		for status, count := range one.statuses {
			r.Statuses[strconv.Itoa(status)] += count
		}
		for _, problem := range one.problems {
			if len(r.Problems) < maxProblems {
				r.Problems = append(r.Problems, problem)
			}
		}
	}
	r.Creates = len(all)
	r.PerSecond = float64(len(all)) / r.Seconds
	r.LatencyMS = latency(all)
}

func latency(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	var sum time.Duration
	for _, one := range all {
		sum += one
	}
	at := func(share float64) float64 { return milliseconds(all[int(share*float64(len(all)-1))]) }
	return Latency{
		Mean: milliseconds(sum) / float64(len(all)),
		P50:  at(0.5),
		P90:  at(0.9),
		P99:  at(0.99),
		Max:  milliseconds(all[len(all)-1]),
	}
}

func readBodies(path string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var bodies [][]byte
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20) // an object may have 3 MiB
	for lines.Scan() {
		bodies = append(bodies, bytes.Clone(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(bodies) == 0 {
		return nil, errors.New("no body in " + path)
	}
	return bodies, nil
}

func trusting(ca, certificate, key string) (*tls.Config, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + ca)
	}
	trust := &tls.Config{RootCAs: roots}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, err
		}
		trust.Certificates = []tls.Certificate{pair}
	}
	return trust, nil
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpu returns the user and system time that this program has used, in seconds.
func cpu() float64 {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(used.Utime) + seconds(used.Stime)
}
