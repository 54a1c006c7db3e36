package main

import (
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
)

// images chooses image names at random, weighted by popularity.
type images struct {
	before, after string // around the number
	numbered      bool
	count         int
	freshShare    float64
	fresh         int
	cumulative    []float64 // of the popularity of number 0, 1, …; nil when all are equal
	random        *rand.Rand
}

func newImages(p imagePlan, random *rand.Rand) *images {
	before, after, numbered := strings.Cut(p.Format, "%d")
	i := &images{
		before: before, after: after, numbered: numbered,
		count: p.Count, freshShare: p.FreshShare, fresh: p.Count, random: random,
	}
	if p.Zipf > 0 {
		i.cumulative = make([]float64, p.Count)
		sum := 0.0
		for number := range i.cumulative {
			sum += math.Pow(float64(number+1), -p.Zipf)
			i.cumulative[number] = sum
		}
	}
	return i
}

// append adds a name to text.
func (i *images) append(text []byte) []byte {
	text = append(text, i.before...)
	if i.numbered {
		text = strconv.AppendInt(text, int64(i.number()), 10)
	}
	return append(text, i.after...)
}

func (i *images) number() int {
	if i.freshShare > 0 && (i.freshShare >= 1 || i.random.Float64() < i.freshShare) {
		i.fresh++
		return i.fresh - 1
	}
	if i.cumulative == nil {
		return i.random.IntN(i.count)
	}
	at := i.random.Float64() * i.cumulative[i.count-1]
	// Find the first name whose cumulated popularity is greater. SearchFloat64s would also find an equal one.
	return min(sort.Search(i.count, func(n int) bool { return i.cumulative[n] > at }), i.count-1)
}
