// Pins a registry that has the referrers API, which distribution does not have.
module gatekeeper-py/tools/cosign/registry

go 1.26.0

require github.com/google/go-containerregistry v0.21.7
