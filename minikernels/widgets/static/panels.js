// What stands around the grids: what moved between the memories, registers, lanes, counters and the source.

/** Arrows between two memories: bytes that this step moved, each way. */
class Flow {
  constructor(from, to) {
    this.names = [from, to];
    this.arrows = ["in", "out"].map((way) => node("div", { class: `mk-arrow mk-${way}`, "aria-hidden": "true" },
      node("span", { class: "mk-shaft" }), node("small")));
    this.element = node("div", { class: "mk-flow" }, ...this.arrows);
  }

  show(moved) {
    this.arrows.forEach((arrow, way) => {
      arrow.classList.toggle("mk-on", moved[way] > 0);
      write(arrow.lastChild, moved[way] ? bytes(moved[way]) : "");
    });
  }
}

/** The bytes one step moved: [[HBM to chip, chip to HBM], [SRAM to registers, registers to SRAM]]. */
function movedBytes(play, step) {
  const moved = [[0, 0], [0, 0]];
  for (const a of play.accesses(step)) {
    const shared = play.grids[play.c.access_array[a]].space === "shared";
    moved[shared ? 1 : 0][play.c.access_op[a] === LOAD ? 0 : 1] += play.c.access_bytes[a];
  }
  return moved;
}

/** Named registers of the recorded lanes. */
class Registers {
  constructor(play) {
    this.play = play;
    if (!play.registers.length) {
      const how = "None were recorded: simt.record(registers=(\"m\", \"l\"), lanes=(0, 1)) keeps some.";
      this.element = node("p", { class: "mk-note", text: how });
      return;
    }
    this.rows = play.registers.map((name) => {
      return { row: node("tr", {}, node("th", { scope: "row", text: name })), cells: [] };
    });
    for (const { row, cells } of this.rows) {
      for (const lane of play.register_lanes) {
        cells.push(node("td", { "data-lane": lane }));
        row.append(cells.at(-1));
      }
    }
    const head = node("tr", {}, node("th", { scope: "col", text: "lane" }),
      ...play.register_lanes.map((lane) => node("th", { scope: "col", text: String(lane) })));
    this.element = node("div", { class: "mk-scroll", tabindex: "0", role: "region", "aria-label": "Registers" },
      node("table", { class: "mk-registers" },
        node("thead", {}, head), node("tbody", {}, ...this.rows.map(({ row }) => row))));
  }

  show(step) {
    if (!this.rows) return;
    this.play.registersAfter(step).forEach(({ values, fresh }, i) => {
      this.rows[i].row.classList.toggle("mk-fresh", fresh);
      values.forEach((value, lane) => write(this.rows[i].cells[lane], figure4(value)));
    });
  }
}

/** One row of 32 squares a warp: filled where the lane takes part. */
class Lanes {
  constructor(play) {
    this.play = play;
    this.warps = Math.ceil(play.threads / 32);
    this.canvas = node("canvas", { role: "img" });
    this.count = node("span");
    this.element = node("div", { class: "mk-lanes" }, node("h4", {}, "Lanes ", this.count), this.canvas);
  }

  paint(root, step, width) {
    const lanes = this.play.activeLanes(step);
    const side = Math.max(3, Math.min(11, Math.floor((width - 30) / 32)));
    const pitch = Math.max(4, Math.min(side, Math.floor(180 / this.warps))) + 2;
    const context = sized(this.canvas, 30 + 32 * side, this.warps * pitch);
    context.clearRect(0, 0, 2000, 2000);
    const style = getComputedStyle(root);
    const [on, off, ink] = ["--mk-lane", "--mk-off", "--mk-quiet"].map((name) => style.getPropertyValue(name));
    context.font = "9px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let lane = 0; lane < this.play.threads; lane++) {
      const [warp, place] = [lane >> 5, lane & 31];
      context.fillStyle = lanes.has(lane) ? on : off;
      context.fillRect(30 + place * side, warp * pitch, side - 1, pitch - 2);
      if (!place && (pitch >= 9 || warp % 4 === 0)) {
        context.fillStyle = ink;
        context.fillText(`w${warp}`, 2, warp * pitch + pitch / 2 - 1);
      }
    }
    write(this.count, `${lanes.count} of ${this.play.threads} active, a row is a warp`);
    this.canvas.setAttribute("aria-label",
      `${lanes.count} of ${this.play.threads} lanes active, in ${counted(this.warps, "warp")}`);
  }
}

/** What the block has cost so far, and what the whole launch costs. */
class Counters {
  constructor(play, largest) {
    this.play = play;
    this.largest = largest;
    const cards = [
      { key: "loadBytes", title: "HBM → chip", kind: "load", unit: bytes, launch: play.traffic.load_bytes,
        detail: (at) => this.sectors(at("loadBytes"), at("loadSectors")) },
      { key: "storeBytes", title: "chip → HBM", kind: "store", unit: bytes, launch: play.traffic.store_bytes,
        detail: (at) => this.sectors(at("storeBytes"), at("storeSectors")) },
      { key: "shared", title: "SRAM wavefronts", kind: "shared", unit: whole,
        launch: play.traffic.shared_load_wavefronts + play.traffic.shared_store_wavefronts,
        detail: (at) => counted(at("conflicts"), "bank conflict") },
      { key: "barriers", title: "Barriers", kind: "barrier", unit: whole, launch: play.traffic.barriers,
        detail: () => "every lane waits" },
      { key: "atomicRequests", title: "Atomic requests", kind: "atomic", unit: whole,
        launch: play.traffic.atomic_requests, detail: () => "lanes take turns" },
    ].filter((card) => card.key !== "atomicRequests" || card.launch);
    this.cards = cards.map((card) => this.build(card));
    this.element = node("dl", { class: "mk-counters" }, ...this.cards.map((card) => card.element));
  }

  build(card) {
    const value = node("b", { "data-counter": card.key });
    const fill = node("i");
    const detail = node("small");
    const [block, launch] = [node("small"), node("small")];
    const element = node("div", { class: `mk-counter mk-${card.kind}` }, node("dt", { text: card.title }),
      node("dd", {}, value, node("span", { class: "mk-bar" }, fill), detail, block, launch));
    return { ...card, element, value, fill, detailLine: detail, ofBlock: block, ofLaunch: launch };
  }

  sectors(moved, sectors) {
    const each = Math.round((10 * moved) / Math.max(1, sectors)) / 10;
    return sectors ? `in ${counted(sectors, "sector")} of 32 B, ${each} B asked of each` : "nothing yet";
  }

  total(key, step) {
    const at = (name) => this.play.totals[name][Math.min(step, this.play.steps - 1) + 1];
    return key === "shared" ? at("sharedRead") + at("sharedWritten") : at(key);
  }

  show(step) {
    for (const card of this.cards) {
      const now = this.total(card.key, step);
      write(card.value, card.unit(now));
      card.fill.style.width = `${(100 * now) / Math.max(1, this.largest(card.key))}%`;
      write(card.detailLine, card.detail((name) => this.total(name, step)));
      write(card.ofBlock, `this block ${card.unit(this.total(card.key, this.play.steps - 1))}`);
      write(card.ofLaunch, `whole launch ${card.unit(card.launch)}`);
    }
  }
}

/** The kernel's text: the present line lit, and beside each line what it moved through HBM in all. */
class Source {
  constructor(play) {
    this.play = play;
    this.lines = new Map();
    const lines = play.source.replace(/\n$/, "").split("\n");
    const indent = Math.min(...lines.filter((l) => l.trim()).map((l) => l.length - l.trimStart().length));
    const list = lines.map((text, i) => {
      const number = play.first_line + i;
      const cost = node("span", { class: "mk-cost" });
      const line = node("div", { class: "mk-line", "data-line": number },
        node("span", { class: "mk-number", text: String(number) }),
        node("code", { text: text.slice(indent) || " " }), cost);
      this.lines.set(number, { line, cost });
      return line;
    });
    const label = `Source of ${play.kernel}`;
    this.box = node("div", { class: "mk-code", tabindex: "0", role: "region", "aria-label": label }, ...list);
    this.element = node("div", { class: "mk-source" },
      node("h4", {}, play.filename, node("span", { text: " HBM bytes of each line, whole block" })), this.box);
    this.costs();
  }

  costs() {
    for (const [number, { cost }] of this.lines) {
      const moved = this.play.bytesByLine.get(number);
      write(cost, moved ? bytes(moved) : "");
    }
  }

  show(step) {
    const number = this.play.c.step_line[step];
    if (number === this.number) return;
    this.lines.get(this.number)?.line.classList.remove("mk-now");
    this.number = number;
    const now = this.lines.get(number)?.line;
    if (!now) return;
    now.classList.add("mk-now");
    const top = now.offsetTop - this.box.offsetTop;
    const away = top - this.box.scrollTop;
    if (away < 24 || away > this.box.clientHeight - 48) this.box.scrollTop = top - this.box.clientHeight / 2;
  }
}

/** Draw where in the recording HBM is loaded and stored and where the barriers stand. */
function drawTimeline(canvas, plays, root, width) {
  const height = 13 * plays.length;
  const context = sized(canvas, width, height);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(root);
  const ink = (name) => style.getPropertyValue(name).trim();
  const last = Math.max(...plays.map((play) => play.steps)) - 1;
  plays.forEach((play, i) => {
    const top = 13 * i;
    context.fillStyle = ink("--mk-off");
    context.fillRect(0, top + 5, (width * play.steps) / (last + 1), 2);
    for (let s = 0; s < play.steps; s++) {
      const x = (s / Math.max(1, last)) * (width - 1);
      const [loaded, stored] = movedBytes(play, s)[0];
      if (loaded || stored) {
        context.fillStyle = ink(loaded ? "--mk-load" : "--mk-store");
        context.fillRect(x, loaded ? top : top + 7, 1, 5);
      }
      if (play.c.step_kind[s] === 1) {
        context.fillStyle = ink("--mk-ink");
        context.fillRect(x, top, 1, 12);
      }
    }
  });
}
