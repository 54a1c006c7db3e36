"""Verification of signatures that cosign made with a key: pure functions on bytes, without I/O.

Source: the Sigstore bundle format 0.3, DSSE 1.0, the in-toto Statement 1, cosign's specification of
signatures, and the OCI image specification 1.1. docs/signatures.md lists where cosign accepts what these
functions refuse, and the reverse.
"""
