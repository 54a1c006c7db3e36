// Command nethttp is a webhook that is tuned by hand: only the standard library, a struct with only the fields that
// the decision needs, reused buffers, and one write for each answer.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// As controller-runtime has it: an update carries two objects of up to 3 MiB.
const maxBody = 7 << 20

// Larger buffers are not reused, but left to the garbage collector.
const maxKept = 256 << 10

type review struct {
	Request *struct {
		UID    string `json:"uid"`
		Object struct {
			Spec struct {
				Containers          []container `json:"containers"`
				InitContainers      []container `json:"initContainers"`
				EphemeralContainers []container `json:"ephemeralContainers"`
				Volumes             []struct {
					Image *struct {
						Reference string `json:"reference"`
					} `json:"image"`
				} `json:"volumes"`
			} `json:"spec"`
		} `json:"object"`
	} `json:"request"`
}

type container struct {
	Image string `json:"image"`
}

func main() {
	port := flag.Int("port", 8443, "the port on 127.0.0.1")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	approved := flag.String("approved", "", "file with one approved host a line")
	flag.Parse()

	hosts, err := readHosts(*approved)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /validate-image", &handler{hosts: hosts})
	server := &http.Server{
		Addr:              "127.0.0.1:" + strconv.Itoa(*port),
		Handler:           mux,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       120 * time.Second, // longer than the 90 s that an API server keeps a connection
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	drained := make(chan struct{})
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
		close(drained)
	}()
	if err := server.ListenAndServeTLS(*certificate, *key); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-drained
}

type handler struct {
	hosts   map[string]bool
	buffers sync.Pool
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	buffer, _ := h.buffers.Get().(*bytes.Buffer)
	if buffer == nil {
		buffer = &bytes.Buffer{}
	}
	defer h.keep(buffer)
	buffer.Reset()
	if r.ContentLength > 0 && r.ContentLength <= maxBody {
		buffer.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		http.Error(w, "cannot read the body", http.StatusBadRequest)
		return
	}
	var asked review
	if err := json.Unmarshal(buffer.Bytes(), &asked); err != nil || asked.Request == nil {
		http.Error(w, "the body is no AdmissionReview", http.StatusBadRequest)
		return
	}
	rejected, found := h.rejected(&asked)
	// The decoded strings do not refer to the buffer, so it can hold the answer now.
	buffer.Reset()
	answer := appendAnswer(buffer.AvailableBuffer(), asked.Request.UID, rejected, !found)
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(answer))}
	_, _ = w.Write(answer)
}

var contentType = []string{"application/json"}

func (h *handler) keep(buffer *bytes.Buffer) {
	if buffer.Cap() <= maxKept {
		h.buffers.Put(buffer)
	}
}

// rejected returns the first image that is not from an approved host.
func (h *handler) rejected(asked *review) (string, bool) {
	spec := &asked.Request.Object.Spec
	for _, containers := range [...][]container{spec.InitContainers, spec.Containers, spec.EphemeralContainers} {
		for i := range containers {
			if !h.hosts[host(containers[i].Image)] {
				return containers[i].Image, true
			}
		}
	}
	for i := range spec.Volumes {
		if volume := spec.Volumes[i].Image; volume != nil && !h.hosts[host(volume.Reference)] {
			return volume.Reference, true
		}
	}
	return "", false
}

func appendAnswer(to []byte, uid, rejected string, allowed bool) []byte {
	to = append(to, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":`...)
	to = appendText(to, uid)
	if allowed {
		return append(to, `,"allowed":true}}`...)
	}
	to = append(to, `,"allowed":false,"status":{"code":403,"reason":"Forbidden","message":`...)
	to = appendText(to, "image "+strconv.Quote(rejected)+" is not from an approved registry")
	return append(to, `}}}`...)
}

// appendText appends a JSON string. It is fast for text that needs no escapes.
func appendText(to []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			escaped, err := json.Marshal(text)
			if err != nil {
				panic(err) // a string always has a JSON form
			}
			return append(to, escaped...)
		}
	}
	to = append(to, '"')
	to = append(to, text...)
	return append(to, '"')
}

// host returns the registry of an image. Short names belong to Docker Hub.
func host(image string) string {
	first, _, found := strings.Cut(image, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return strings.ToLower(first)
	}
	return "docker.io"
}

func readHosts(path string) (map[string]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	hosts := map[string]bool{}
	for _, line := range strings.Fields(string(text)) {
		hosts[line] = true
	}
	return hosts, nil
}
