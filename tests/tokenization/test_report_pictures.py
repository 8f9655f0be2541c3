import numpy as np

from genrec.tokenization import report_pictures
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.report_pictures import (
    colour_of,
    map_picture,
    shown,
    tree_picture,
    usage_picture,
)


def test_bars_stand_from_the_most_to_the_least_used_code():
    codes = np.array([[2, 0], [2, 1], [0, 1], [2, 1]], dtype=np.int32)
    first, second = usage_picture(codes, (4, 2)).data
    assert list(first.y) == [3, 1, 0, 0]
    assert list(first.hovertext)[:2] == ["code 2: 3 items", "code 0: 1 items"]
    assert list(second.y) == [3, 1]


def test_many_codes_share_bars(monkeypatch):
    monkeypatch.setattr(report_pictures, "MOST_BARS", 2)
    codes = np.array([[0], [0], [1], [3]], dtype=np.int32)
    (bars,) = usage_picture(codes, (4,)).data
    assert list(bars.y) == [(2 + 1) / 2, (1 + 0) / 2]
    assert list(bars.hovertext) == ["2 codes: 1.5 items each", "2 codes: 0.5 items each"]


def tree_of(seed=0, n=300):
    codes = np.random.default_rng(seed).integers(0, (6, 5, 4), size=(n, 3)).astype(np.int32)
    return codes, CodeTree.of(codes, (6, 5, 4))


def test_slices_add_up_in_every_ring():
    codes, tree = tree_of()
    (rings,) = tree_picture(tree, [str(row) for row in range(300)], None).data
    items = dict(zip(rings.ids, rings.values, strict=True))
    assert items["all"] == 300
    for name, count in items.items():
        inside = [
            items[child] for child, up in zip(rings.ids, rings.parents, strict=True) if up == name
        ]
        assert not inside or sum(inside) == count, name
    prefixes = [tuple(row) for row in codes.tolist()]
    assert items["all-3"] == sum(row[0] == 3 for row in prefixes)
    assert items["all-3-2"] == sum(row[:2] == (3, 2) for row in prefixes)


def test_only_the_largest_groups_are_drawn_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr(report_pictures, "MOST_SLICES", (4,))
    codes, tree = tree_of()
    (rings,) = tree_picture(tree, [str(row) for row in range(300)], None).data
    counts = np.bincount(codes[:, 0])
    largest = sorted(range(6), key=lambda code: (-counts[code], code))[:4]
    assert set(rings.ids) == {"all", "all others", *(f"all-{code}" for code in largest)}
    assert dict(zip(rings.ids, rings.values, strict=True))["all others"] == sum(
        counts[code] for code in range(6) if code not in largest
    )


def test_slices_stand_under_slices_that_are_drawn(monkeypatch):
    monkeypatch.setattr(report_pictures, "MOST_SLICES", (2, 3))
    codes, tree = tree_of()
    (rings,) = tree_picture(tree, [str(row) for row in range(300)], None).data
    assert set(rings.parents) - {""} <= set(rings.ids)
    drawn = [name for name in rings.ids if "others" not in name]
    inner = [name for name in drawn if name.count("-") == 1]
    outer = [name for name in drawn if name.count("-") == 2]
    assert (len(inner), len(outer)) == (2, 3)
    pairs = [f"all-{first}-{second}" for first, second in codes[:, :2].tolist()]
    under = {name: pairs.count(name) for name in pairs if name.rpartition("-")[0] in inner}
    assert min(under[name] for name in outer) >= sorted(under.values())[-3]


def test_a_slice_shows_the_titles_nearest_to_its_mean():
    codes = np.zeros((7, 1), dtype=np.int32)
    x = np.array([[9], [1], [0], [-1], [-9], [2], [-2]], dtype=np.float32)
    (rings,) = tree_picture(CodeTree.of(codes, (2,)), list("abcdefg"), x).data
    assert rings.hovertext[1] == "<b>codes 0</b>: 7 items<br>c<br>b<br>d<br>f<br>g"


def test_titles_are_shown_as_text_and_shortened():
    assert shown('<a href="x">') == '&lt;a href="x"&gt;'
    long = shown("x" * 200)
    assert len(long) == report_pictures.LONGEST_TITLE
    assert long.endswith("…")
    codes = np.array([[0, 1]], dtype=np.int32)
    (points,) = map_picture(np.zeros((1, 2), np.float32), codes, ["<b>&"]).data
    assert points.hovertext == ("<b>&lt;b&gt;&amp;</b><br>codes 0, 1",)


def test_codes_have_colours_of_their_own():
    assert len({colour_of(code) for code in range(64)}) == 64
    codes = np.array([[5, 1], [5, 2], [6, 1]], dtype=np.int32)
    (points,) = map_picture(np.zeros((3, 2), np.float32), codes, list("abc")).data
    assert list(points.marker.color) == [colour_of(5), colour_of(5), colour_of(6)]
