import doctest

from genrec.tokenization import html_table as module
from genrec.tokenization.html_table import html_table


def test_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


def test_all_text_is_escaped_and_the_best_is_marked():
    table = html_table(["<a>", '"b"'], [["&", "<i>1</i>"]], best={(0, 1)})
    assert "<a>" not in table
    assert "<i>" not in table
    assert "&lt;a&gt;" in table
    assert "<td>&amp;</td>" in table
    assert "<strong>&lt;i&gt;1&lt;/i&gt;<span class='best'> best</span></strong>" in table
