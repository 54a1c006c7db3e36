package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryValueIsWithinItsBucketWhichIsNarrow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		value := time.Duration(random.Uint64() >> (10 + random.IntN(50)))
		low, high := bounds(bucket(value))
		if value < low || value >= high {
			t.Fatalf("%d is not within [%d, %d)", value, low, high)
		}
		if width := high - low; width > 1 && float64(width) > float64(low)/128 {
			t.Fatalf("the bucket [%d, %d) is too wide", low, high)
		}
	}
}

func TestQuantilesAreWithinOnePercent(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var h histogram
	values := make([]time.Duration, 20000)
	for i := range values {
		values[i] = time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		h.add(values[i])
	}
	slices.Sort(values)
	for _, share := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := float64(values[max(int(share*float64(len(values)))-1, 0)])
		if got := float64(h.quantile(share)); got < want*0.99 || got > want*1.01 {
			t.Errorf("quantile %v is %v, not %v", share, got, want)
		}
	}
	if h.max != values[len(values)-1] {
		t.Errorf("max is %v", h.max)
	}
	total := 0.0
	for _, listed := range h.buckets() {
		total += listed[1]
	}
	if total != float64(len(values)) {
		t.Errorf("the buckets hold %v", total)
	}
}

func TestAnEmptyHistogramHasZeros(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 || h.mean() != 0 || len(h.buckets()) != 0 {
		t.Error(h)
	}
}
