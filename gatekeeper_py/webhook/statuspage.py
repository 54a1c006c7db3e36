"""Show the policy and the decisions of this replica: ``/policy`` as JSON, and ``/`` as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Protocol

import orjson

from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import MORE_FINDINGS, Finding
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.rules import RuleSet
from gatekeeper_py.http.page.charts import Part, columns, legend, share_bar
from gatekeeper_py.http.page.document import Html, Section, document, figures, join, table, tag, text
from gatekeeper_py.live.exceptions.keeper import ExceptionsKeeper
from gatekeeper_py.live.reload import Reloader
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.denials import Denial, Denials
from gatekeeper_py.webhook.metrics import DURATION_BUCKETS, ENDPOINTS, Endpoint, Metrics

SHOWN: Final = 10
"""Denials that are shown at once; the rest opens with a click."""

MAX_RULES: Final = 100
"""Maximum number of rules that are shown of each list."""

MAX_REFUSED: Final = 20
"""Maximum number of invalid documents with exceptions that are shown."""

MAX_MESSAGE: Final = 300
"""Maximum number of characters that are shown of the first problem of such a document."""

MAX_FINDINGS_BYTES: Final = 100 * 1024
"""Maximum size as JSON of the live policy's findings, and of a refused policy's findings. A character may
take six bytes. So the content of ``/policy`` has at most 256 KiB (docs/interface.md, "HTTP")."""

VERDICTS: Final = {"allowed": "good", "denied": "bad", "warned": "change", "mutated": "mute"}

ENDPOINT_NAMES: Final[dict[Endpoint, str]] = {
    "validate": "Validating reviews",
    "mutate": "Mutating reviews",
    "policy": "Reviews of the policy",
}


def describe_policy(
    reloader: Reloader, live: LivePolicy, keeper: ExceptionsKeeper, describe_registries: Callable[[], Any]
) -> dict[str, Any]:
    """Return the content of ``/policy``: the live policy, and the last delivery if it was refused."""
    loaded, refused, snapshot = reloader.loaded, reloader.refused, live.snapshot
    mode: str | None = None
    counts: dict[str, int] = {}
    if snapshot is not None:
        compiled = snapshot
        mode = compiled.policy.mode.name
        counts = {
            "allow": len(compiled.allow),
            "deny": len(compiled.deny),
            "namespaces": len(compiled.overrides),
            "mirrors": len(compiled.mirrors),
            "resources": len(compiled.policy.document.resources),
        }
    return {
        "mode": mode,
        "revision": None if snapshot is None else snapshot.revision,
        "source": reloader.source_name,
        "resourceVersion": None if loaded is None else loaded.resource_version,
        "loadedAt": None if loaded is None else format_instant(loaded.at),
        "counts": counts,
        # Only a policy that looks up images uses registries.
        **({} if snapshot is None or not snapshot.looks_up else {"registries": describe_registries()}),
        # Only a policy with grants uses exceptions.
        **({} if snapshot is None or not snapshot.grants else {"exceptions": _exceptions(keeper)}),
        "findings": [] if loaded is None else _shown(loaded.findings),
        "refused": None
        if refused is None
        else {"at": format_instant(refused.at), "findings": _shown(refused.findings)},
    }


def _exceptions(keeper: ExceptionsKeeper) -> dict[str, Any]:
    """Return the number of live exceptions by source, their ends, and the documents that are invalid."""
    refused = [
        {
            "source": key.source,
            "namespace": key.namespace,
            "line": findings[0].line,
            "code": findings[0].code,
            "message": escape(findings[0].message, MAX_MESSAGE),
        }
        for key, findings in islice(keeper.refused(), MAX_REFUSED)
    ]
    entries = keeper.entries
    return {
        "live": {source: entries.counts[source, "live"] for source in SOURCES},
        "nextEnd": None if entries.next_end is None else format_instant(entries.next_end),
        **entries.ends,
        "unreadable": sorted(keeper.unread),
        "invalid": sum(entries.counts[source, "invalid"] for source in SOURCES),
        "refused": refused,
    }


def _shown(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON values, as many as fit into ``MAX_FINDINGS_BYTES``."""
    shown: list[dict[str, Any]] = []
    size, left_out = 0, 0
    for finding in findings:
        entry = finding.as_json()
        size += len(orjson.dumps(entry))
        if size <= MAX_FINDINGS_BYTES:
            shown.append(entry)
        else:
            left_out += 1
    if left_out:
        message = f"{left_out} more findings are too long to be shown here"
        severity = shown[-1]["severity"]
        more = Finding(severity=severity, code=MORE_FINDINGS, path="", line=1, message=message)
        shown.append(more.as_json())
    return shown


class Certificates(Protocol):
    """The certificate in use."""

    @property
    def problem(self) -> str: ...

    @property
    def files_problem(self) -> str: ...

    def summary(self) -> tuple[datetime, tuple[str, ...]] | None: ...


@dataclass(slots=True, kw_only=True)
class StatusPage:
    """Renders the page.

    ``describe`` returns what ``/policy`` shows; ``ready`` are the checks of ``/readyz``.
    """

    describe: Callable[[], Mapping[str, Any]]
    live: LivePolicy
    ready: Mapping[str, Callable[[], str]]
    certificates: Certificates
    counts: Metrics
    denials: Denials
    version: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    started: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.now()

    def render(self) -> str:
        policy = self.describe()
        sections = [
            Section("status", "Status", self._status(policy)),
            Section("reviews", "Reviews since the start", self._reviews(), "Reviews"),
            Section("policy", "Policy", self._policy(policy)),
            Section("denials", "Last denials", self._last_denials(), "Denials"),
        ]
        now = format_instant(self.now())
        lead = tag("p", f"One replica, as of {now}. Reload the page for newer values.", class_="lead")
        footer = tag(
            "p",
            f"gatekeeper-py {self.version}, started {format_instant(self.started)}. ",
            "Other pages: ",
            join((tag("code", path) for path in ("/readyz", "/livez", "/metrics", "/policy")), ", "),
            ".",
        )
        return document(title="gatekeeper-py", lead=lead, sections=sections, footer=footer)

    def _status(self, policy: Mapping[str, Any]) -> Html:
        problems = {name: problem for name, check in self.ready.items() if (problem := check())}
        refused = policy["refused"]
        verdict = "Not ready" if problems else "Ready, but a newer policy was refused" if refused else "Ready"
        style = "bad" if problems or refused else "good"
        summary = self.certificates.summary()
        expires = "none" if summary is None else f"{summary[0]:%Y-%m-%d}"
        notes = [tag("p", f"{name}: ", text(problem), class_="note") for name, problem in problems.items()]
        unusable = self.certificates.files_problem
        if unusable and summary is not None and "certificate" not in problems:
            note = (
                "The newest certificate files cannot be used, so the certificate before them stays in use: "
            )
            notes.append(tag("p", note, text(unusable), class_="note"))
        notes += [tag("p", warning, class_="note") for warning in self._not_refused()]
        names = "" if summary is None else ", ".join(summary[1][:10])
        return join(
            (
                tag("p", verdict, class_=f"verdict {style}"),
                *notes,
                figures(
                    (
                        (str(policy["mode"] or "none"), "mode", "text"),
                        (str(policy["revision"] or "none"), "policy revision", "text"),
                        (f"{policy['counts'].get('allow', 0):,}", "allow rules", ""),
                        (f"{policy['counts'].get('deny', 0):,}", "deny rules", ""),
                        (expires, "certificate expires", "text"),
                    )
                ),
                tag("p", "Certificate for ", tag("code", text(names)), ".") if names else Html(""),
            )
        )

    def _not_refused(self) -> Iterator[str]:
        """Yield where images that are not approved only cause warnings."""
        if self.live.snapshot is None:
            return
        compiled = self.live.snapshot
        mode = compiled.policy.mode
        lenient = next((each.mode for each in compiled.overrides if not each.mode.refuses), None)
        if not mode.refuses:
            what = "only cause" if mode.warns else "do not even cause"
            yield f"The mode {mode} refuses nothing: images that are not approved {what} warnings."
        elif lenient is not None:
            yield f"An override sets the mode {lenient}: in its namespaces, nothing is refused."

    def _reviews(self) -> Html:
        verdicts = self.counts.verdicts()
        parts = [Part(name, verdicts.get(name, 0), style) for name, style in VERDICTS.items()]
        total = sum(part.amount for part in parts)
        spoken = ", ".join(f"{part.amount} {part.name}" for part in parts)
        charts = [
            _latency(ENDPOINT_NAMES[endpoint], counts)
            for endpoint in ENDPOINTS
            if sum(counts := self.counts.durations(endpoint))
        ]
        bar = tag("div", share_bar(parts, total, label=f"Reviews: {spoken}"), legend(parts), class_="big")
        return join((bar, *(charts or [tag("p", "No review has arrived yet.", class_="more")])))

    def _policy(self, policy: Mapping[str, Any]) -> Html:
        source = [tag("p", "Source ", tag("code", text(str(policy["source"]))), *_loaded(policy), ".")]
        exceptions = policy.get("exceptions")
        if exceptions is not None:
            source += _exceptions_shown(exceptions)
        refused = policy["refused"]
        if refused is not None:
            source += [
                tag("h3", f"Refused on {refused['at']}"),
                tag("p", "The last good policy stays in use.", class_="note"),
                _findings(refused["findings"]),
            ]
        if policy["findings"]:
            source += [tag("h3", "Findings about the policy in use"), _findings(policy["findings"])]
        snapshot = self.live.snapshot
        if snapshot is not None:
            source += [
                _rules("Allow", snapshot.allow),
                _rules("Deny", snapshot.deny),
            ]
        return join(source)

    def _last_denials(self) -> Html:
        shown = list(self.denials)
        if not shown:
            return tag("p", "No request has been denied yet.")
        headings = ["Time", "Kind", "Operation", "Rejected images"]
        if self.denials.with_details:
            headings += ["Object", "User", "Images"]
        note = (
            Html("")
            if self.denials.with_details
            else tag(
                "p",
                "Images, namespaces and users are in the log. Start the server with --status-details to show "
                "them here, too.",
            )
        )
        rows = list(map(_denial, shown))
        newest = table(headings, rows[:SHOWN], caption="Last denials, the newest first")
        if len(rows) <= SHOWN:
            return join((note, newest))
        older = table(headings, rows[SHOWN:], caption="Older denials")
        more = tag("details", tag("summary", f"{len(rows) - SHOWN} older"), older, class_="more")
        return join((note, newest, more))


def _exceptions_shown(exceptions: Mapping[str, Any]) -> list[Html]:
    live = ", ".join(f"{count:,} {source}" for source, count in exceptions["live"].items())
    end = "" if exceptions["nextEnd"] is None else f"; the next expires {exceptions['nextEnd']}"
    shown = [tag("p", f"Live exceptions by source: {live}{end}.")]
    if exceptions["unreadable"]:
        sources = ", ".join(exceptions["unreadable"])
        note = f"This replica has no right to read exceptions with the source {sources}."
        shown.append(tag("p", note, class_="note"))
    if exceptions["invalid"]:
        note = f"Invalid ConfigMaps with exceptions, which approve nothing: {exceptions['invalid']:,}."
        shown.append(tag("p", note, class_="note"))
        shown += [
            tag(
                "p",
                "The ConfigMap ",
                tag("code", text(DocumentKey(each["source"], each["namespace"]).configmap)),
                f", line {each['line']}: ",
                text(each["message"]),
            )
            for each in exceptions["refused"]
        ]
    return shown


def _loaded(policy: Mapping[str, Any]) -> tuple[str, ...]:
    if policy["loadedAt"] is None:
        return (", not loaded yet",)
    version = policy["resourceVersion"]
    return (f", loaded {policy['loadedAt']}", f", resource version {version}" if version else "")


def _latency(name: str, counts: Sequence[int]) -> Html:
    """Return a histogram of durations, from the lowest to the highest bucket in use."""
    used = [index for index, count in enumerate(counts) if count]
    names = [*(_seconds(bound) for bound in DURATION_BUCKETS), f"> {_seconds(DURATION_BUCKETS[-1])}"]
    bars = [
        Part(names[index], counts[index], "good" if index < len(DURATION_BUCKETS) - 3 else "bad")
        for index in range(used[0], used[-1] + 1)
    ]
    total = sum(counts)
    half, most = (_within(_quantile(counts, share)) for share in (0.5, 0.99))
    spoken = f"{name}: half {half}, 99 of 100 {most}, {total:,} in all."
    return join(
        (
            tag("h3", f"{name}: time to answer"),
            columns(bars, label=spoken),
            tag("p", f"Half {half}, 99 of 100 {most}; {total:,} in all.", class_="lead"),
        )
    )


def _quantile(counts: Sequence[int], share: float) -> int:
    """Return the index of the bucket that holds a quantile."""
    threshold, seen = share * sum(counts), 0
    for index, count in enumerate(counts):
        seen += count
        if seen >= threshold:
            return index
    return len(counts) - 1


def _within(index: int) -> str:
    """Return how long the reviews of a bucket took, as a phrase. The last bucket has no upper bound."""
    if index < len(DURATION_BUCKETS):
        return f"within {_seconds(DURATION_BUCKETS[index])}"
    return f"in more than {_seconds(DURATION_BUCKETS[-1])}"


def _seconds(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _findings(findings: Sequence[Mapping[str, Any]]) -> Html:
    rows = (
        (
            tag("code", text(str(finding["path"]) or "(document)")),
            tag(
                "span",
                str(finding["severity"]),
                class_=f"badge {'bad' if finding['severity'] == 'error' else 'change'}",
            ),
            f"{finding['line']}",
            join((tag("code", str(finding["code"])), ": ", text(str(finding["message"])))),
        )
        for finding in findings
    )
    return table(("Where", "Severity", "Line", "Finding"), rows, caption="Findings")


def _rules(name: str, rules: RuleSet) -> Html:
    """Return the patterns of a list, without owners and reasons."""
    if not rules:
        return Html("")
    items = (tag("li", tag("code", text(str(rule)))) for rule in islice(rules, MAX_RULES))
    left_out = len(rules) - MAX_RULES
    more = tag("p", f"{left_out:,} more rules are not shown.", class_="note") if left_out > 0 else Html("")
    title = tag("summary", f"{name}: {len(rules):,} in use")
    return tag("details", title, tag("ul", *items), more, class_="more")


def _denial(denial: Denial) -> list[str | Html]:
    at = datetime.fromtimestamp(denial.at, UTC)
    reasons = ", ".join(f"{count} {reason}" for reason, count in denial.reasons)
    when = tag("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=format_instant(at))
    cells: list[str | Html] = [when, text(denial.kind), text(denial.operation), reasons]
    details = denial.details
    if details is not None:
        images = join((tag("code", text(image)) for image in details.images), ", ")
        cells += [text(f"{details.namespace}/{details.name}"), text(details.user), images]
    return cells
