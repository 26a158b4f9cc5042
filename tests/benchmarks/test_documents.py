"""The tables of the docs are those of the records."""

import pytest

from benchmarks import documents


@pytest.mark.parametrize("name", documents.TABLES)
def test_the_docs_show_the_records(name):
    text = documents.page(name).read_text(encoding="utf-8")
    assert documents.filled(name, text) == text, "run python -m benchmarks.documents"


def test_a_page_without_a_place_is_refused():
    with pytest.raises(ValueError, match="has 0 places"):
        documents.filled("budget", "no table here")
