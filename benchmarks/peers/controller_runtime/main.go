// Command controllerruntime is a webhook written with controller-runtime: it uses its server, its decoder to
// corev1.Pod, and its responses.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func main() {
	port := flag.Int("port", 8443, "the port on 127.0.0.1")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	approved := flag.String("approved", "", "file with one approved host a line")
	flag.Parse()

	log.SetLogger(zap.New())
	if err := serve(*port, *certificate, *key, *approved); err != nil {
		log.Log.Error(err, "cannot serve")
		os.Exit(1)
	}
}

func serve(port int, certificate, key, approved string) error {
	hosts, err := readHosts(approved)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{
		Host: "127.0.0.1",
		Port: port,
		// The two files may be in different directories, so both are given as paths below the root.
		CertDir:  "/",
		CertName: certificate,
		KeyName:  key,
	})
	server.Register("/validate-image", &webhook.Admission{
		Handler: &images{hosts: hosts, decoder: admission.NewDecoder(scheme)},
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return server.Start(ctx)
}

// images allows the Pods whose images all come from approved hosts.
type images struct {
	hosts   map[string]bool
	decoder admission.Decoder
}

func (h *images) Handle(_ context.Context, req admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := h.decoder.Decode(req, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	for i := range pod.Spec.InitContainers {
		if image := pod.Spec.InitContainers[i].Image; !h.approved(image) {
			return denied(image)
		}
	}
	for i := range pod.Spec.Containers {
		if image := pod.Spec.Containers[i].Image; !h.approved(image) {
			return denied(image)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if image := pod.Spec.EphemeralContainers[i].Image; !h.approved(image) {
			return denied(image)
		}
	}
	for i := range pod.Spec.Volumes {
		if volume := pod.Spec.Volumes[i].Image; volume != nil && !h.approved(volume.Reference) {
			return denied(volume.Reference)
		}
	}
	return admission.Allowed("")
}

func denied(image string) admission.Response {
	return admission.Denied(fmt.Sprintf("image %q is not from an approved registry", image))
}

func (h *images) approved(image string) bool {
	return h.hosts[host(image)]
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
