import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from genrec.errors import DataError
from genrec.tokenization.compare import compare
from genrec.tokenization.report_page import write_page
from tests.tokenization.quality_example import example, forecast_of, foreign

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & \u2028 {x}'


class Page(HTMLParser):
    """What a browser sees: elements, their attributes, and the text of scripts and headings."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.text = [], [], ""
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def figures(self):
        return json.loads(self.scripts[0])


def written(path, quality, index, titles, **more):
    write_page(quality, index, titles, path, **{"name": "shop", **more})
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    titles = [f"{EVIL} {row}" for row in range(40)]
    quality, index, titles, x = example(titles=titles)
    quality["forecast"] = forecast_of(0.2)
    comparison = compare([(EVIL, quality), ("b", quality)])
    path = tmp_path_factory.mktemp("page") / "page.html"
    page = written(path, quality, index, titles, name=EVIL, vectors=x, comparison=comparison)
    return page, titles, path


def test_titles_are_text_whatever_is_in_them(whole):
    page, titles, _ = whole
    # The figures, the library and the page's own script: none came from a title.
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "figures"},
        {},
        {},
    ]
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "embed")]
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert EVIL in page.text
    hover = [
        *page.figures["map"]["data"][0]["hovertext"],
        *page.figures["tree"]["data"][0]["hovertext"],
    ]
    assert len(hover) > 40
    # Plotly reads a few tags in its texts; only the page's own may be there.
    assert {tag for text in hover for tag in re.findall("<.*?>", text)} == {"<b>", "</b>", "<br>"}
    assert any("&lt;script&gt;alert(1)" in text for text in hover)
    # Nothing in the figures could end their script element.
    assert "<" not in page.scripts[0]


def test_the_page_loads_nothing_and_allows_only_its_own_scripts(whole):
    page, _, _ = whole
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), tag
        assert tag != "link"
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    style = re.search("<style>(.*?)</style>", whole[2].read_text(encoding="utf-8"), re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_every_picture_has_its_place_and_every_link_its_target(whole):
    page, _, _ = whole
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(page.figures) == {"usage", "tree", "map"} <= set(ids)
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert {link[1:] for link in links} <= set(ids)
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert len(sections) == 9


def test_the_head_tells_how_the_index_was_made(whole):
    page, _, _ = whole
    assert "40 items; each has 2 codes, of 8 × 8." in page.text
    assert "Made by residual k-means from text vectors." in page.text
    assert "moved to the nearest free last code" in page.text


def test_the_map_is_in_the_colours_and_order_of_the_items(tmp_path):
    quality, index, titles, x = example()
    points = written(tmp_path / "page.html", quality, index, titles, vectors=x).figures["map"]
    hover = points["data"][0]["hovertext"]
    assert len(hover) == 40
    codes = index.codes[7].tolist()
    assert hover[7] == f"<b>title 7</b><br>codes {', '.join(map(str, codes))}"


def test_codes_of_which_nothing_else_is_known_have_a_page(tmp_path):
    quality, index, titles = foreign()
    page = written(tmp_path / "page.html", quality, index, titles)
    assert set(page.figures) == {"usage", "tree"}
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["verdicts", "usage-part", "tree-part", "examples", "groups"]
    assert "not measured" in page.text
    assert "Made by" not in page.text


def test_unknown_ways_are_named_as_they_are(tmp_path):
    quality, index, titles = foreign()
    index.facts.update(method="my_method", collision_policy="my_policy")
    page = written(tmp_path / "page.html", quality, index, titles)
    assert "Made by my method." in page.text
    assert "Items with equal codes: my policy." in page.text


def test_the_same_input_gives_the_same_page(tmp_path):
    quality, index, titles, x = example()
    for name in ("a", "b"):
        write_page(quality, index, titles, tmp_path / name, name="shop", vectors=x)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tables_of_another_catalogue_are_refused(tmp_path):
    quality, index, titles, x = example()
    with pytest.raises(DataError, match="39 titles for 40 items"):
        write_page(quality, index, titles[1:], tmp_path / "a", name="shop")
    with pytest.raises(DataError, match="41 vectors for 40 items"):
        more = np.vstack([x, x[:1]])
        write_page(quality, index, titles, tmp_path / "a", name="shop", vectors=more)
    assert not (tmp_path / "a").exists()
