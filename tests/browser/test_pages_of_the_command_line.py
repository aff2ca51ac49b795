"""The pages that `climb` and `trace` write play in a browser, from a file and without a network."""

import pytest

from minikernels import cli


@pytest.mark.parametrize("words", [["climb", "flash"], ["trace", "flash", "v2_tiled"]], ids=" ".join)
def test_page_plays_from_a_file(page, tmp_path, capsys, words):
    path = tmp_path / "page.html"
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--random", "1,1,1,96,96,8", "--out", str(path)])
    assert end.value.code == 0, capsys.readouterr()
    page.goto(path.as_uri())
    page.locator("html[data-ready='true']").wait_for()
    page.evaluate("model.set('step', 500)")
    page.get_by_text("step 500 of").wait_for()
    assert page.get_by_text("float32").count() > 0
    assert page.locator("canvas").count() > 0
