import pytest
from transformers.utils import logging as transformers_logging

from genrec.model.progress_bars import without_progress_bars

shown = transformers_logging.is_progress_bar_enabled


@pytest.fixture(params=[True, False])
def before(request):
    was = shown()
    switch = {
        True: transformers_logging.enable_progress_bar,
        False: transformers_logging.disable_progress_bar,
    }
    switch[request.param]()
    yield request.param
    switch[was]()


def test_bars_are_hidden_inside_and_put_back_after(before):
    with without_progress_bars():
        assert not shown()
    assert shown() is before
    with pytest.raises(OSError), without_progress_bars():
        raise OSError
    assert shown() is before


def test_nothing_changes_when_they_shall_be_shown(before):
    with without_progress_bars(hide=False):
        assert shown() is before
    assert shown() is before
