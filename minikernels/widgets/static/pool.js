// PoolView: page tables, the pool's pages, and what is wasted beside a cache that reserves room.

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "pool", "PoolView");
  const { header } = await unpack(model.get("_packed"));
  const { pages, P, reserve } = header;
  const tables = node("div", { class: "mk-tables", role: "group", "aria-label": "Page tables" });
  const [svg, chart] = [shape("svg", { class: "mk-drawing" }), shape("svg", { class: "mk-drawing mk-history" })];
  const tokens = node("input", { type: "number", min: 1, max: pages * P, value: P + 1, "aria-label": "Tokens" });
  const strip = (name) => {
    const [full, empty] = [node("span", { class: "mk-tokens" }), node("span", { class: "mk-wasted" })];
    const said = node("small");
    const bar = node("span", { class: "mk-strip" }, full, empty);
    return { full, empty, said, rows: [node("span", { text: name }), bar, said] };
  };
  const use = { paged: strip("pages"), whole: strip("contiguous") };

  /** The pool after the first `step` events, what the last of them said, and [tokens, slots in use] after each. */
  const at = (step, history) => {
    const pool = new Pool(pages, P);
    let said = "nothing has happened yet";
    const note = () => history?.push([pool.filled.reduce((sum, n) => sum + n, 0), P * (pages - pool.unused.length)]);
    note();
    for (const event of model.get("events").slice(0, step)) {
      said = pool.apply(event);
      note();
    }
    return { pool, said };
  };
  /** An event from now on: what was recorded after this step is gone. */
  const issue = (...event) => {
    const events = [...model.get("events").slice(0, model.get("step")), event];
    const { pool } = at(model.get("step"));
    const before = pool.next;
    pool.apply(event);
    model.set("events", events);
    model.set("step", events.length);
    if (pool.next > before) model.set("selected", before);
    else if (!pool.held.has(model.get("selected"))) model.set("selected", Math.max(-1, ...pool.held.keys()));
    model.save_changes();
  };
  const amount = () => Math.max(1, Math.min(pages * P, Math.round(Number(tokens.value)) || 1));
  const chosen = () => model.get("selected");
  const actions = {
    request: frame.button("New request", () => issue("allocate", amount())),
    like: frame.button("Same beginning", () => {
      const length = at(model.get("step")).pool.lengths.get(chosen());
      issue("allocate", amount(), chosen(), Math.min(amount(), length));
    }, "New request that begins like the chosen sequence"),
    append: frame.button("Append", () => issue("append", chosen(), amount()), "Append tokens to the chosen sequence"),
    fork: frame.button("Fork", () => issue("fork", chosen()), "Fork the chosen sequence"),
    free: frame.button("Free", () => issue("free", chosen()), "Free the chosen sequence"),
  };
  const last = () => model.get("events").length;
  frame.root.prepend(
    node("p", { class: "mk-what", text: `A pool of ${pages} pages of ${P} tokens in HBM. A sequence's token t lies `
      + `in page table[t // ${P}], slot t % ${P}. Choose a sequence, then act on it.` }),
    node("div", { class: "mk-controls" }, frame.clock("step", "Event", { last, perSecond: 2,
      said: (step) => `event ${step} of ${last()}` })),
    node("div", { class: "mk-controls" }, node("label", {}, "tokens ", tokens), ...Object.values(actions)),
    frame.says,
    node("div", { class: "mk-board" }, node("div", {}, node("h4", { text: "page tables, one a sequence" }), tables),
      node("div", {}, node("h4", { text: "pages in HBM" }), svg)),
    keyTo([["load", "chosen sequence"], ["atomic", "shared, ×n sequences"], ["lane", "another sequence's token"],
      ["wasted", "empty slot of a page in use"]]),
    node("h4", { text: "slots that hold a token, and slots set aside for nothing" }),
    node("div", { class: "mk-use" }, ...use.paged.rows, ...use.whole.rows),
    node("h4", { text: "slots of the pool, event by event" }), chart);

  function drawTables(pool) {
    const focused = document.activeElement?.dataset?.sequence;
    tables.replaceChildren(...[...pool.held].map(([sequence, held]) => {
      const chips = held.map((page) => node("i",
        { class: pool.references[page] > 1 ? "mk-shared-page" : "", text: String(page) }));
      const length = pool.lengths.get(sequence);
      const label = `Sequence ${sequence}, ${tokensOf(length)}, pages ${held.join(", ") || "none"}`;
      const row = node("button", { type: "button", class: "mk-sequence", "data-sequence": sequence, "aria-label": label,
        "aria-pressed": String(sequence === chosen()), onclick: () => frame.send("selected", sequence) },
        node("b", { text: `seq ${sequence}: ${tokensOf(length)}` }), ...chips);
      return row;
    }));
    if (!pool.held.size) tables.append(node("p", { class: "mk-what", text: "No sequence. Issue a request." }));
    if (focused !== undefined) tables.querySelector(`[data-sequence="${focused}"]`)?.focus();
  }

  function drawPages(pool, room) {
    const slot = Math.max(3, Math.min(14, 56 / P));
    const [wide, high] = [P * slot + 14, 42];
    const across = Math.max(1, Math.floor(room / wide));
    const used = pages - pool.unused.length;
    cleared(svg, room, Math.ceil(pages / across) * high + 4, `${used} of ${pages} pages in use`);
    const mine = new Set(pool.held.get(chosen()));
    for (let page = 0; page < pages; page++) {
      const [x, y] = [(page % across) * wide + 4, Math.floor(page / across) * high + 3];
      const count = pool.references[page];
      const group = shape("g", { "data-page": page, "data-references": count,
        class: `${mine.has(page) ? "mk-mine " : ""}${count > 1 ? "mk-many" : ""}` });
      const border = { x: x - 3, y: y - 2, width: wide - 6, height: high - 5, rx: 4, class: "mk-frame-page" };
      const held = count ? `${counted(count, "sequence")}, ${tokensOf(pool.filled[page])}` : "free";
      group.append(shape("rect", border, "", `page ${page}: ${held}`),
        words(x, y + 12, count ? "mk-t" : "mk-q", `${page}${count > 1 ? ` ×${count}` : ""}`));
      for (let s = 0; s < P; s++) {
        const kind = s < pool.filled[page] ? "mk-full" : count ? "mk-empty" : "mk-idle";
        group.append(shape("rect", { x: x + s * slot, y: y + 16, width: slot - 1.5, height: 16, class: kind }));
      }
      svg.append(group);
    }
  }

  /** Tokens and empty slots after each event, as areas; the rest of the height is free. */
  function drawHistory(history, step, width) {
    const [high, most] = [62, pages * P];
    const x = (i) => (i / Math.max(1, history.length - 1)) * (width - 4) + 2;
    const y = (n) => high - (n / most) * (high - 4);
    const area = (pick) => `M${x(0)} ${y(pick(history[0]))} `
      + `${history.map((now, i) => `H${x(i)} V${y(pick(now))}`).join(" ")} V${high} H${x(0)} Z`;
    const worst = Math.max(...history.map(([held, slots]) => slots - held));
    cleared(chart, width, high + 2,
      `Slots over ${counted(history.length - 1, "event")}: at most ${worst} empty slots in pages in use`);
    chart.append(shape("rect", { x: 1, y: 4, width: width - 2, height: high - 4, class: "mk-idle" }),
      line("mk-lost", area(([, slots]) => slots)), line("mk-stored", area(([held]) => held)),
      line("mk-cursor", `M${x(step)} 0 V${high}`));
  }

  function show(width) {
    const { pool, said } = at(model.get("step"));
    drawTables(pool);
    drawPages(pool, Math.max(160, svg.parentElement.clientWidth));
    for (const name of ["like", "append", "fork", "free"]) actions[name].disabled = !pool.held.has(chosen());
    const held = pool.filled.reduce((sum, n) => sum + n, 0);
    const slots = P * (pages - pool.unused.length);
    const lengths = [...pool.lengths.values()];
    const alone = lengths.reduce((sum, n) => sum + n, 0);
    const reserved = lengths.reduce((sum, n) => sum + Math.max(n, reserve), 0);
    const scale = Math.max(pages * P, reserved);
    const fill = (row, full, empty, text) => {
      row.full.style.width = `${(100 * full) / scale}%`;
      row.empty.style.width = `${(100 * empty) / scale}%`;
      write(row.said, text);
    };
    const share = (part, all) => (all ? `${Math.round((100 * part) / all)} % used` : "nothing in use");
    const saved = pool.references.reduce((sum, n) => sum + Math.max(0, n - 1), 0);
    fill(use.paged, held, slots - held, `${whole(held)} of ${whole(slots)} slots in use, ${share(held, slots)}`
      + (saved ? `; sharing saves ${pagesOf(saved)}` : ""));
    fill(use.whole, alone, reserved - alone, `${whole(alone)} of ${whole(reserved)} slots if each request reserves `
      + `${tokensOf(reserve)}, ${share(alone, reserved)}${reserved > pages * P ? "; more than there are" : ""}`);
    const history = [];
    at(last(), history);
    drawHistory(history, Math.min(model.get("step"), last()), width);
    frame.say(said);
  }
  return frame.keep(["events", "step", "selected"], show);
}

export default { render: guarded(render) };
