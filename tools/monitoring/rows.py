"""The rows of the dashboard, one for each subject.

Every metric here is compared with what a real server and controller expose, and every query runs on a real
Prometheus: see tests/monitoring and tests/prometheus.
"""

from __future__ import annotations

from typing import Final

from tools.monitoring.panels import GREEN, RED, YELLOW, Graph, Query, Row, Stat

HERE: Final = 'namespace=~"$namespace"'
"""Selects the series of our own Pods."""

WEBHOOKS: Final = r'name=~".+\\.gatekeeper-py"'
"""Selects our webhooks in the metrics of the API server."""

RATE: Final = "[$__rate_interval]"

DAY: Final = 86_400


def _rate(metric: str, by: str, where: str = "") -> str:
    selector = f"{HERE},{where}" if where else HERE
    return f"sum by ({by}) (rate(gatekeeper_py_{metric}{{{selector}}}{RATE}))"


def _increase(metric: str, by: str) -> str:
    return f"sum by ({by}) (increase(gatekeeper_py_{metric}{{{HERE}}}{RATE}))"


def _quantile(quantile: float, metric: str, by: str, selector: str) -> str:
    return f"histogram_quantile({quantile}, sum by (le, {by}) (rate({metric}_bucket{{{selector}}}{RATE})))"


def _max(metric: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"max{grouping} (gatekeeper_py_{metric}{{{HERE}}})"


def _min(metric: str, where: str = "") -> str:
    selector = f"{HERE},{where}" if where else HERE
    return f"min(gatekeeper_py_{metric}{{{selector}}})"


YES_NO: Final = {1: ("yes", GREEN), 0: ("no", RED)}

OVERVIEW: Final = Row(
    title="Overview",
    panels=[
        Stat(
            title="Enforced",
            description="Whether the last probes proved that API servers refuse a rejected image.",
            query=Query(_max("control_enforced")),
            texts=YES_NO,
            width=3,
        ),
        Stat(
            title="Last proof",
            description="Time since the last proof that API servers enforce the policy.",
            query=Query(f"time() - {_max('control_last_enforced_timestamp_seconds')}"),
            steps=[(GREEN, None), (YELLOW, 120), (RED, 300)],
            unit="s",
            width=3,
        ),
        Stat(
            title="Armed",
            description="Whether the webhook configurations exist. Without them every image is admitted.",
            query=Query(_max("control_armed")),
            texts=YES_NO,
            width=3,
        ),
        Stat(
            title="Mode",
            description="The mode of the policy in use. More than one: replicas disagree.",
            query=Query(f"count by (mode) (gatekeeper_py_policy_info{{{HERE}}})", "{{mode}}"),
            label=True,
            width=3,
        ),
        Stat(
            title="Replicas scraped",
            description="Servers from which Prometheus gets metrics.",
            query=Query(f"count(gatekeeper_py_policy_present{{{HERE}}})"),
            steps=[(RED, None), (YELLOW, 1), (GREEN, 2)],
            width=3,
        ),
        Stat(
            title="Pause ends in",
            description="During a pause every image is admitted. Not positive: there is no pause.",
            query=Query(f"{_max('control_paused_until_timestamp_seconds')} - time() > 0 or vector(0)"),
            steps=[(GREEN, None), (YELLOW, 1)],
            unit="s",
            width=3,
        ),
        Stat(
            title="Policy confirmed",
            description="Longest time since a replica last confirmed that it has the newest policy.",
            query=Query(f"time() - {_min('policy_synced_timestamp_seconds')}"),
            steps=[(GREEN, None), (YELLOW, 120), (RED, 300)],
            unit="s",
            width=3,
        ),
        Stat(
            title="Certificate expires in",
            description="The controller renews the certificate 30 days before it expires.",
            query=Query(f"{_min('certificate_not_after_timestamp_seconds')} - time()"),
            steps=[(RED, None), (YELLOW, 3 * DAY), (GREEN, 20 * DAY)],
            unit="s",
            width=3,
        ),
    ],
)

REVIEWS: Final = Row(
    title="Reviews",
    panels=[
        Graph(
            title="Verdicts",
            description="Reviews per second, by verdict. Pre-approved Pods on the fast path are not counted.",
            queries=[Query(_rate("reviews_total", "verdict", 'endpoint!="policy"'), "{{verdict}}")],
            unit="reqps",
            stacked=True,
        ),
        Graph(
            title="Verdicts by mode and endpoint",
            description="In warn mode nothing is denied; in mutate mode the mutating endpoint rewrites.",
            queries=[
                Query(_rate("reviews_total", "endpoint, mode, verdict"), "{{endpoint}} {{mode}} {{verdict}}")
            ],
            unit="reqps",
        ),
        Graph(
            title="Duration of a review",
            description="From reading the body to encoding the answer. API servers give up after 5 seconds.",
            queries=[
                Query(
                    _quantile(q, "gatekeeper_py_review_duration_seconds", "endpoint", HERE),
                    f"{{{{endpoint}}}} p{round(q * 100)}",
                )
                for q in (0.5, 0.99)
            ],
            unit="s",
        ),
        Graph(
            title="Rejected images by reason",
            description="denied: a deny rule; unlisted: no rule; invalid: not an image; absent: not in the"
            " registry; unverified: the registry could not be queried.",
            queries=[Query(_rate("images_total", "reason", 'verdict="rejected"'), "{{reason}}")],
            unit="cps",
            stacked=True,
        ),
        Graph(
            title="Rewritten images by mirror",
            description="The number is the mirror's position in the policy, from 0.",
            queries=[Query(_rate("rewrites_total", "mirror"), "mirror {{mirror}}")],
            unit="cps",
        ),
        Graph(
            title="Reviews without a judgement",
            description="Reviews that were allowed without judging an image, by reason.",
            queries=[Query(_rate("exemptions_total", "reason"), "{{reason}}")],
            unit="reqps",
        ),
    ],
)

POLICY: Final = Row(
    title="Policy",
    panels=[
        Graph(
            title="Replicas by revision",
            description="More than one revision for longer than a moment: replicas disagree.",
            queries=[
                Query(
                    f"count by (revision, mode, source) (gatekeeper_py_policy_info{{{HERE}}})",
                    "{{revision}} {{mode}} ({{source}})",
                )
            ],
        ),
        Graph(
            title="Documents received",
            description="A refused document leaves the last good policy in use.",
            queries=[
                Query(
                    _increase("policy_reloads_total", "result"),
                    "{{result}}",
                )
            ],
        ),
        Graph(
            title="Policy checks",
            description="Reviews of changes to the policy itself. failed: the check could not be completed.",
            queries=[
                Query(
                    _increase("policy_checks_total", "result"),
                    "{{result}}",
                )
            ],
        ),
        Graph(
            title="Rules in use",
            description="Entries of the policy, by kind.",
            queries=[Query(_max("policy_rules", "kind"), "{{kind}}")],
        ),
        Graph(
            title="Age of the policy",
            description="Time since each replica last loaded a policy.",
            queries=[
                Query(
                    f"time() - ({_max('policy_last_success_timestamp_seconds', 'pod')} > 0)",
                    "{{pod}}",
                )
            ],
            unit="s",
        ),
        Graph(
            title="Policy present",
            description="1 if the source holds a document. At 0 a restarted replica cannot become ready.",
            queries=[Query(_max("policy_present", "pod"), "{{pod}}")],
        ),
    ],
)

SERVERS: Final = Row(
    title="Servers",
    panels=[
        Graph(
            title="HTTP errors by status",
            description="503: overload, or no policy yet. 500: a bug; the log has a traceback.",
            queries=[Query(_rate("http_errors_total", "code"), "{{code}}")],
            unit="reqps",
        ),
        Graph(
            title="Cache hits",
            description="Share of the decisions that came from the cache.",
            queries=[
                Query(
                    f"sum(rate(gatekeeper_py_cache_hits_total{{{HERE}}}{RATE})) / "
                    f"(sum(rate(gatekeeper_py_cache_hits_total{{{HERE}}}{RATE})) + "
                    f"sum(rate(gatekeeper_py_cache_misses_total{{{HERE}}}{RATE})))",
                    "hits",
                )
            ],
            unit="percentunit",
        ),
        Graph(
            title="Decisions in the cache",
            description="A new policy empties the cache.",
            queries=[Query(_max("cache_entries", "pod"), "{{pod}}")],
        ),
        Graph(
            title="Connections and reviews in progress",
            description="At most 500 connections by default. When all are in use, idle ones are closed.",
            queries=[
                Query(_max("connections", "pod"), "{{pod}} connections"),
                Query(_max("inflight_reviews", "pod"), "{{pod}} reviews"),
            ],
        ),
        Graph(
            title="Connections closed because all were in use",
            description="Evicted connections, by the reason for the choice of the connection.",
            queries=[Query(_rate("connections_evicted_total", "why"), "{{why}}")],
            unit="cps",
        ),
        Graph(
            title="Delay of the event loop",
            description="Delay with which the event loop runs a timer. Every request waits as long.",
            queries=[Query(_max("event_loop_lag_seconds", "pod"), "{{pod}}")],
            unit="s",
        ),
        Graph(
            title="Memory",
            description="Resident memory of servers and controller.",
            queries=[
                Query(
                    f"max by (pod) (process_resident_memory_bytes{{{HERE}}} and on (pod, instance)"
                    " gatekeeper_py_event_loop_lag_seconds)",
                    "{{pod}}",
                )
            ],
            unit="bytes",
        ),
        Graph(
            title="CPU",
            description="Cores in use, by Pod.",
            queries=[
                Query(
                    f"sum by (pod) (rate(process_cpu_seconds_total{{{HERE}}}{RATE}) and on (pod, instance)"
                    " gatekeeper_py_event_loop_lag_seconds)",
                    "{{pod}}",
                )
            ],
        ),
        Graph(
            title="Log lines dropped",
            description="Lines lost because nothing read them fast enough.",
            queries=[Query(_rate("log_lines_dropped_total", "pod"), "{{pod}}")],
            unit="cps",
        ),
    ],
)

CONTROLLER: Final = Row(
    title="Controller and certificates",
    panels=[
        Graph(
            title="Passes",
            description="A pass runs after every change, and each minute.",
            queries=[
                Query(
                    _increase("control_reconciles_total", "result"),
                    "{{result}}",
                ),
            ],
        ),
        Graph(
            title="Alarms",
            description="1 while something needs attention; the controller's log has the reason.",
            queries=[Query(_max("control_alarm", "what"), "{{what}}")],
        ),
        Graph(
            title="API servers that enforce",
            description="API servers in the last round. not_enforced: an answer that proves nothing.",
            queries=[Query(_max("control_api_servers", "outcome"), "{{outcome}}")],
        ),
        Graph(
            title="Tampering",
            description="Edits of the webhook configurations by somebody else, by kind.",
            queries=[Query(_increase("control_tampering_total", "what"), "{{what}}")],
        ),
        Graph(
            title="Repairs",
            description="Webhook configurations that somebody else changed or deleted.",
            queries=[
                Query(
                    _increase("control_repairs_total", "configuration"),
                    "{{configuration}}",
                ),
            ],
        ),
        Graph(
            title="Time until certificates expire",
            description="Certificates that the replicas serve, and the certificate in the Secret.",
            queries=[
                Query(f"{_max('certificate_not_after_timestamp_seconds', 'pod')} - time()", "{{pod}}"),
            ],
            unit="s",
        ),
        Graph(
            title="Certificate steps",
            description="One rotation is prepare, promote, retire.",
            queries=[
                Query(
                    _increase("control_certificate_steps_total", "step"),
                    "{{step}}",
                ),
            ],
        ),
        Graph(
            title="Replicas, mutation, pauses",
            description="Replicas behind the Service; whether the mutating webhook is active; pauses; terms"
            " of selectors that a managed platform added.",
            queries=[
                Query(_max("control_replicas"), "replicas"),
                Query(_max("control_mutation_active"), "mutation active"),
                Query(
                    f"sum(increase(gatekeeper_py_control_pauses_total{{{HERE}}}{RATE}))", "pauses that began"
                ),
                Query(_max("control_tolerated_selector_terms"), "tolerated selector terms"),
            ],
        ),
    ],
)

FAST_PATH: Final = Row(
    title="Fast path",
    panels=[
        Graph(
            title="In step",
            description="1 while the match conditions are those of the policy. Empty without the fast path.",
            queries=[Query(_max("fastpath_in_step"), "in step")],
            width=6,
        ),
        Graph(
            title="Rules on the fast path",
            description="Allow rules that API servers handle without calling the webhook.",
            queries=[Query(_max("fastpath_rules", "endpoint"), "{{endpoint}}")],
            width=6,
        ),
        Graph(
            title="Time to follow a change",
            description="Time from a change of the policy until the match conditions are in step with it.",
            queries=[
                Query(
                    _quantile(0.99, "gatekeeper_py_fastpath_sync_seconds", "change", HERE), "{{change}} p99"
                )
            ],
            unit="s",
            width=6,
        ),
        Graph(
            title="Writes of match conditions",
            description="refused: the API server did not accept an expression.",
            queries=[
                Query(
                    _increase("fastpath_writes_total", "result"),
                    "{{result}}",
                )
            ],
            width=6,
        ),
    ],
)

LOOK_UPS: Final = Row(
    title="Look-ups in registries",
    panels=[
        Graph(
            title="Look-ups by result",
            description="stale: an answer from an old fact, because the registry could not be queried.",
            queries=[Query(_rate("lookups_total", "host, result"), "{{host}} {{result}}")],
            unit="reqps",
            width=6,
        ),
        Graph(
            title="Duration of a look-up",
            description="Time until registries answered.",
            queries=[
                Query(_quantile(0.99, "gatekeeper_py_lookup_duration_seconds", "host", HERE), "{{host}} p99")
            ],
            unit="s",
            width=6,
        ),
        Graph(
            title="Refused over a share",
            description="Look-ups and reviews that were refused because their namespace used its share.",
            queries=[Query(_rate("lookups_over_share_total", "limit"), "{{limit}}")],
            unit="reqps",
            width=6,
        ),
        Graph(
            title="Registries that are not queried",
            description="1 while a registry is not queried because it failed. Configuration: 0 while the"
            " newest files in --registry-config cannot be used.",
            queries=[
                Query(_max("lookup_breaker_open", "host"), "{{host}}"),
                Query(_min("registry_config_valid"), "configuration valid"),
            ],
            width=6,
        ),
        Graph(
            title="Child processes",
            description="Deaths by process and cause, and the number of processes that run. The parser ends"
            " 30 s after it has parsed a policy. The registry process runs while the policy has look-ups.",
            queries=[
                Query(_increase("child_deaths_total", "child, cause"), "{{child}} died: {{cause}}"),
                Query(f"sum by (child) (gatekeeper_py_child_runs{{{HERE}}})", "{{child}} runs"),
            ],
        ),
    ],
)


def _apiserver(metric: str, by: str, where: str = "") -> str:
    selector = f"{WEBHOOKS},{where}" if where else WEBHOOKS
    return f"sum by ({by}) (rate(apiserver_admission_webhook_{metric}{{{selector}}}{RATE}))"


API_SERVER: Final = Row(
    title="As API servers see it",
    panels=[
        Graph(
            title="Calls",
            description="Calls of the webhooks, by HTTP status of the answer.",
            queries=[Query(_apiserver("request_total", "name, code"), "{{name}} {{code}}")],
            unit="reqps",
            width=6,
        ),
        Graph(
            title="Duration of a call",
            description="Time that the webhooks add to a request, including the network.",
            queries=[
                Query(
                    _quantile(
                        0.99, "apiserver_admission_webhook_admission_duration_seconds", "name", WEBHOOKS
                    ),
                    "{{name}} p99",
                )
            ],
            unit="s",
            width=6,
        ),
        Graph(
            title="Rejections by cause",
            description="no_error: the webhook refused. calling_webhook_error: no answer, and the failure"
            " policy is Fail, so the request was refused.",
            queries=[Query(_apiserver("rejection_count", "name, error_type"), "{{name}} {{error_type}}")],
            unit="reqps",
            width=6,
        ),
        Graph(
            title="Admitted without an answer",
            description="No answer, and the failure policy is Ignore, so the request was admitted.",
            queries=[Query(_apiserver("fail_open_count", "name"), "{{name}}")],
            unit="reqps",
            width=6,
        ),
    ],
)

ROWS: Final = (OVERVIEW, REVIEWS, POLICY, SERVERS, CONTROLLER, FAST_PATH, LOOK_UPS, API_SERVER)
