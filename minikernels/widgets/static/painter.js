// MaskPainter: a block mask on a canvas, over the attention that lies in each block.

/** Which blocks a pattern keeps: (row, column) of one head -> yes or no. */
const PATTERNS = {
  all: ["all blocks", () => true],
  none: ["no block", () => false],
  band: ["a band of n blocks", (b, i, j, n) => j <= b.own(i) && j > b.own(i) - n],
  sinks: ["first block and a band of n", (b, i, j, n) => !j || (j <= b.own(i) && j > b.own(i) - n)],
  strided: ["every n-th block and the diagonal", (b, i, j, n) => j % n === 0 || j === b.own(i)],
  top: ["the n with most attention", (b, i, j, n) => b.rank(i, j) < n],
};

/** The numbers behind the canvas: mass, mask, what is visible, and their sums. */
class Board {
  constructor(header, arrays, model) {
    Object.assign(this, header, { mass: arrays.mass, visible: arrays.visible, model });
    [this.m, this.n] = [header.rows.length, header.columns.length];
    this.size = this.m * this.n;
    this.read();
  }

  read() {
    this.cells = Uint8Array.from(this.model.get("mask"), Number);
  }

  get text() {
    return Array.from(this.cells).join("");
  }

  /** The column of the last block that a row sees. */
  own(i) {
    return Math.min(this.n - 1, Math.max(0, Math.floor(this.last[i] / this.block[1])));
  }

  /** How many visible blocks of the row hold more attention. */
  rank(i, j) {
    const at = this.head * this.size + i * this.n;
    let above = 0;
    for (let other = 0; other < this.n; other++) {
      const more = this.mass[at + other] - this.mass[at + j];
      if (this.visible[i * this.n + other] && (more > 0 || (more === 0 && other < j))) above++;
    }
    return above;
  }

  /** Keep or drop one block, in the head shown or in all. */
  paint(i, j, keep) {
    if (!this.visible[i * this.n + j]) return;
    for (const head of this.painted()) this.cells[head * this.size + i * this.n + j] = keep;
  }

  painted() {
    return this.model.get("together") ? this.every() : [this.model.get("head")];
  }

  every() {
    return Array.from({ length: this.heads }, (_, head) => head);
  }

  fill(pattern, n) {
    const keeps = PATTERNS[pattern][1];
    for (const head of this.painted()) {
      this.head = head;
      for (let c = 0; c < this.size; c++) {
        const [i, j] = [Math.floor(c / this.n), c % this.n];
        this.cells[head * this.size + c] = this.visible[c] && keeps(this, i, j, n) ? 1 : 0;
      }
    }
  }

  /** Sums over some heads: kept and visible blocks, their attention, work, bytes, rows that keep nothing. */
  sums(heads) {
    const sum = { kept: 0, seen: 0, held: 0, mass: 0, flop: 0, allFlop: 0, bytes: 0, allBytes: 0, empty: 0 };
    const each = this.width * this.itemsize;
    for (const head of heads) {
      for (let i = 0; i < this.m; i++) {
        let any = false;
        for (let j = 0; j < this.n; j++) {
          if (!this.visible[i * this.n + j]) continue;
          const at = head * this.size + i * this.n + j;
          const keep = this.cells[at];
          const [flop, moved] = [4 * this.rows[i] * this.columns[j] * this.width, 2 * this.columns[j] * each];
          any ||= keep;
          sum.seen++;
          sum.kept += keep;
          sum.mass += this.mass[at];
          sum.held += keep * this.mass[at];
          sum.allFlop += flop;
          sum.flop += keep * flop;
          sum.allBytes += moved;
          sum.bytes += keep * moved;
        }
        if (!any) sum.empty++;
        sum.bytes += 2 * this.rows[i] * each; // q and o cross once
        sum.allBytes += 2 * this.rows[i] * each;
      }
    }
    return sum;
  }
}

const percent = (share) => `${(100 * share).toFixed(share > 0.1 && share < 1 ? 1 : share === 1 || !share ? 0 : 2)} %`;

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "painter", "MaskPainter");
  const { header, arrays } = await unpack(model.get("_packed"));
  const board = new Board(header, arrays, model);
  const canvas = node("canvas", { tabindex: "0", role: "application", "aria-roledescription": "block mask",
    "aria-label": `Mask of ${board.m} by ${board.n} blocks: arrow keys move, space keeps or drops, `
      + "shift and arrow paints" });
  const cards = new Cards([["density", "Blocks kept", "lane"], ["recall", "Attention kept", "shared"],
    ["flop", "Float operations", "lane"], ["bytes", "HBM ↔ chip", "load"]]);
  const pattern = node("select", { "aria-label": "Pattern" },
    ...Object.entries(PATTERNS).map(([value, [text]]) => node("option", { value, text })));
  pattern.value = "sinks";
  const count = node("input",
    { type: "number", min: 1, max: board.n, value: Math.min(2, board.n), "aria-label": "n, in blocks" });
  const pointed = node("p", { class: "mk-what" });
  const fill = () => {
    board.fill(pattern.value, Math.max(1, Number(count.value) || 1));
    frame.send("mask", board.text);
  };
  frame.root.prepend(
    node("p", { class: "mk-what", text: `A row is a block of ${board.block[0]} queries, a column one of `
      + `${board.block[1]} keys. Paint to keep or drop; the darker, the more attention lies there.` }),
    node("div", { class: "mk-controls" },
      board.heads > 1 && frame.slider("head", "head", { last: board.heads - 1 }),
      board.heads > 1 && frame.checkbox("together", "paint every head"),
      pattern, node("label", {}, "n = ", count), frame.button("Fill", fill, "Fill with the pattern")),
    frame.says,
    node("div", { class: "mk-board" }, node("div", {}, canvas,
      keyTo([["kept", "kept: a dot in the corner"], ["dropped", "dropped"], ["hidden-block", "no query sees it"]])),
    node("div", { class: "mk-beside" }, cards.element, pointed)));

  const shown = () => frame.whole("head", board.heads - 1);
  const cursor = [0, 0];
  let [cell, stroke, told] = [1, null, 0];

  function draw(width) {
    const style = getComputedStyle(frame.root);
    const ink = (name) => style.getPropertyValue(name).trim();
    const tones = [["--mk-low", "--mk-high"], ["--mk-cell", "--mk-load"]]
      .map((pair) => pair.map((name) => colour(frame.root, name)));
    const fit = Math.min(Math.min(width, 520) / board.n, Math.max(4, 520 / board.m));
    cell = Math.max(1, Math.min(34, Math.floor(fit)));
    const context = sized(canvas, cell * board.n, cell * board.m);
    const line = cell > 5 ? 1 : 0;
    const at = shown() * board.size;
    for (let i = 0; i < board.m; i++) {
      let most = 1e-30;
      for (let c = i * board.n; c < (i + 1) * board.n; c++) {
        if (board.visible[c]) most = Math.max(most, board.mass[at + c]);
      }
      for (let j = 0; j < board.n; j++) {
        const c = i * board.n + j;
        const [x, y] = [j * cell, i * cell];
        if (!board.visible[c]) {
          context.fillStyle = ink("--mk-cell");
          context.fillRect(x, y, cell, cell);
          context.strokeStyle = ink("--mk-hatch");
          context.beginPath();
          context.moveTo(x, y + cell);
          context.lineTo(x + cell, y);
          context.stroke();
          continue;
        }
        const keep = board.cells[at + c];
        const share = (keep ? 0.3 : 0) + (keep ? 0.7 : 1) * Math.sqrt(board.mass[at + c] / most);
        const [low, high] = tones[keep];
        context.fillStyle = `rgb(${low.map((from, k) => Math.round(from + (high[k] - from) * share)).join(",")})`;
        context.fillRect(x, y, cell - line, cell - line);
        if (keep && cell > 8) { // a mark that needs no colour
          context.fillStyle = ink("--mk-ink");
          context.fillRect(x + cell - line - 4, y + cell - line - 4, 3, 3);
        }
      }
    }
    if (document.activeElement === canvas) {
      context.strokeStyle = ink("--mk-store");
      context.lineWidth = 2;
      context.strokeRect(cursor[1] * cell + 1, cursor[0] * cell + 1, cell - 2, cell - 2);
    }
  }

  function show(width) {
    if (!stroke) board.read();
    draw(width);
    const own = board.sums([shown()]);
    const every = board.sums(board.every());
    const [density, densities] = [own, every].map((sum) => sum.kept / Math.max(1, sum.seen));
    const [recall, recalls] = [own, every].map((sum) => (sum.mass ? sum.held / sum.mass : 1));
    const also = (text) => (board.heads > 1 ? `; all heads ${text}` : "");
    cards.show("density", percent(density), density, `${own.kept} of ${own.seen}${also(percent(densities))}`);
    cards.show("recall", percent(recall), recall, `lost ${percent(1 - recall)}${also(percent(recalls))}`);
    cards.show("flop", whole(own.flop), own.flop / Math.max(1, own.allFlop), `of ${whole(own.allFlop)}`);
    cards.show("bytes", bytes(own.bytes), own.bytes / Math.max(1, own.allBytes),
      `of ${bytes(own.allBytes)}, q and o on the chip`);
    const remark = own.empty ? `; ${counted(own.empty, "row")} of blocks keep nothing and give 0`
      : density ? `; at best ${figure4(1 / density)} times faster` : "";
    frame.say(`${percent(density)} of the blocks hold ${percent(recall)} of the attention${remark}`);
  }

  const name = (i, j) => {
    if (i < 0 || j < 0 || i >= board.m || j >= board.n) return "";
    const at = shown() * board.size + i * board.n + j;
    const what = !board.visible[i * board.n + j] ? "no query sees it"
      : `${board.cells[at] ? "kept" : "dropped"}, attention ${figure4(board.mass[at])}`;
    return `block of queries ${i}, of keys ${j}: ${what}`;
  };
  const placed = (event) => [Math.floor(event.offsetY / cell), Math.floor(event.offsetX / cell)];
  const tell = (now) => {
    if (!now && performance.now() - told < 80) return frame.redraw();
    told = performance.now();
    return frame.send("mask", board.text);
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [i, j] = placed(event);
    if (i >= board.m || j >= board.n) return;
    canvas.setPointerCapture(event.pointerId);
    [cursor[0], cursor[1]] = [i, j];
    stroke = { keep: 1 - board.cells[shown() * board.size + i * board.n + j] };
    board.paint(i, j, stroke.keep);
    tell(false);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [i, j] = placed(event);
    write(pointed, name(i, j));
    if (!stroke || i < 0 || j < 0 || i >= board.m || j >= board.n) return;
    board.paint(i, j, stroke.keep);
    tell(false);
  });
  const lift = () => {
    if (!stroke) return;
    stroke = null;
    tell(true);
  };
  for (const event of ["pointerup", "pointercancel"]) canvas.addEventListener(event, lift);
  for (const event of ["focus", "blur"]) canvas.addEventListener(event, () => frame.redraw());
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const [i, j] = cursor;
    const at = shown() * board.size + i * board.n + j;
    if (event.key === " " || event.key === "Enter") {
      board.paint(i, j, 1 - board.cells[at]);
      frame.send("mask", board.text);
    } else if (moves[event.key]) {
      cursor[0] = Math.max(0, Math.min(board.m - 1, i + moves[event.key][0]));
      cursor[1] = Math.max(0, Math.min(board.n - 1, j + moves[event.key][1]));
      if (event.shiftKey) {
        board.paint(...cursor, board.cells[at]);
        frame.send("mask", board.text);
      } else frame.redraw();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    write(pointed, name(...cursor));
    frame.speak(name(...cursor));
  });
  return frame.keep(["mask", "head", "together"], show);
}

export default { render: guarded(render) };
