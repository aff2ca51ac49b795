// TilePlayer: one clock, one or two recorded launches on it.

const TALL = 230; // height of the tallest grid, in CSS pixels

/** One launch: HBM on the left, SRAM in the middle, registers on the right; below them the cost and the source. */
class Stage {
  constructor(play, root, titled, largest, onPoint) {
    this.play = play;
    this.root = root;
    this.tiles = play.grids.map((grid, number) => new TileView(play, number, onPoint));
    const inSpace = (space) => this.tiles.filter((tile) => tile.grid.space === space && tile.size);
    this.global = inSpace("global");
    this.shared = inSpace("shared");
    this.flows = [new Flow("HBM", "SRAM"), new Flow("SRAM", "registers")];
    this.registers = new Registers(play);
    this.lanes = new Lanes(play);
    this.counters = new Counters(play, largest);
    this.source = new Source(play);
    const panel = (kind, title, what, ...children) => node("section",
      { class: `mk-panel mk-${kind}`, "aria-label": title },
      node("h3", { text: title }), node("p", { class: "mk-what", text: what }), ...children);
    const held = this.shared.reduce((sum, { grid }) => sum + grid.itemsize * grid.rows * grid.columns, 0);
    const inUse = held ? `${bytes(held)} in use by this block` : "This kernel keeps nothing in shared memory.";
    const grids = (tiles) => node("div", { class: "mk-tiles" }, ...tiles.map((tile) => tile.element));
    this.panels = {
      hbm: panel("hbm", "HBM", "global memory: off the chip, large, slow", grids(this.global)),
      sram: panel("sram", "SRAM", "shared memory: on the chip, one a block, fast", grids(this.shared),
        node("p", { class: "mk-note", text: inUse })),
      registers: panel("regs", "Registers", "private to each lane, fastest",
        this.registers.element, this.lanes.element),
    };
    this.says = node("p", { class: "mk-says" });
    this.element = node("div", { class: "mk-stage" },
      titled && node("h3", { class: "mk-kernel", text: play.kernel }), this.says,
      node("div", { class: "mk-memory" }, this.panels.hbm, this.flows[0].element, this.panels.sram,
        this.flows[1].element, this.panels.registers),
      this.counters.element, this.source.element);
  }

  /** Fit the grids to the room that the panels have. */
  resize() {
    const inner = (panel) => Math.max(80, panel.clientWidth - 26);
    this.fit(this.global, inner(this.panels.hbm), 16);
    this.fit(this.shared, inner(this.panels.sram), 34);
    this.laneRoom = inner(this.panels.registers);
  }

  /** Share a panel's width among its grids: as many a row as makes their cells largest without growing too tall. */
  fit(tiles, room, largest) {
    const rows = Math.max(1, ...tiles.map(({ grid }) => grid.cellRows));
    const deep = tiles.filter(({ grid }) => 8 * grid.cellRows > rows); // a strip of few rows fits anywhere
    const columns = Math.max(1, ...deep.map(({ grid }) => grid.cellColumns));
    const high = TALL / rows; // of a cell, the same for all, so that sizes compare
    const most = Math.max(1, Math.min(tiles.length, Math.floor((room + 12) / 70)));
    let best = { few: most, cell: 0 };
    for (let few = most; few >= 1; few--) {
      const cell = Math.min((room - 12 * (few - 1)) / few / columns, high, largest);
      const height = Math.ceil(tiles.length / few) * (Math.max(1, cell) * rows + 45);
      if (cell > best.cell * 1.05 && height < 1.8 * TALL) best = { few, cell };
    }
    const { few } = best;
    const share = (room - 12 * (few - 1)) / few;
    for (const tile of tiles) {
      const wide = tile.grid.cellColumns;
      tile.resize(wide > share ? Math.min(room, wide) : share, high, largest);
    }
  }

  recolour() {
    const colours = palette(this.root);
    for (const tile of this.tiles) tile.colours(colours);
  }

  chooseBlock(block) {
    this.play.chooseBlock(block);
    for (const tile of this.tiles) {
      tile.name();
      tile.shown = undefined;
    }
    this.source.costs();
  }

  show(clock, describe) {
    const step = Math.min(clock, this.play.steps - 1);
    this.play.seek(step);
    for (const tile of [...this.global, ...this.shared]) {
      tile.paint(step);
      if (describe) tile.describe(step);
    }
    const done = clock > step;
    this.element.classList.toggle("mk-done", done);
    movedBytes(this.play, done ? -1 : step).forEach((moved, i) => this.flows[i].show(moved));
    this.registers.show(step);
    this.lanes.paint(this.root, step, this.laneRoom);
    this.counters.show(step);
    this.source.show(step);
    write(this.says, done ? `finished after ${whole(this.play.steps)} steps` : this.play.sentence(step));
  }
}

/** The keys, and what each does to the clock. */
const KEYS = [["Space", "play or pause"], ["← →", "one step"], ["Shift ← →", "ten steps"],
  ["B", "next barrier"], ["Home End", "first, last"]];

function legend(plays) {
  const chip = (kind, text) => node("span", { class: "mk-chip" }, node("i", { class: `mk-${kind}` }), text);
  return node("p", { class: "mk-legend" }, chip("load", "loaded now"), chip("store", "stored now"),
    plays.some((play) => play.traffic.atomic_requests) && chip("atomic", "updated now"),
    chip("fading", `moved up to ${TRAIL} steps ago`),
    chip("loaded", "loaded before"), chip("unwritten", "not written yet"), chip("ramp", "value, low to high"));
}

async function render({ model, el }) {
  const root = node("div", { class: "mk mk-player", tabindex: "0", role: "group", "data-lm-suppress-shortcuts": true });
  el.append(root);
  const { header, arrays } = await unpack(model.get("_packed"));
  const plays = header.traces.map((trace, i) => new Playback(trace, arrays, i));
  const last = Math.max(...plays.map((play) => play.steps)) - 1;
  const pair = plays.length > 1;
  root.setAttribute("aria-label", `TilePlayer: ${plays.map((play) => play.kernel).join(" beside ")}`);
  root.classList.toggle("mk-pair", pair);

  const pointed = node("p", { class: "mk-pointed", "aria-hidden": "true" });
  const counterKeys = (key) => Math.max(...stages.map((stage) => stage.counters.total(key, stage.play.steps - 1)));
  const stages = plays.map((play) => new Stage(play, root, pair, counterKeys, (text) => write(pointed, text)));
  const clock = node("output", { class: "mk-clock" });
  const scrub = node("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "Step", class: "mk-scrub" });
  const timeline = node("canvas", { class: "mk-timeline", "aria-hidden": "true" });
  const speak = liveRegion(root);
  const button = (name, drawing, onclick) => node("button",
    { type: "button", "aria-label": name, title: name, onclick }, icon(drawing));
  const play = button("Play", "play", () => playing(!model.get("playing")));
  const speed = node("select", { "aria-label": "Speed, steps a second" },
    ...header.speeds.map((n) => node("option", { value: n, text: `${n} steps/s` })));
  const blocks = plays[0].blocks.slice(0, Math.min(...plays.map((p) => p.blocks.length)));
  const block = node("select", { "aria-label": "Block" },
    ...blocks.map((b, i) => node("option", { value: i, text: `block ${b.join(", ")}` })));
  block.hidden = blocks.length < 2;

  const what = plays.map((p) => `${p.kernel}: block (${p.blocks[0].join(", ")}) of a grid of ${p.grid.join(" × ")}, `
    + `${p.threads} threads in ${counted(Math.ceil(p.threads / 32), "warp")}`);
  root.prepend(
    node("header", {}, ...what.map((text) => node("p", { class: "mk-launch", text }))),
    node("div", { class: "mk-controls" }, button("First step", "first", () => go(0)),
      button("One step back", "back", () => go(now - 1)), play,
      button("One step on", "on", () => go(now + 1)), button("Next barrier", "barrier", () => go(barrier(1))),
      node("div", { class: "mk-track" }, timeline, scrub), clock, speed, block),
    node("div", { class: "mk-stages" }, ...stages.map((stage) => stage.element)),
    node("footer", {}, node("div", { class: "mk-foot" }, legend(plays), pointed),
      node("p", { class: "mk-keys" }, ...KEYS.flatMap(([key, does]) => [node("kbd", { text: key }), ` ${does}  `]))));

  let now = Math.min(model.get("step"), last);
  let frame = 0;
  let told = 0;
  const barrier = (direction) => {
    const playing = plays.filter((p) => now < p.steps || direction < 0);
    const found = playing.map((p) => p.barrier(Math.min(now, p.steps), direction));
    return found.length ? Math[direction > 0 ? "min" : "max"](...found) : last;
  };

  function show() {
    const running = model.get("playing");
    for (const stage of stages) stage.show(now, !running);
    scrub.value = now;
    scrub.setAttribute("aria-valuetext", `step ${now} of ${last}`);
    write(clock, `step ${whole(now)} of ${whole(last)}`);
    const sentences = stages.map((stage) => (pair ? `${stage.play.kernel}, ` : "") + stage.says.textContent);
    if (!running) speak(sentences.join(". "));
  }

  /** Move the clock; Python hears of it at once, or some times a second while it plays. */
  function go(step, quiet = false) {
    now = Math.max(0, Math.min(last, step));
    show();
    if (quiet && performance.now() - told < 120) return;
    told = performance.now();
    model.set("step", now);
    model.save_changes();
  }

  function playing(on) {
    if (on && now >= last) go(0);
    model.set("playing", on);
    model.save_changes();
  }

  /** Run the clock at the chosen speed, as many steps a frame as it takes. */
  function run() {
    cancelAnimationFrame(frame);
    const on = model.get("playing");
    play.replaceChildren(icon(on ? "pause" : "play"));
    play.setAttribute("aria-label", on ? "Pause" : "Play");
    if (!on) return go(now);
    let [before, owed] = [performance.now(), 0];
    const tick = (time) => {
      owed += ((time - before) / 1000) * model.get("speed");
      before = time;
      if (owed >= 1) {
        go(now + Math.floor(owed), true);
        owed %= 1;
      }
      if (now >= last) playing(false);
      else frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
  }

  const keys = {
    " ": () => playing(!model.get("playing")),
    ArrowRight: (event) => go(now + (event.shiftKey ? 10 : 1)),
    ArrowLeft: (event) => go(now - (event.shiftKey ? 10 : 1)),
    Home: () => go(0),
    End: () => go(last),
    b: () => go(barrier(1)),
    B: () => go(barrier(-1)),
  };
  root.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const inControl = target instanceof HTMLSelectElement || (key === " " && target instanceof HTMLButtonElement);
    const act = keys[key];
    if (!act || inControl || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act(event);
  });
  scrub.addEventListener("input", () => go(Number(scrub.value)));
  timeline.addEventListener("pointerdown", (event) => go(Math.round((event.offsetX / timeline.clientWidth) * last)));
  for (const [select, name] of [[speed, "speed"], [block, "block"]]) {
    select.addEventListener("change", () => {
      model.set(name, Number(select.value));
      model.save_changes();
    });
  }

  const chooseSpeed = () => {
    if (![...speed.options].some((o) => Number(o.value) === model.get("speed"))) {
      speed.append(node("option", { value: model.get("speed"), text: `${model.get("speed")} steps/s` }));
    }
    speed.value = model.get("speed");
  };
  const chooseBlock = () => {
    block.value = model.get("block");
    stages.forEach((stage) => stage.chooseBlock(model.get("block")));
    show();
  };
  const chooseStep = () => {
    if (model.get("step") === now || model.get("playing")) return;
    now = Math.min(model.get("step"), last);
    show();
  };
  const heard = { "change:step": chooseStep, "change:playing": run, "change:speed": chooseSpeed,
    "change:block": chooseBlock };
  for (const [event, f] of Object.entries(heard)) model.on(event, f);

  const layout = () => {
    stages.forEach((stage) => stage.resize());
    drawTimeline(timeline, plays, root, Math.max(60, scrub.clientWidth));
    show();
  };
  const unfollow = followTheme(root, () => {
    stages.forEach((stage) => stage.recolour());
    if (root.isConnected && scrub.clientWidth) layout();
  });
  if (model.get("block") >= blocks.length) model.set("block", 0); // an address may ask for anything
  if (model.get("block")) stages.forEach((stage) => stage.chooseBlock(model.get("block")));
  if (model.get("speed") < 1) model.set("speed", 1);
  chooseSpeed();
  block.value = model.get("block");
  layout();
  let width = root.clientWidth;
  const watch = new ResizeObserver(() => {
    if (Math.abs(root.clientWidth - width) < 2) return;
    width = root.clientWidth;
    layout();
  });
  watch.observe(root);
  if (model.get("playing")) run();
  return () => {
    cancelAnimationFrame(frame);
    unfollow();
    watch.disconnect();
    for (const [event, f] of Object.entries(heard)) model.off(event, f);
  };
}

export default { render: guarded(render) };
