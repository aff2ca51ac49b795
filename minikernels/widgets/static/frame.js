// What the smaller widgets stand in: a labelled group, controls tied to traits, a clock, numbers, and their upkeep.

class Frame {
  constructor({ model, el }, kind, label) {
    this.model = model;
    this.root = node("div", { class: `mk mk-frame mk-${kind}`, role: "group", "aria-label": label,
      "data-lm-suppress-shortcuts": true });
    this.says = node("p", { class: "mk-says" });
    this.refreshers = [];
    el.append(this.root);
    this.speak = liveRegion(this.root);
  }

  /** Set a trait, here and in Python. */
  send(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** A whole-number trait inside its bounds: a page's address may ask for anything. */
  whole(name, last) {
    return Math.max(0, Math.min(last, this.model.get(name)));
  }

  /** Write the one sentence that says what is shown, for eyes and for screen readers. */
  say(sentence) {
    write(this.says, sentence);
    this.speak(sentence);
  }

  button(text, onclick, label) {
    return node("button", { type: "button", "aria-label": label, onclick }, text);
  }

  /** A list of choices that sets a trait and follows it; choices are [value, text]. */
  select(name, label, choices) {
    const element = node("select", { "aria-label": label },
      ...choices.map(([value, text]) => node("option", { value, text })));
    const number = typeof this.model.get(name) === "number";
    element.addEventListener("change", () => this.send(name, number ? Number(element.value) : element.value));
    this.refreshers.push(() => { element.value = this.model.get(name); });
    return element;
  }

  /** A checkbox that sets a trait and follows it. */
  checkbox(name, text) {
    const box = node("input", { type: "checkbox" });
    box.addEventListener("change", () => this.send(name, box.checked));
    this.refreshers.push(() => { box.checked = this.model.get(name); });
    return node("label", {}, box, ` ${text}`);
  }

  /** A slider that sets a number and follows it; `last` may be a function of the moment. */
  slider(name, label, { min = 0, last, step = 1, said = String, shown = true }) {
    const element = node("input", { type: "range", min, step, "aria-label": label });
    const text = node("output", {});
    const most = () => (typeof last === "function" ? last() : last);
    element.addEventListener("input", () => this.send(name, Number(element.value)));
    this.refreshers.push(() => {
      element.max = most();
      element.value = this.model.get(name);
      element.setAttribute("aria-valuetext", said(this.model.get(name)));
      write(text, said(this.model.get(name)));
    });
    return node("label", { class: "mk-slider" }, shown && node("span", { text: label }), element, text);
  }

  /** Buttons and a slider that move a whole-number trait: back, play, on; `last` as in `slider`. */
  clock(name, label, { last, said, perSecond = 6 }) {
    const most = () => (typeof last === "function" ? last() : last);
    const go = (step) => this.send(name, Math.max(0, Math.min(most(), step)));
    const at = () => this.model.get(name);
    let timer = 0;
    const press = (text, drawing, onclick) => node("button",
      { type: "button", "aria-label": text, title: text, onclick }, icon(drawing));
    const play = press("Play", "play", () => run(!timer));
    const run = (on) => {
      clearInterval(timer);
      timer = 0;
      if (on) {
        if (at() >= most()) go(0);
        timer = setInterval(() => (at() >= most() ? run(false) : go(at() + 1)), 1000 / perSecond);
      }
      play.replaceChildren(icon(on ? "pause" : "play"));
      play.setAttribute("aria-label", on ? "Pause" : "Play");
      play.title = on ? "Pause" : "Play";
    };
    this.stop = () => run(false);
    return node("div", { class: "mk-clockwork" }, press(`First ${label.toLowerCase()}`, "first", () => go(0)),
      press(`One ${label.toLowerCase()} back`, "back", () => go(at() - 1)), play,
      press(`One ${label.toLowerCase()} on`, "on", () => go(at() + 1)),
      this.slider(name, label, { last, said, shown: false }));
  }

  /** Call `show` now and whenever one of the traits, the width or the theme changes; returns the clean-up. */
  keep(traits, show) {
    const { model, root } = this;
    const redraw = this.redraw = () => {
      for (const refresh of this.refreshers) refresh();
      show(Math.max(280, root.clientWidth - 18));
    };
    const events = traits.map((name) => `change:${name}`);
    for (const event of events) model.on(event, redraw);
    const unfollow = followTheme(root, redraw); // draws for the first time
    let width = root.clientWidth;
    const watch = new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - width) < 2) return;
      width = root.clientWidth;
      redraw();
    });
    watch.observe(root);
    return () => {
      this.stop?.();
      unfollow();
      watch.disconnect();
      for (const event of events) model.off(event, redraw);
    };
  }
}

/** Cards of numbers: [key, title, kind], each with a bar that shows its share of the largest it can be. */
class Cards {
  constructor(listed) {
    this.cards = Object.fromEntries(listed.map(([key, title, kind]) => {
      const [value, fill, detail] = [node("b", { "data-number": key }), node("i"), node("small")];
      const element = node("div", { class: `mk-card mk-${kind}` }, node("dt", { text: title }),
        node("dd", {}, value, node("span", { class: "mk-bar" }, fill), detail));
      return [key, { element, value, fill, detail }];
    }));
    this.element = node("dl", { class: "mk-cards" }, ...Object.values(this.cards).map(({ element }) => element));
  }

  show(key, value, share, detail = "") {
    const card = this.cards[key];
    write(card.value, value);
    write(card.detail, detail);
    card.fill.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
  }
}

/** A legend: [class of the colour chip, text]. */
function keyTo(listed) {
  return node("p", { class: "mk-legend" }, ...listed.map(([kind, text]) =>
    node("span", { class: "mk-chip" }, node("i", { class: `mk-${kind}` }), text)));
}

/** Words and lines of a drawing. */
const words = (x, y, kind, text) => shape("text", { x, y, class: kind }, String(text));
const line = (kind, d) => shape("path", { class: kind, d });

/** Give an SVG its size, empty; returns it. */
function cleared(svg, width, height, label) {
  const frame = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label };
  for (const [key, value] of Object.entries(frame)) svg.setAttribute(key, value);
  svg.replaceChildren();
  return svg;
}
