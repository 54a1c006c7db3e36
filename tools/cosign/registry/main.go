// Command referrers is go-containerregistry's registry, which has the referrers API: referrers ADDRESS.
// It keeps everything in memory, and logs each request to standard error.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	handler := registry.New(registry.WithReferrersSupport(true))
	log.Fatal(http.ListenAndServe(os.Args[1], handler)) //nolint:gosec // only tests connect
}
