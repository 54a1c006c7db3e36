# The decision as an Open Policy Agent policy. The server answers `POST /` with data.system.main, so the
# body is the input and this document the answer. The hosts are data: data.approved.hosts.
package system

main := {
	"apiVersion": "admission.k8s.io/v1",
	"kind": "AdmissionReview",
	"response": response,
}

response := {"uid": input.request.uid, "allowed": true} if count(rejected) == 0

response := {
	"uid": input.request.uid,
	"allowed": false,
	"status": {"code": 403, "reason": "Forbidden", "message": message},
} if {
	count(rejected) > 0
}

message := concat("; ", [sprintf("image %q is not from an approved registry", [image]) | some image in rejected])

rejected contains image if {
	some image in images
	not data.approved.hosts[host(image)]
}

spec := input.request.object.spec

images contains container.image if some container in spec.containers

images contains container.image if some container in spec.initContainers

images contains container.image if some container in spec.ephemeralContainers

images contains volume.image.reference if some volume in spec.volumes

# The registry of an image; a short name is Docker Hub's.
host(image) := lower(first) if {
	parts := split(image, "/")
	count(parts) > 1
	first := parts[0]
	names_host(first)
} else := "docker.io"

names_host("localhost")

names_host(first) if contains(first, ".")

names_host(first) if contains(first, ":")
