"""A long run under load and faults: ``python -m benchmarks.soak --seconds 1800 --out DIR``.

The Go generator sends reviews at a moderate rate to the real process with TLS from files, while faults occur
one after another: slow clients, half bodies, silent handshakes, garbage, policy reloads, certificate
rotations, a log that is not read. No answer may be wrong, no good request may fail, ``/livez`` must always
answer, and memory, files and threads must not grow. The report is JSON and Markdown; exit 1 means a failure.
"""
