package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
)

const (
	uidMarker   = "@UID@"
	imageMarker = "@IMAGE@"
	uidLength   = 36
)

// bodies makes request bodies, each with its own uid and images.
type bodies struct {
	list []*body

	mutex  sync.Mutex
	random *rand.Rand
	images *images // nil when no body names any
	total  float64
	free   [][]byte
}

// body is a file, split at its markers.
type body struct {
	index  int
	file   string
	weight float64
	expect expect
	size   int
	parts  []part
}

// part is some text and the marker that follows it.
type part struct {
	text   []byte
	marker string // empty after the last
}

// drawn is a complete body that can be sent.
type drawn struct {
	body  *body
	uid   [uidLength]byte
	bytes []byte
}

func readBodies(p *plan) (*bodies, error) {
	b := &bodies{random: rand.New(rand.NewPCG(p.Seed, p.Seed))}
	if p.Images != nil {
		b.images = newImages(*p.Images, b.random)
	}
	for index, each := range p.Bodies {
		content, err := os.ReadFile(each.File)
		if err != nil {
			return nil, err
		}
		parts := split(content)
		for _, piece := range parts {
			if piece.marker == imageMarker && b.images == nil {
				return nil, fmt.Errorf("%s wants images and the plan has none", each.File)
			}
		}
		b.total += each.Weight
		b.list = append(b.list, &body{
			index: index, file: each.File, weight: each.Weight, expect: each.Expect, size: len(content), parts: parts,
		})
	}
	if b.total <= 0 {
		return nil, errors.New("bad plan: the weights of the bodies are all zero")
	}
	return b, nil
}

// split cuts content at every marker.
func split(content []byte) []part {
	var parts []part
	for {
		uid, image := bytes.Index(content, []byte(uidMarker)), bytes.Index(content, []byte(imageMarker))
		at, marker := uid, uidMarker
		if uid < 0 || (image >= 0 && image < uid) {
			at, marker = image, imageMarker
		}
		if at < 0 {
			return append(parts, part{text: content})
		}
		parts = append(parts, part{text: content[:at], marker: marker})
		content = content[at+len(marker):]
	}
}

// draw makes the next body, from a file chosen at random.
func (b *bodies) draw() drawn {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	chosen := b.choose()
	d := drawn{body: chosen, bytes: b.buffer(chosen.size)}
	b.writeUID(&d.uid)
	for _, piece := range chosen.parts {
		d.bytes = append(d.bytes, piece.text...)
		switch piece.marker {
		case uidMarker:
			d.bytes = append(d.bytes, d.uid[:]...)
		case imageMarker:
			d.bytes = b.images.append(d.bytes)
		}
	}
	return d
}

// release allows the body's memory to be reused. The body must not be in the process of being sent.
func (b *bodies) release(d drawn) {
	b.mutex.Lock()
	b.free = append(b.free, d.bytes[:0])
	b.mutex.Unlock()
}

func (b *bodies) choose() *body {
	if len(b.list) == 1 {
		return b.list[0]
	}
	at := b.random.Float64() * b.total
	for _, each := range b.list {
		if at -= each.weight; at < 0 {
			return each
		}
	}
	return b.list[len(b.list)-1]
}

func (b *bodies) buffer(size int) []byte {
	const slack = 512 // images are longer than their markers
	if last := len(b.free) - 1; last >= 0 {
		buffer := b.free[last]
		b.free = b.free[:last]
		if cap(buffer) >= size {
			return buffer
		}
	}
	return make([]byte, 0, size+slack)
}

// writeUID writes a random UUID (version 4).
func (b *bodies) writeUID(to *[uidLength]byte) {
	var raw [16]byte
	high, low := b.random.Uint64(), b.random.Uint64()
	for i := range 8 {
		raw[i], raw[8+i] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	from := 0
	for i, width := range [...]int{4, 2, 2, 2, 6} {
		at := 2*from + i
		hex.Encode(to[at:at+2*width], raw[from:from+width])
		if from += width; from < 16 {
			to[at+2*width] = '-'
		}
	}
}
