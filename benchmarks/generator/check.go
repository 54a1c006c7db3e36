package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxKnown is the number of answers remembered for each body. Searching more would take longer than decoding.
const maxKnown = 4

// checker checks answers.
//
// It compares an answer, without its uid, with earlier answers that were decoded and found right. It decodes only
// an answer that equals none of them.
type checker struct {
	revisions bool
	known     []atomic.Pointer[[]known] // by body

	mutex sync.Mutex
	seen  map[string]int // revision -> its place in since
	since []time.Time    // when the first answer of each revision was received
	stale int
}

// known is an answer that was found right, split at the uid.
type known struct {
	before, after []byte
	revision      string
}

type answer struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Response   *struct {
		UID              string            `json:"uid"`
		Allowed          *bool             `json:"allowed"`
		Patch            *string           `json:"patch"`
		PatchType        *string           `json:"patchType"`
		Warnings         []string          `json:"warnings"`
		AuditAnnotations map[string]string `json:"auditAnnotations"`
	} `json:"response"`
}

func newChecker(p *plan, bodies int) *checker {
	return &checker{
		revisions: p.CheckRevisions,
		known:     make([]atomic.Pointer[[]known], bodies),
		seen:      map[string]int{},
	}
}

// check returns the problem of the answer to d, which was sent and received at these times, or nothing if it is right.
func (c *checker) check(d *drawn, status int, payload []byte, sent, received time.Time) string {
	if want := d.body.expect.status(); status != want {
		return fmt.Sprintf("status %d, not %d: %s", status, want, excerpt(payload))
	}
	if status != 200 {
		return ""
	}
	if list := c.known[d.body.index].Load(); list != nil {
		for i := range *list {
			if (*list)[i].matches(payload, d.uid[:]) {
				return c.revision((*list)[i].revision, sent, received)
			}
		}
	}
	var a answer
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Sprintf("not JSON (%v): %s", err, excerpt(payload))
	}
	if problem := a.problem(d); problem != "" {
		return problem + ": " + excerpt(payload)
	}
	revision := a.Response.AuditAnnotations["policy"]
	c.remember(d, payload, revision)
	return c.revision(revision, sent, received)
}

func (a *answer) problem(d *drawn) string {
	want := d.body.expect
	switch r := a.Response; {
	case a.Kind != "AdmissionReview" || a.APIVersion != "admission.k8s.io/v1":
		return fmt.Sprintf("a %s of %s", a.Kind, a.APIVersion)
	case r == nil:
		return "no response"
	case r.UID != string(d.uid[:]):
		return fmt.Sprintf("uid %s, not %s", r.UID, d.uid)
	case r.Allowed == nil:
		return "neither allowed nor denied"
	case want.Allowed != nil && *want.Allowed != *r.Allowed:
		return fmt.Sprintf("allowed is %v", *r.Allowed)
	case (r.Patch == nil) != (r.PatchType == nil):
		return "patch and patchType do not come together"
	case want.Patch != nil && *want.Patch != (r.Patch != nil):
		return fmt.Sprintf("with a patch: %v", r.Patch != nil)
	case want.Warnings != nil && *want.Warnings != (len(r.Warnings) > 0):
		return fmt.Sprintf("%d warnings", len(r.Warnings))
	case r.Patch != nil:
		return patchProblem(*r.Patch, *r.PatchType)
	}
	return ""
}

func patchProblem(patch, kind string) string {
	text, err := base64.StdEncoding.DecodeString(patch)
	var operations []struct {
		Op   string `json:"op"`
		Path string `json:"path"`
	}
	if err != nil || kind != "JSONPatch" || json.Unmarshal(text, &operations) != nil || len(operations) == 0 {
		return "the patch is no JSON patch"
	}
	return ""
}

func (k *known) matches(payload, uid []byte) bool {
	return len(payload) == len(k.before)+len(uid)+len(k.after) &&
		bytes.HasPrefix(payload, k.before) &&
		bytes.HasSuffix(payload, k.after) &&
		bytes.Equal(payload[len(k.before):len(k.before)+len(uid)], uid)
}

func (c *checker) remember(d *drawn, payload []byte, revision string) {
	before, after, found := bytes.Cut(payload, d.uid[:])
	if !found {
		return
	}
	entry := known{before: bytes.Clone(before), after: bytes.Clone(after), revision: revision}
	list := []known{entry}
	if old := c.known[d.body.index].Load(); old != nil {
		list = append(list, (*old)[:min(len(*old), maxKnown-1)]...)
	}
	c.known[d.body.index].Store(&list)
}

// revision checks that no answer of a newer policy had arrived before this request was sent.
func (c *checker) revision(revision string, sent, received time.Time) string {
	if !c.revisions {
		return ""
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	place, old := c.seen[revision]
	if !old {
		c.seen[revision] = len(c.since)
		c.since = append(c.since, received)
		return ""
	}
	if place+1 < len(c.since) && sent.After(c.since[place+1]) {
		c.stale++
		return fmt.Sprintf("an answer of policy %s, sent %v after policy number %d was live",
			revision, sent.Sub(c.since[place+1]), place+1)
	}
	return ""
}

func excerpt(payload []byte) string {
	const longest = 300
	return string(payload[:min(len(payload), longest)])
}
