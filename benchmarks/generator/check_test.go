package main

import (
	"strings"
	"testing"
	"time"
)

const uid = "01234567-89ab-4cde-8f01-23456789abcd"

func asked(t *testing.T, e expect) *drawn {
	t.Helper()
	d := &drawn{body: &body{expect: e}}
	copy(d.uid[:], uid)
	return d
}

func TestAnswersAreJudged(t *testing.T) {
	yes, no := true, false
	good := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"` + uid + `","allowed":true}}`
	patched := strings.Replace(good, "true", `true,"patchType":"JSONPatch","patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d"`, 1)
	for _, row := range []struct {
		name    string
		expect  expect
		status  int
		payload string
		wrong   string
	}{
		{"right", expect{Allowed: &yes, Patch: &no, Warnings: &no}, 200, good, ""},
		{"other verdict", expect{Allowed: &no}, 200, good, "allowed is true"},
		{"other status", expect{}, 500, good, "status 500"},
		{"other uid", expect{}, 200, strings.Replace(good, uid, "x", 1), "uid x"},
		{"other kind", expect{}, 200, strings.Replace(good, "AdmissionReview", "Pod", 1), "a Pod"},
		{"no response", expect{}, 200, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, "no response"},
		{"no verdict", expect{}, 200, strings.Replace(good, `,"allowed":true`, "", 1), "neither"},
		{"no JSON", expect{}, 200, good[:40], "not JSON"},
		{"no warnings", expect{Warnings: &yes}, 200, good, "0 warnings"},
		{"no patch", expect{Patch: &yes}, 200, good, "with a patch: false"},
		{"a patch", expect{Patch: &yes}, 200, patched, ""},
		{"an unwanted patch", expect{Patch: &no}, 200, patched, "with a patch: true"},
		{"a patch without type", expect{}, 200, strings.Replace(good, "true", `true,"patch":"W10="`, 1), "together"},
		{"an empty patch", expect{}, 200, strings.Replace(good, "true", `true,"patchType":"JSONPatch","patch":"W10="`, 1), "no JSON patch"},
		{"an expected 404", expect{Status: new(int)}, 404, "", "status 404, not 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newChecker(&plan{}, 1)
			got := c.check(asked(t, row.expect), row.status, []byte(row.payload), time.Time{}, time.Time{})
			if (row.wrong == "") != (got == "") || !strings.Contains(got, row.wrong) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestARememberedAnswerMustHaveTheRightUID(t *testing.T) {
	c := newChecker(&plan{}, 1)
	good := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"` + uid + `","allowed":true}}`)
	d := asked(t, expect{})
	for range 2 { // decoded, then compared
		if got := c.check(d, 200, good, time.Time{}, time.Time{}); got != "" {
			t.Fatal(got)
		}
	}
	d.uid[0] = 'f'
	if got := c.check(d, 200, good, time.Time{}, time.Time{}); !strings.Contains(got, "uid") {
		t.Errorf("%q", got)
	}
}

func TestAnAnswerOfASupersededPolicyIsWrong(t *testing.T) {
	c := newChecker(&plan{CheckRevisions: true}, 1)
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, row := range []struct {
		revision       string
		sent, received int
		stale          bool
	}{
		{"a", 1, 2, false},
		{"b", 3, 4, false},  // b is live from 4 on
		{"a", 3, 5, false},  // sent before
		{"a", 6, 7, true},   // sent after
		{"b", 6, 8, false},  //
		{"c", 9, 10, false}, //
		{"a", 11, 12, true},
	} {
		if got := c.revision(row.revision, at(row.sent), at(row.received)); (got != "") != row.stale {
			t.Errorf("%v: %q", row, got)
		}
	}
	if c.stale != 2 {
		t.Errorf("%d stale", c.stale)
	}
}
