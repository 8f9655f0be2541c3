import re

from genrec.tokenization.quality_tables import to_markdown
from tests.tokenization.quality_example import example, forecast_of, foreign


def test_the_page_shows_every_figure():
    quality, _, titles, _ = example()
    quality["forecast"] = forecast_of(0.2, bits=9.125, shuffled=9.5)
    page = to_markdown(quality)
    before, after = quality["collisions_before"], quality["collisions_after"]
    sharing = f"{before['items_sharing']} | {after['items_sharing']}"
    assert f"| items that share their codes | {sharing} |" in page
    level, prefix = quality["levels_after"][0], quality["prefixes"][0]
    assert f"| 1 | 8 | {quality['levels_before'][0]['used']} |" in page
    assert f"| {level['entropy']:.2f} | {prefix['distinct']} |" in page
    assert f"| {quality['error'][0]['relative_error']:.3f} |" in page
    assert f"{quality['items_moved']} items moved to another code" in page
    assert "| forecast for these codes | 0.2000 ± 0.0100 | 0.1000 ± 0.0050 |" in page
    assert "costs 9.125 bits, 9.500 with the same codes shuffled" in page
    row = quality["neighbour_agreement"]["prefixes"][0]
    assert f"| nearest vectors | 1 | {100 * row['share']:.0f} % |" in page
    entry = quality["neighbours"][0]
    assert f"**{entry['title']}** ({entry['codes'][0]}, {entry['codes'][1]}" in page
    assert "- by vectors: " in page
    assert entry["title"] in titles


def test_a_digit_more_is_told_with_dashes_where_the_method_gave_nothing():
    quality, _, _, _ = example(n=140)
    assert quality["level_sizes"][:2] == [8, 8]
    page = to_markdown(quality)
    assert "told apart by one digit more" in page
    assert f"| 3 | {quality['level_sizes'][2]} | - | - |" in page


def test_moves_are_told_with_their_distance():
    quality, _, _, _ = example()
    quality |= {"items_moved": 6, "added_distance": 0.44, "spare_moves": 2}
    page = to_markdown(quality)
    # Squared distances grew by 0.44, so distances by a fifth.
    assert "They are 1.2 times as far" in page
    assert "2 of them got a code that stands for no vector." in page


def test_what_is_unknown_is_a_dash():
    quality, _, _ = foreign()
    page = to_markdown(quality)
    assert "| items that share their codes | - | 0 |" in page
    assert "| 1 | 5 | - | - | 5 |" in page
    assert "Nothing to compare with." in page
    assert "items moved" not in page
    assert "## Forecast" not in page
    assert "- by vectors" not in page


def test_titles_are_shown_as_text_and_load_nothing():
    titles = [f"<img src=https://x.example/{n}> ![a](https://x.example) *{n}*" for n in range(40)]
    quality, _, _, _ = example(titles=titles)
    page = to_markdown(quality)
    assert "\\<img src" in page
    assert "<img" not in page.replace("\\<img", "")
    assert not re.search(r"(?<!\\)\]\(", page)
