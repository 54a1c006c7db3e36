"""Build the audit's HTML page: the images that would be refused, where they run, and what each rule does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.tally import Effect, RuleUse, Tallied, Tally, Usage, rule_key
from gatekeeper_py.cli.reporting.console import counted
from gatekeeper_py.cli.reporting.pageparts import (
    Kind,
    Shares,
    audits_table,
    filtered_images,
    image_list,
    named_bar,
    namespace_of,
    page_lead,
    registry_of,
)
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule
from gatekeeper_py.http.page.charts import Part, legend, share_bar
from gatekeeper_py.http.page.document import (
    Html,
    Section,
    document,
    figures,
    filtered,
    join,
    table,
    tag,
    text,
)

KINDS: Final = (
    Kind("refused", "bad"),
    Kind("warned", "change"),
    Kind("excepted", "change"),
    Kind("approved", "good"),
    Kind("exempt", "mute"),
)

REASONS: Final = {
    "unlisted": "No rule allows it",
    "denied": "A deny rule matches",
    "invalid": "Not a usable image name",
    "unpinned": "It lacks a required digest",
    "absent": "It does not exist in its registry",
    "unsigned": "No key in signedBy signed it",
    "unverified": "Its registry could not be queried",
}

MAX_RULES: Final = 1000
"""Maximum number of rules in each table. A policy can have 200,000, and no browser opens a page with all of
them."""

Row = tuple[Tallied, Sequence[Usage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """The content of a report besides the tally. For the page, ``keep_approved`` of the tally must be set.

    ``policy`` is ``None`` if the page covers several clusters. ``missing`` are the kinds that the cluster
    does not serve. ``lists_approved`` adds the approved and exempt images, which otherwise are only counted.
    A table is shortened to the width of the terminal, unless ``wide`` is set.
    """

    meta: Provenance
    policy: Policy | None
    namespace: str | None
    instant: datetime
    missing: Sequence[str] = ()
    lists_approved: bool = False
    wide: bool = False


def audit_page(tally: Tally, page: AuditPage) -> str:
    """Return the page."""
    rows = list(tally.listed())
    places = _places(rows)
    sections = [
        Section("summary", "Summary", _summary(tally, page, rows, places)),
        Section("where", "Where", _where(rows)),
        Section("refused", "Refused images", _by_reason(rows, "refused"), "Refused"),
    ]
    if places["warned"]:
        title = "Images that only cause warnings"
        sections.append(Section("warned", title, _by_reason(rows, "warned"), "Warned"))
    if places["excepted"]:
        title = "Images approved by exceptions"
        sections.append(Section("excepted", title, _excepted(rows), "Exceptions"))
    if page.policy is not None:
        sections += _rule_sections(tally, page.policy, page)
    if page.lists_approved:
        sections += [
            Section("approved", "Approved images", _with_effect(rows, "approved"), "Approved"),
            Section("exempt", "Images in exempt namespaces", _with_effect(rows, "exempt"), "Exempt"),
        ]
    scope = "All namespaces" if page.namespace is None else f"Namespace {page.namespace}"
    if page.meta.audits:
        scope = f"{counted(len(page.meta.audits), 'audit')} in one page"
        sections.append(Section("audits", "Audits", audits_table(page.meta.audits)))
    footer = tag("p", "Every object was judged as the webhook would judge it if it were created then.")
    lead = page_lead(scope, page.meta)
    return document(title="Image audit", lead=lead, sections=sections, footer=footer)


def _places(rows: Sequence[Row]) -> dict[str, int]:
    counts = {kind.name: 0 for kind in KINDS}
    for image, usages in rows:
        for usage in usages:
            counts[image.effect(usage)] += 1
    return counts


def _verdict(counts: Mapping[str, int], rows: Sequence[Row], places: Mapping[str, int]) -> tuple[str, str]:
    """Return the headline and its style. It separates what is refused from what only causes warnings."""
    refused = counted(counts["rejected"] - counts["warned"], "image")
    if not sum(places.values()):
        return "No image was found.", "good"
    if places["refused"]:
        warned = f", and only warn in {counted(places['warned'], 'more place')}" if places["warned"] else ""
        return f"The policy would refuse {refused} in {counted(places['refused'], 'place')}{warned}.", "bad"
    if places["warned"]:
        images = counted(sum(1 for _ in _with(rows, "warned")), "image")
        warned = f"{images} in {counted(places['warned'], 'place')}"
        return f"The policy would refuse nothing that runs, and only warn about {warned}.", "change"
    return "The policy would refuse nothing that runs.", "good"


def _summary(tally: Tally, page: AuditPage, rows: Sequence[Row], places: dict[str, int]) -> Html:
    counts = tally.counts
    refused = counts["rejected"] - counts["warned"]
    verdict, style = _verdict(counts, rows, places)
    parts = [Part(kind.name, places[kind.name], kind.style) for kind in KINDS]
    shown = ", ".join(f"{part.amount} {part.name}" for part in parts)
    parts = [part for part in parts if part.amount or part.name in {"refused", "approved"}]
    bar = share_bar(parts, sum(places.values()), label=f"Places: {shown}")
    return join(
        (
            tag("p", verdict, class_=f"verdict {style}"),
            figures(
                (
                    (f"{refused:,}", "images refused", "bad" if refused else "good"),
                    *((f"{n:,}", "images only warned about", "change") for n in [counts["warned"]] if n),
                    (f"{counts['approved']:,}", "images approved", ""),
                    *((f"{n:,}", "with unmet requirements", "change") for n in [counts["unmet"]] if n),
                    (f"{sum(places.values()):,}", "places with an image", ""),
                    (f"{counts['objects']:,}", "objects read", ""),
                )
            ),
            tag("div", bar, legend(parts), class_="big"),
            *(
                tag("p", "Mode of the policy: ", tag("strong", policy.mode.name), class_="more")
                for policy in [page.policy]
                if policy is not None
            ),
            *(
                tag("p", f"Not audited: the cluster does not serve {kind}.", class_="note")
                for kind in map(text, page.missing)
            ),
        )
    )


def _where(rows: Sequence[Row]) -> Html:
    registries, namespaces, reasons, clusters = (Shares(KINDS) for _ in range(4))
    for image, usages in rows:
        registry = registry_of(image.verdict.canonical)
        for usage in usages:
            kind = image.effect(usage)
            registries.add(registry, kind, 1)
            if image.reason in REASONS and kind != "exempt":
                reasons.add(image.reason, kind, 1)
            namespaces.add(namespace_of(usage), kind, 1)
            if usage.cluster is not None:
                clusters.add(usage.cluster, kind, 1)
    return tag(
        "div",
        tag(
            "div",
            *((tag("h3", "By cluster"), clusters.table("cluster")) if clusters else ()),
            tag("h3", "By registry"),
            registries.table("registry"),
            tag("h3", "By reason"),
            reasons.table("reason"),
        ),
        tag("div", tag("h3", "By namespace"), namespaces.table("namespace")),
        class_="pair",
    )


def _with(rows: Sequence[Row], wanted: Effect) -> Iterator[Row]:
    """Yield the images with the uses that have an effect."""
    for image, usages in rows:
        found = [usage for usage in usages if image.effect(usage) == wanted]
        if found:
            yield image, found


def _by_reason(rows: Sequence[Row], wanted: Effect) -> Html:
    """Return images that are refused or cause warnings, grouped by reason, so that no line repeats it."""
    groups = []
    affected = list(_with(rows, wanted))
    style = next(kind.style for kind in KINDS if kind.name == wanted)
    for reason, title in REASONS.items():
        found = [row for row in affected if row[0].reason == reason]
        if found:
            shown = ((image.verdict.image, image.note, usages) for image, usages in found)
            badge = tag("span", reason, class_=f"badge {style}")
            groups.append(tag("h3", badge, f" {title}: {counted(len(found), 'image')}"))
            groups.append(image_list(shown))
    return filtered(join(groups), noun="images") if groups else tag("p", "None.")


def _excepted(rows: Sequence[Row]) -> Html:
    """Return the images that only exceptions approve, the next end first."""
    found = [
        (each, image.verdict.image, usages)
        for image, usages in _with(rows, "excepted")
        if (each := image.verdict.decision.exception)
    ]
    found.sort(key=lambda row: (row[0].until, row[1]))
    shown = (
        (image, f"until {format_instant(each.until)}, {each.by}: {each.reason}", usages)
        for each, image, usages in found
    )
    return filtered_images(shown)


def _with_effect(rows: Sequence[Row], wanted: Effect) -> Html:
    return filtered_images((image.verdict.image, "", usages) for image, usages in _with(rows, wanted))


def _rule_sections(tally: Tally, policy: Policy, page: AuditPage) -> Iterator[Section]:
    rules = (*policy.allow, *policy.deny)
    uses = tally.rules
    used = [(rule, use) for rule in rules if (use := uses.get(rule_key(rule))) is not None]
    used.sort(key=lambda pair: -pair[1].places)
    unused = [rule for rule in rules if rule_key(rule) not in uses]
    approving = [pair for pair in used if pair[0].list == "allow"]
    refusing = [pair for pair in used if pair[0].list == "deny"]
    body = [tag("h3", "Rules that approve"), _used(approving, "approved", "good")]
    if refusing:
        body += [tag("h3", "Rules that deny"), _used(refusing, "denied", "bad")]
    yield Section("rules", "What the rules do", join(body), "Rules")
    where = "runs" if page.namespace is None else f"runs in the namespace {page.namespace}"
    yield Section("unused", "Unused rules", _unused(unused, page.instant, where), "Unused rules")


def _used(pairs: Sequence[tuple[Rule, RuleUse]], verb: str, style: str) -> Html:
    if not pairs:
        return tag("p", "None.")
    most = max(use.places for _, use in pairs)
    rows = (
        (
            named_bar(_rule(rule), [Part(verb, use.places, style)], most),
            f"{len(use.images):,}",
            f"{use.places:,}",
        )
        for rule, use in pairs[:MAX_RULES]
    )
    headings = ("Rule", f"Images {verb}", "Places")
    return join(
        (table(headings, rows, caption=f"Rules with images {verb}", numbers=(1, 2)), _rest(len(pairs)))
    )


def _unused(rules: Sequence[Rule], instant: datetime, where: str) -> Html:
    if not rules:
        return tag("p", f"Every rule decides about some image that {where}.")
    rows = (
        (
            _rule(rule),
            tag("span", "expired", class_="badge change") if not rule.lives_at(instant) else "",
            text(rule.owner or ""),
        )
        for rule in rules[:MAX_RULES]
    )
    note = tag(
        "p",
        f"These rules decide about no image that {where} at the moment. Images that ran earlier, or will run "
        "later, may still need them.",
    )
    headings = ("Rule", "State", "Owner")
    return join((note, table(headings, rows, caption="Unused rules"), _rest(len(rules))))


def _rule(rule: Rule) -> Html:
    shown = [tag("code", text(f"{rule.list}[{rule.index}] {rule.pattern.text}"))]
    if rule.namespaces is not None:
        shown.append(text(f" in {', '.join(rule.namespaces)}"))
    if rule.until is not None:
        shown.append(text(f" until {format_instant(rule.until)}"))
    return join(shown)


def _rest(count: int) -> Html:
    """Return a note about the rules that a table left out."""
    left_out = count - MAX_RULES
    return tag("p", f"{left_out:,} more rules are not shown.", class_="note") if left_out > 0 else Html("")
