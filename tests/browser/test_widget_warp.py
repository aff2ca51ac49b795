"""WarpView in a browser: the same language and the same costs as in Python, and what an edit shows."""

import json

import pytest

from minikernels.widgets import WarpView
from minikernels.widgets.expression import ExpressionError, evaluate
from minikernels.widgets.page import front_end

EXPRESSIONS = ["lane", "lane*2+1", "(lane % 4) * D + lane // 4", "-lane // 3", "-lane % 5 - 7",
               "lane ^ 1 << 2 & 0xF | 8", "min(lane, 1) + max(2, lane)", "~lane & 3",
               "--lane >> 1", "1 << lane", "-5 // (lane + 1)", "0xff*lane",
               "", "lane / 2", "lane +", "2 lane", "row", "(lane", "lane // 0", "8 % lane", "lane * 2147483647",
               "1 << lane * 2", "lane.real", "lane ** 2", "min(lane)", "max lane", "1" * 201, "99999999999", "\u00e9",
               "lane\t*\n2", "-2147483647 - lane", "-9 >> lane", "3 % -5 + lane", "3 // -5"]


def test_expressions_mean_the_same_in_both_languages(page):
    module = front_end("expression.js") + "\nexport { evaluate };"
    shown = page.evaluate("""async ([module, expressions]) => {
      const { evaluate } = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })));
      return expressions.map((text) => {
        try { return JSON.stringify(evaluate(text, { D: 64 })); } catch (error) { return error.message; }
      });
    }""", [module, EXPRESSIONS])
    for text, said in zip(EXPRESSIONS, shown, strict=True):
        try:
            meant = json.dumps(evaluate(text, {"D": 64}), separators=(",", ":"))
        except ExpressionError as error:
            meant = str(error)
        assert said == meant, text


REQUESTS = [("lane", 4), ("lane * 2 + 1", 4), ("lane * 32", 4), ("lane * 33", 4), ("0", 4), ("lane", 8),
            ("lane * 16", 8), ("lane // 8", 8), ("lane", 2), ("lane * 64", 2), ("lane", 1), ("lane * 8 % 64", 4),
            ("lane * 17", 8)]


def test_warp_view_counts_the_same_in_both_languages(page):
    module = front_end("shared.js", "expression.js", "warp.js") + "\nexport { requestCost, evaluate };"
    shown = page.evaluate("""async ([module, requests]) => {
      const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
      const { requestCost, evaluate } = await import(url);
      return requests.map(([text, size]) => {
        const cost = requestCost(evaluate(text, {}), size);
        return [cost.sectors.length, cost.wavefronts, cost.conflicts];
      });
    }""", [module, REQUESTS])
    for (text, size), said in zip(REQUESTS, shown, strict=True):
        view = WarpView(text, itemsize=size)
        assert said == [view.sectors, view.wavefronts, view.conflicts], (text, size)


def test_warp_view_follows_the_expression(opened):
    page = opened(WarpView("lane", names={"D": 32}))
    says, field = page.locator(".mk-says"), page.get_by_role("textbox", name="Index of each lane")
    assert says.inner_text() == "32 lanes ask for 128 B: 4 sectors, 128 B move"
    assert page.locator("[data-sector]").count() == 4
    field.fill("lane * D")
    assert says.inner_text() == "32 lanes ask for 128 B: 32 sectors, 1,024 B move"
    page.get_by_role("combobox", name="Memory").select_option("shared")
    assert says.inner_text() == "32 lanes ask for 128 B: 32 wavefronts, 31 bank conflicts"
    assert page.locator("[data-bank='0']").count() == 32
    field.fill("lane * (D + 1)")
    assert says.inner_text() == "32 lanes ask for 128 B: 1 wavefront, no bank conflict"
    assert page.evaluate("model.get('expression')") == "lane * (D + 1)"
    field.fill("lane *")
    assert page.get_by_role("alert").inner_text() == "expected a number or a name and found the end (character 7)"
    assert page.evaluate("model.get('expression')") == "lane * (D + 1)"
    field.fill("lane - 1")
    assert page.get_by_role("alert").inner_text() == "lane 0: index -1 is before the array's start"
    page.evaluate("model.set('expression', 'lane')")


@pytest.mark.parametrize("space", ["global", "shared"])
def test_warp_view_serves_every_reader(opened, fits_everyone, space):
    fits_everyone(opened(WarpView("lane * 33", space=space)))
