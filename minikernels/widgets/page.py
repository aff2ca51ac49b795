"""What every widget shares: one module of script and style, a self-contained page, and a still picture.

A widget's front end is the concatenation of plain script files, of which the last one ends in
``export default { render: guarded(render) }``: one ES module, made without a build step, that runs in Jupyter
(through anywidget) and in a saved page (through the few lines of `SHIM`).
"""

import base64
import html
import io
import json
from pathlib import Path

import anywidget
import ipywidgets
import traitlets

from minikernels.figures import svg

__all__ = ["Widget", "front_end"]

STATIC = Path(__file__).parent / "static"

# The page's own stand-in for a Jupyter model: the same five methods, no kernel behind them.
SHIM = """
const state = JSON.parse(document.getElementById("state").textContent);
state._packed = Uint8Array.from(atob(state._packed), (c) => c.charCodeAt(0));
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  if (typeof state[name] === "number" && /^[0-9]+$/.test(value)) state[name] = Number(value); // page.html#step=40
}
const listeners = new Map();
const changed = new Set();
const tell = (event) => { for (const f of listeners.get(event) ?? []) f(); };
const model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (state[name] === value) return;
    state[name] = value;
    changed.add(name);
    tell("change:" + name);
  },
  save_changes: () => changed.clear(),
  send: () => {},
  on: (event, f) => listeners.set(event, [...(listeners.get(event) ?? []), f]),
  off: (event, f) => listeners.set(event, (listeners.get(event) ?? []).filter((g) => f && g !== f)),
};
const module = JSON.parse(document.getElementById("module").textContent);
const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
const { default: widget } = await import(url);
await widget.render({ model, el: document.getElementById("widget") });
window.model = model;
document.documentElement.dataset.ready = "true";
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
body {{ margin: 0 auto; padding: 12px; max-width: 1280px; background: #fff; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14171c; }} }}
{style}
</style>
</head>
<body>
<main id="widget"></main>
<noscript>{title}: this page plays a recorded kernel launch and needs scripts.</noscript>
<script type="application/json" id="module">{module}</script>
<script type="application/json" id="state">{state}</script>
<script type="module">{shim}</script>
</body>
</html>
"""


def front_end(*names):
    """Return the text of several files of ``static``, one after the other: a widget's module, or its style."""
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)


class Widget(anywidget.AnyWidget):
    """The base of all widgets: data in, a live view, a saved page and a still picture out.

    A subclass sets ``_esm`` and ``_css`` (`front_end`), fills ``_packed`` (`packing.pack`) and says in ``picture``
    how a still picture of it is drawn.
    """

    _packed = traitlets.Bytes().tag(sync=True)

    @property
    def title(self):
        """One line that says what is shown."""
        return type(self).__name__

    def picture(self):
        """Return a matplotlib figure of what the widget shows now."""
        raise NotImplementedError(f"{type(self).__name__} draws no picture")

    def _state(self):
        """Return the widget's own synced traits, ready for JSON."""
        library = anywidget.AnyWidget.class_traits()
        own = {name for name in self.traits(sync=True) if name not in library and not name.startswith("_")}
        return {name: self._plain(name) for name in sorted(own | {"_packed"})}

    def _plain(self, name):
        """Return one trait as the page holds it."""
        value = getattr(self, name)
        to_json = self.trait_metadata(name, "to_json")
        return to_json(value, self) if to_json else value

    def to_html(self, path, title=None):
        """Write one self-contained page: no server, no network, no other file.

        A whole-number trait can be set in the page's address: ``page.html#step=40``.

        Parameters
        ----------
        path : str or Path
        title : str, optional
            The page's title; the widget's own without it.

        Returns
        -------
        Path
        """
        state = self._state()
        state["_packed"] = base64.b64encode(state["_packed"]).decode()
        page = PAGE.format(title=html.escape(title or self.title), style=self._css, shim=SHIM,
                           module=_inline(self._esm), state=_inline(state))
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
        return path

    def to_svg(self):
        """Return the still picture as SVG text, the same from run to run."""
        return svg(self.picture())

    def _repr_mimebundle_(self, **kwargs):
        """Offer the live view to Jupyter, and a still picture to readers that run no scripts (GitHub)."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": self.title, "image/svg+xml": self.to_svg()}, metadata

    def linked_slider(self, trait, **settings):
        """Return an `ipywidgets` slider tied to one of this widget's numbers, both ways."""
        return self._linked(ipywidgets.FloatSlider if isinstance(getattr(self, trait), float) else ipywidgets.IntSlider,
                            trait, settings)

    def linked_checkbox(self, trait, **settings):
        """Return an `ipywidgets.Checkbox` tied to one of this widget's switches, both ways."""
        return self._linked(ipywidgets.Checkbox, trait, settings)

    def linked_dropdown(self, trait, options, **settings):
        """Return an `ipywidgets.Dropdown` of some values for one of this widget's traits, tied both ways."""
        # The browser knows a dropdown's choice by its place in the list; its value lives in Python.
        return self._linked(ipywidgets.Dropdown, trait, {"options": options, **settings}, traitlets.link)

    def _linked(self, kind, trait, settings, link=ipywidgets.jslink):
        """Return a control with a trait's value; `jslink` also holds in a saved notebook, where no kernel runs."""
        control = kind(value=getattr(self, trait), description=trait, **settings)
        link((control, "value"), (self, trait))
        return control


def _inline(value):
    """Return JSON that may stand inside a script element, whatever text it holds."""
    text = io.StringIO()
    json.dump(value, text, separators=(",", ":"))
    return text.getvalue().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
