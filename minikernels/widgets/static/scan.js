// ScanTree: elements from left to right, levels from top to bottom, a filled dot for every combination.

/** After each level, the first input that each element has taken in: it holds inputs first to itself. */
function origins(levels, n) {
  const rows = [Array.from({ length: n }, (_, t) => t)];
  for (const level of levels) {
    const [before, after] = [rows.at(-1), [...rows.at(-1)]];
    for (const [left, right] of level) after[right] = before[left];
    rows.push(after);
  }
  return rows;
}

/** The dots, as "level/element", from which one element's present value was made. */
function ancestry(levels, step, element) {
  const seen = new Set([`${step}/${element}`]);
  let wanted = new Set([element]);
  for (let y = step; y > 0; y--) {
    const before = new Set(wanted);
    for (const [left, right] of levels[y - 1]) if (wanted.has(right)) before.add(left);
    for (const t of before) seen.add(`${y - 1}/${t}`);
    wanted = before;
  }
  return seen;
}

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "scan", "ScanTree");
  const { header: { n, names, levels }, arrays } = await unpack(model.get("_packed"));
  const svg = shape("svg", { class: "mk-drawing" });
  const cards = new Cards([["work", "Work: combinations", "load"], ["depth", "Depth: levels that wait", "store"],
    ["busy", "Lanes at work", "shared"]]);
  const depth = () => levels[model.get("algorithm")].length;
  const work = (name) => levels[name].reduce((sum, level) => sum + level.length, 0);
  frame.root.prepend(
    node("p", { class: "mk-what", text: "h[t] = decay[t] h[t−1] + drive[t], in a block's SRAM, a lane an element. Two "
      + "neighbours combine to one (decay, drive), in any grouping: so many can be combined at once." }),
    node("div", { class: "mk-controls" },
      frame.select("algorithm", "Algorithm", Object.entries(names)),
      frame.clock("step", "Level", { last: depth, perSecond: 2, said: (step) => `level ${step} of ${depth()}` }),
      frame.slider("element", "origin of element", { last: n - 1 })),
    frame.says, svg,
    keyTo([["fresh-chip", "combined at this level"], ["made-chip", "combined before"],
      ["origin-chip", "what the chosen element is made of"]]),
    cards.element);

  function show(width) {
    const name = model.get("algorithm");
    const all = levels[name];
    const step = frame.whole("step", all.length);
    const element = frame.whole("element", n - 1);
    const pitch = (width - 34) / n;
    const high = Math.max(9, Math.min(34, 400 / (all.length + 1)));
    const radius = Math.max(1.8, Math.min(7, pitch / 2.6, high / 2.6));
    const [x, y] = [(t) => 30 + (t + 0.5) * pitch, (level) => 24 + level * high];
    const from = origins(all, n);
    const lit = ancestry(all, step, element);
    const bottom = y(all.length) + 16;
    const done = all.slice(0, step).reduce((sum, level) => sum + level.length, 0);
    const [decay, drive] = arrays[name].subarray(2 * (step * n + element), 2 * (step * n + element) + 2);
    const held = from[step][element];
    const inputs = held === element ? `input ${element} alone` : `inputs ${held} to ${element}`;
    const sentence = (step ? `level ${step} of ${all.length}: ${counted(all[step - 1].length, "combination")} at once, `
      + `${done} of ${work(name)} so far; ` : "before the first level: ")
      + `element ${element} holds ${inputs}: decay ${figure4(decay)}, drive ${figure4(drive)}`
      + (held === 0 ? ", done" : "");
    cleared(svg, width, bottom + 18, sentence);
    const edges = shape("g", { class: "mk-edges" });
    svg.append(edges);
    all.forEach((level, i) => {
      for (const [left, right] of level) {
        const mine = i < step && lit.has(`${i + 1}/${right}`);
        const kind = mine ? "mk-lit" : i + 1 === step ? "mk-now" : i < step ? "mk-done" : "";
        for (const t of [left, right]) edges.append(line(kind, `M${x(t)} ${y(i)} L${x(right)} ${y(i + 1)}`));
      }
    });
    for (let level = 0; level <= all.length; level++) {
      const made = new Set(level ? all[level - 1].map(([, right]) => right) : []);
      for (let t = 0; t < n; t++) {
        const place = { cx: x(t), cy: y(level) };
        if (level && !made.has(t) && !(level === step && t === element)) {
          if (level <= step && radius > 3) svg.append(shape("circle", { ...place, r: 1.5, class: "mk-carried" }));
          continue;
        }
        const kind = level <= step && lit.has(`${level}/${t}`) ? "mk-origin"
          : level > step ? "" : level === step && level ? "mk-fresh" : "mk-made";
        const tip = `element ${t} after level ${level}: inputs ${from[level][t]} to ${t}`;
        const named = { class: kind, "data-level": level, "data-element": t };
        const dot = shape("circle", { ...place, r: radius, ...named }, "", tip);
        dot.addEventListener("pointerdown", () => frame.send("element", t));
        svg.append(dot);
      }
      if (high > 12 || level % 8 === 0) svg.append(words(20, y(level) + 4, "mk-q mk-end", level));
    }
    const every = Math.ceil(20 / pitch);
    for (let t = 0; t < n; t += every) svg.append(words(x(t), 12, "mk-q mk-mid", t));
    if (pitch > 34) {
      for (let t = 0; t < n; t++) {
        const value = arrays[name][2 * (step * n + t) + 1];
        const ready = from[step][t] === 0;
        svg.append(words(x(t), bottom + 8, `${ready ? "mk-t" : "mk-q"} mk-mid`, figure4(value)));
      }
      svg.append(words(2, bottom + 8, "mk-q", "h"));
    }

    const most = (f) => Math.max(1, ...Object.keys(levels).map(f));
    const list = (f) => Object.entries(names).map(([key, text]) => `${text} ${f(key)}`).join(", ");
    const deep = (key) => levels[key].length;
    cards.show("work", whole(work(name)), work(name) / most(work), list(work));
    cards.show("depth", whole(all.length), all.length / most(deep), list(deep));
    const busy = all.length ? work(name) / (all.length * n) : 0;
    cards.show("busy", `${Math.round(100 * busy)} %`, busy, `of ${counted(n, "lane")}, on average over the levels`);
    frame.say(sentence);
  }
  return frame.keep(["algorithm", "step", "element"], show);
}

export default { render: guarded(render) };
