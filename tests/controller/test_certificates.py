"""The rotation step that is due, and the content of a Secret."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from controller.world import CERTIFICATES, START, b64
from gatekeeper_py.cluster.issuing import Issued, issue
from gatekeeper_py.controller.certificates import (
    CertificateStore,
    CertificateUse,
    InvalidSecret,
    KeyPair,
    advance,
    bundle,
    everywhere,
    parse_secret,
    settled,
)

LATER = START + timedelta(minutes=1)
NEAR_EXPIRY = START + CERTIFICATES.lifetime - CERTIFICATES.renew_before


def issue_pair(names: tuple[str, ...] = CERTIFICATES.names, start: Any = START) -> Issued:
    return issue(names, start, CERTIFICATES.lifetime)


def pair(issued: Issued) -> KeyPair:
    return KeyPair(certificate=issued.leaf, key=issued.key)


OLD, NEW = issue_pair(), issue_pair()
STEADY = CertificateStore(current=pair(OLD), cas=(OLD.ca,))
PREPARED = CertificateStore(current=pair(OLD), pending=pair(NEW), cas=(OLD.ca, NEW.ca))
PROMOTED = CertificateStore(current=pair(NEW), cas=(OLD.ca, NEW.ca))
BOTH = (OLD.ca + NEW.ca,) * 2


def serving(*leaves: Issued | None, unseen: bool = False) -> CertificateUse:
    served = {str(at): None if leaf is None else pair(leaf).fingerprint for at, leaf in enumerate(leaves)}
    return CertificateUse(served=served, unseen=unseen)


STEPS: dict[str, tuple[CertificateStore | None, CertificateUse, datetime, str]] = {
    "no-secret": (None, CertificateUse(), START, "create"),
    "nothing-is-due": (STEADY, CertificateUse(), START, ""),
    "near-expiry": (STEADY, CertificateUse(), NEAR_EXPIRY, "prepare"),
    "just-before-that": (STEADY, CertificateUse(), NEAR_EXPIRY - timedelta(seconds=1), ""),
    "expired": (STEADY, CertificateUse(), START + CERTIFICATES.lifetime, "create"),
    "unknown-signer": (replace(STEADY, cas=(NEW.ca,)), CertificateUse(), START, "create"),
    "for-another-name": (
        CertificateStore(current=pair(other := issue_pair(("x.ns.svc",))), cas=(other.ca,)), CertificateUse(),
        START, "create",
    ),
    "no-replica-to-wait-for": (PREPARED, CertificateUse(), START, "promote"),
    "settled": (
        PREPARED, CertificateUse(trusted=BOTH, trusted_since=START), START + CERTIFICATES.settle, "promote",
    ),
    "trusted-only-since-now": (PREPARED, CertificateUse(trusted=BOTH, trusted_since=LATER), LATER, ""),
    "never-seen-trusted": (PREPARED, CertificateUse(trusted=BOTH), LATER, ""),
    "one-configuration-does-not-trust-it": (
        PREPARED, CertificateUse(trusted=(BOTH[0], OLD.ca), trusted_since=START), LATER, "",
    ),
    "one-bundle-is-garbled": (
        PREPARED, CertificateUse(trusted=(BOTH[0], b"garbage"), trusted_since=START), LATER, "",
    ),
    "with-nothing-served": (
        replace(PREPARED, current=None), CertificateUse(trusted=BOTH, trusted_since=START), LATER, "promote",
    ),
    "made-by-a-clock-that-is-ahead": (
        CertificateStore(
            current=pair(OLD),
            pending=pair(ahead := issue_pair(start=START + timedelta(hours=3))),
            cas=(OLD.ca, ahead.ca),
        ),
        CertificateUse(),
        START,
        "",
    ),
    "next-pair-without-authority": (replace(PREPARED, cas=(OLD.ca,)), CertificateUse(), START, "prepare"),
    "all-replicas-serve-it": (PROMOTED, serving(NEW, NEW), START, "retire"),
    "one-replica-is-behind": (PROMOTED, serving(NEW, OLD), START, ""),
    "one-replica-does-not-answer": (PROMOTED, serving(NEW, None), START, ""),
    "one-replica-has-no-address": (PROMOTED, serving(NEW, unseen=True), START, ""),
    "no-replica": (PROMOTED, serving(), START, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_step_that_is_due(case: str) -> None:
    store, use, now, change = STEPS[case]
    after, step = advance(store, use, CERTIFICATES, now)
    assert step == change
    assert (after == store) is (change == "")
    assert after.not_after is not None


def test_a_new_pair_is_served_at_once_before_configurations_exist() -> None:
    after, _ = advance(None, CertificateUse(), CERTIFICATES, START)
    assert after.current is not None
    assert settled(after)


def test_a_new_pair_waits_for_existing_configurations() -> None:
    after, _ = advance(None, CertificateUse(trusted=(OLD.ca, b"garbage")), CERTIFICATES, START)
    assert after.current is None
    assert after.pending is not None
    assert after.cas[0] == OLD.ca
    assert not settled(after)
    assert "tls.crt" not in after.data()


def test_expired_cas_do_not_accumulate() -> None:
    """While a replica never answers, the controller retires no CA. It drops CAs when they expire."""
    store, now = STEADY, START
    for _ in range(10):
        now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
        store, step = advance(store, serving(None), CERTIFICATES, now)
        assert step == "prepare"
        assert len(store.cas) <= 3
        store, step = advance(store, serving(None), CERTIFICATES, now)
        assert step == "promote"


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        pytest.param(serving(OLD), OLD.ca, id="foreign-ones-go-when-every-replica-is-seen"),
        pytest.param(serving(OLD, None), OLD.ca + NEW.ca, id="kept-while-one-is-not"),
    ],
)  # fmt: skip
def test_a_configuration_loses_a_ca_only_when_it_is_not_needed(use: CertificateUse, expected: bytes) -> None:
    assert bundle(STEADY, replace(use, trusted=(NEW.ca + OLD.ca,)), START) == expected


def test_a_leaf_without_its_ca_does_not_retire_other_cas() -> None:
    assert not everywhere(replace(STEADY, cas=(NEW.ca,)), serving(OLD))


def test_addresses_may_be_among_the_names() -> None:
    terms = replace(CERTIFICATES, names=("gk.ns.svc", "10.0.0.1", "2001:db8:0::1"))
    store, _ = advance(None, CertificateUse(), terms, START)
    assert advance(store, CertificateUse(), terms, START) == (store, "")


@pytest.mark.parametrize(
    "store", [STEADY, PREPARED, replace(PREPARED, current=None)], ids=["steady", "prepared", "staged"]
)
def test_a_written_store_is_read_back_unchanged(store: CertificateStore) -> None:
    assert parse_secret(store.data()) == store


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"ca.crt": ""}, "ca.crt holds no certificates", id="empty-authority"),
        pytest.param({"ca.crt": None}, "ca.crt is missing", id="no-authority"),
        pytest.param({"tls.crt": None}, "tls.crt is missing", id="no-leaf"),
        pytest.param({"tls.crt": "%"}, "tls.crt is not base64", id="not-base64"),
        pytest.param({"tls.crt": "\u00e9"}, "tls.crt is not base64", id="not-ascii"),
        pytest.param({"tls.key": b64(b"x")}, "no certificate and key", id="no-key"),
        pytest.param({"tls.key": b64(NEW.key)}, "not the key of", id="another-key"),
    ],
)  # fmt: skip
def test_garbled_secret(changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(InvalidSecret, match=message):
        parse_secret({**STEADY.data(), **changes})


@pytest.mark.parametrize("key", ["tls.crt", "tls.key", "next.crt", "next.key"])
def test_one_garbled_pair_leaves_the_other(key: str) -> None:
    store = parse_secret({**PREPARED.data(), key: b64(b"garbage")})
    assert (store.current, store.pending).count(None) == 1


def test_a_leaf_without_names_is_replaced() -> None:
    nameless = KeyPair(certificate=OLD.ca, key=b"")
    assert (
        advance(CertificateStore(current=nameless, cas=(OLD.ca,)), CertificateUse(), CERTIFICATES, START)[1]
        == "create"
    )
