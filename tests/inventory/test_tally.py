"""Grouping, apart from where it comes from."""

from __future__ import annotations

from gatekeeper_py.inventory.tally import JudgedImage, Place, Tally

GOOD = JudgedImage("registry.corp.io/web:1", "registry.corp.io/web:1", "approved", "allowed", "it matches")
BAD = JudgedImage("nginx", "docker.io/library/nginx:latest", "rejected", "unlisted", "it matches no rule")
DENIED = BAD._replace(reason="denied", detail="it is denied by deny[0]")
NONE = JudgedImage("", None, "rejected", "invalid", "the image is missing")


def place(name: str, *, kind: str = "Pod", namespace: str | None = "shop", index: int = 0) -> Place:
    return Place(kind, namespace, name, f"spec.containers[{index}].image")


def filled(*entries: tuple[JudgedImage, Place], keep_approved: bool = False) -> Tally:
    tally = Tally(keep_approved=keep_approved)
    for image, where in entries:
        tally.objects += 1
        tally.add(image, where)
    return tally


def test_an_image_is_listed_once_with_all_its_places() -> None:
    tally = filled((BAD, place("a")), (BAD, place("b")))
    assert list(tally.listed()) == [(BAD, [place("a"), place("b")])]


def test_approved_images_are_counted_and_not_listed() -> None:
    tally = filled((BAD, place("a")), (GOOD, place("b")))
    assert [image for image, _ in tally.listed()] == [BAD]
    assert tally.counts == {"objects": 2, "images": 2, "approved": 1, "rejected": 1}


def test_approved_images_are_listed_when_they_are_kept() -> None:
    tally = filled((GOOD, place("b")), (BAD, place("a")), keep_approved=True)
    assert list(tally.listed()) == [(BAD, [place("a")]), (GOOD, [place("b")])]


def test_one_image_decided_in_two_ways_is_two() -> None:
    tally = filled((BAD, place("a")), (DENIED, place("b", namespace="bank")))
    assert [image.reason for image, _ in tally.listed()] == ["denied", "unlisted"]
    assert tally.counts["rejected"] == 2


def test_everything_is_sorted_by_its_fields() -> None:
    places = [
        place("b", kind="Deployment"),
        place("z", namespace=None),
        place("y", namespace="bank"),
        place("a"),
        place("a", index=1),
    ]
    tally = filled(*((BAD, each) for each in reversed(places)), (NONE, place("n")))
    assert list(tally.listed()) == [(NONE, [place("n")]), (BAD, places)]


def test_tallies_of_lists_add_up() -> None:
    total = filled((BAD, place("a")))
    total.merge(filled((BAD, place("b")), (DENIED, place("c")), (GOOD, place("d"))))
    assert list(total.listed()) == [(DENIED, [place("c")]), (BAD, [place("a"), place("b")])]
    assert total.counts == {"objects": 4, "images": 3, "approved": 1, "rejected": 2}


def test_nothing_is_nothing() -> None:
    tally = filled()
    assert list(tally.listed()) == []
    assert tally.counts == {"objects": 0, "images": 0, "approved": 0, "rejected": 0}
