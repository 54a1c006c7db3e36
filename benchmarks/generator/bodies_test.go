package main

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func planOf(t *testing.T, images *imagePlan, contents ...string) *plan {
	t.Helper()
	p := &plan{Seed: 7, Images: images}
	for i, content := range contents {
		file := filepath.Join(t.TempDir(), string(rune('a'+i)))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Bodies = append(p.Bodies, bodyPlan{File: file, Weight: 1})
	}
	return p
}

func TestSplitKeepsEverythingButTheMarkers(t *testing.T) {
	for _, text := range []string{"", "plain", "@UID@", "a@IMAGE@b@UID@@IMAGE@", "@UID", "@@UID@@"} {
		joined := ""
		for _, piece := range split([]byte(text)) {
			joined += string(piece.text) + piece.marker
		}
		if joined != text {
			t.Errorf("%q became %q", text, joined)
		}
	}
}

func TestEachDrawHasANewUIDAndImages(t *testing.T) {
	images := &imagePlan{Count: 10, FreshShare: 1, Format: "r.example/a-%d:1"}
	b, err := readBodies(planOf(t, images, `{"uid":"@UID@","images":["@IMAGE@","@IMAGE@"]}`))
	if err != nil {
		t.Fatal(err)
	}
	first, second := b.draw(), b.draw()
	want := regexp.MustCompile(
		`^\{"uid":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",` +
			`"images":\["r.example/a-10:1","r.example/a-11:1"\]\}$`)
	if !want.Match(first.bytes) || first.uid == second.uid || !strings.Contains(string(second.bytes), "a-12:1") {
		t.Errorf("%s\n%s", first.bytes, second.bytes)
	}
	if !strings.Contains(string(first.bytes), string(first.uid[:])) {
		t.Errorf("%s does not hold %s", first.bytes, first.uid)
	}
}

func TestBodiesAreDrawnByWeight(t *testing.T) {
	p := planOf(t, nil, "a", "b")
	p.Bodies[0].Weight, p.Bodies[1].Weight = 9, 1
	b, err := readBodies(p)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for range 10000 {
		if string(b.draw().bytes) == "b" {
			count++
		}
	}
	if count < 850 || count > 1150 {
		t.Errorf("%d of 10000", count)
	}
}

func TestABodyThatWantsImagesNeedsThemInThePlan(t *testing.T) {
	if _, err := readBodies(planOf(t, nil, "@IMAGE@")); err == nil {
		t.Error("it was accepted")
	}
}

func TestPopularityFollowsZipf(t *testing.T) {
	const draws, count, exponent = 200000, 1000, 1.1
	i := newImages(imagePlan{Count: count, Zipf: exponent}, rand.New(rand.NewPCG(5, 6)))
	sum := 0.0
	for n := range count {
		sum += math.Pow(float64(n+1), -exponent)
	}
	seen := make([]int, count)
	for range draws {
		seen[i.number()]++
	}
	for _, n := range []int{0, 1, 9, 99} {
		want := draws * math.Pow(float64(n+1), -exponent) / sum
		if got := float64(seen[n]); math.Abs(got-want) > 6*math.Sqrt(want) {
			t.Errorf("number %d came %v times, not %v", n, got, want)
		}
	}
}

func TestTheShareOfNewImagesIsAsPlanned(t *testing.T) {
	i := newImages(imagePlan{Count: 5, FreshShare: 0.25}, rand.New(rand.NewPCG(7, 8)))
	fresh, last := 0, 4
	for range 10000 {
		if n := i.number(); n > last {
			if n != last+1 {
				t.Fatalf("%d after %d", n, last)
			}
			fresh, last = fresh+1, n
		}
	}
	if fresh < 2200 || fresh > 2800 {
		t.Errorf("%d of 10000", fresh)
	}
}
