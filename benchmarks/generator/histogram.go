package main

import (
	"math/bits"
	"time"
)

// precisionBits: 128 buckets for each power of two, so a bucket is at most 1/128 wide for its value.
const precisionBits = 7

// histogram counts durations in buckets whose width is in proportion to their value.
// Percentiles are the middle of a bucket, hence within 0.4 %; mean and maximum are exact.
type histogram struct {
	counts []uint32
	count  uint64
	sum    time.Duration
	max    time.Duration
}

func (h *histogram) add(value time.Duration) {
	value = max(value, 0)
	at := bucket(value)
	if at >= len(h.counts) {
		grown := make([]uint32, at+1<<precisionBits)
		copy(grown, h.counts)
		h.counts = grown
	}
	h.counts[at]++
	h.count++
	h.sum += value
	h.max = max(h.max, value)
}

func bucket(value time.Duration) int {
	shift := max(bits.Len64(uint64(value))-precisionBits-1, 0)
	return shift<<precisionBits + int(uint64(value)>>shift)
}

// bounds returns the smallest value of a bucket and of the next bucket.
func bounds(at int) (time.Duration, time.Duration) {
	shift := max(at>>precisionBits-1, 0)
	low := at - shift<<precisionBits
	return time.Duration(low) << shift, time.Duration(low+1) << shift
}

// quantile returns the value that this share of all durations does not exceed.
func (h *histogram) quantile(share float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := max(uint64(share*float64(h.count)+0.999999), 1)
	seen := uint64(0)
	for at, count := range h.counts {
		if seen += uint64(count); seen >= rank {
			low, high := bounds(at)
			return min(low+(high-low)/2, h.max)
		}
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}

// buckets returns the buckets that are not empty, each with its upper bound in ms and its count.
func (h *histogram) buckets() [][2]float64 {
	listed := [][2]float64{}
	for at, count := range h.counts {
		if count > 0 {
			_, high := bounds(at)
			listed = append(listed, [2]float64{milliseconds(high), float64(count)})
		}
	}
	return listed
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
