// One array as a grid of cells: grey shades for values, hatching where nothing is written, colour for what moves.

const TRAIL = 20; // steps that a touched cell takes to fade

/** The colours of the present theme, ready for pixels. */
function palette(root) {
  const [low, high] = [colour(root, "--mk-low"), colour(root, "--mk-high")];
  const shades = Array.from({ length: 256 }, (_, i) => low.map((from, k) => from + ((high[k] - from) * i) / 255));
  return {
    shades,
    operations: ["--mk-load", "--mk-store", "--mk-atomic"].map((name) => colour(root, name)),
    hatch: getComputedStyle(root).getPropertyValue("--mk-hatch").trim(),
    paper: getComputedStyle(root).getPropertyValue("--mk-cell").trim(),
  };
}

const mix = (a, b, share) => a.map((from, k) => from + (b[k] - from) * share);

/** A colour as the number that stands in an image's memory. */
function pixel(colour, alpha = 255) {
  const [r, g, b] = colour.map(Math.round);
  return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

class TileView {
  constructor(play, number, onPoint) {
    this.play = play;
    this.number = number;
    this.grid = play.grids[number];
    this.size = this.grid.cellRows * this.grid.cellColumns;
    this.caption = node("figcaption");
    this.canvas = node("canvas", { role: "img" });
    this.element = node("figure", { class: "mk-tile", "data-array": this.grid.name }, this.caption, this.canvas);
    this.cells = document.createElement("canvas");
    this.cells.width = Math.max(1, this.grid.cellColumns);
    this.cells.height = Math.max(1, this.grid.cellRows);
    this.image = this.cells.getContext("2d").createImageData(this.cells.width, this.cells.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.canvas.addEventListener("pointermove", (event) => onPoint(this.pointed(event)));
    this.canvas.addEventListener("pointerleave", () => onPoint(""));
    this.name();
  }

  /** Label the grid: its slice, its shape, and what a cell stands for where that is more than one element. */
  name() {
    const { grid } = this;
    const { rowPool, colPool } = grid;
    const pooled = rowPool * colPool > 1 ? `, a cell is ${rowPool}×${colPool}` : "";
    this.caption.replaceChildren(
      node("b", { text: grid.labels[this.play.block].replaceAll(" ", "") }),
      node("span", { text: `${grid.rows}×${grid.columns} ${grid.dtype}${pooled}` }));
  }

  /** Fit the cells into a width: `high` tall or less, no larger than asked, square where there is room. */
  resize(width, high, largest) {
    const { cellRows: rows, cellColumns: columns } = this.grid;
    const fit = Math.min(width / columns, Math.max(1, high), largest);
    this.cellWidth = Math.min(width / columns, Math.max(2 * fit, 58 / columns), largest);
    this.cellHeight = Math.max(fit, Math.min(largest, 14 / rows));
    this.width = Math.max(1, this.cellWidth * columns);
    this.height = Math.max(1, this.cellHeight * rows);
    this.context = sized(this.canvas, this.width, this.height);
    this.element.style.maxWidth = `${Math.max(this.width, 58)}px`;
    this.shown = undefined;
  }

  /** Take the colours of a theme. */
  colours(colours) {
    this.palette = colours;
    this.shades = colours.shades.map((shade) => pixel(shade));
    this.loadedShades = colours.shades.map((shade) => pixel(mix(shade, colours.operations[LOAD], 0.24)));
    this.shown = undefined;
  }

  get values() {
    return this.play.values[this.number][this.play.block];
  }

  shadeOf(value) {
    const [low, high] = this.grid.scale;
    const shade = Math.round((255 * (value - low)) / (high - low));
    return Number.isNaN(shade) ? 0 : Math.max(0, Math.min(255, shade));
  }

  unwritten(cell) {
    return this.values.bits[cell] === UNWRITTEN;
  }

  /** Paint a cell as it rests: its value's shade, tinted once it has been loaded; clear where unwritten. */
  rest(cell, step) {
    const value = this.values[cell];
    if (this.unwritten(cell)) this.pixels[cell] = 0;
    else {
      const shades = this.play.firstLoad[this.number][cell] <= step ? this.loadedShades : this.shades;
      this.pixels[cell] = shades[this.shadeOf(value)];
    }
  }

  /** Call f(cell, operation, step) for every cell that the chosen block touched from step `from` to `to`. */
  touched(from, to, f) {
    const c = this.play.c;
    for (let s = Math.max(0, from); s <= Math.min(to, this.play.steps - 1); s++) {
      for (let a = this.play.firstAccess[s]; a < this.play.firstAccess[s + 1]; a++) {
        if (c.access_array[a] !== this.number || c.access_block[a] !== this.play.block) continue;
        for (let p = c.access_start[a]; p < c.access_start[a + 1]; p++) {
          if (c.pool_cell[p] >= 0) f(c.pool_cell[p], c.access_op[a], s);
        }
      }
    }
  }

  /** Show the state after `step`; from the step shown before only what changed is painted. */
  paint(step) {
    if (this.shown === step) return;
    const from = Math.min(this.shown ?? 0, step) - TRAIL;
    const to = Math.max(this.shown ?? 0, step);
    let changed = this.shown === undefined;
    if (changed || to - from > 6 * TRAIL) {
      for (let cell = 0; cell < this.size; cell++) this.rest(cell, step);
      changed = true;
    } else {
      this.touched(from, to, (cell) => {
        this.rest(cell, step);
        changed = true;
      });
    }
    this.touched(step - TRAIL + 1, step, (cell, operation, s) => this.light(cell, operation, step - s));
    this.shown = step;
    if (changed && this.context) this.draw();
  }

  /** Light a touched cell: fully in the present step, then fading. */
  light(cell, operation, age) {
    const lit = this.palette.operations[operation];
    const share = age === 0 ? 1 : 0.62 * (1 - age / TRAIL);
    const value = this.values[cell];
    if (this.unwritten(cell)) this.pixels[cell] = pixel(lit, Math.round(255 * share));
    else this.pixels[cell] = pixel(mix(this.palette.shades[this.shadeOf(value)], lit, share));
  }

  /** Put the cells on the screen, over hatching that shows through where nothing is written. */
  draw() {
    const { context, width, height } = this;
    this.cells.getContext("2d").putImageData(this.image, 0, 0);
    context.fillStyle = this.palette.paper;
    context.fillRect(0, 0, width, height);
    context.strokeStyle = this.palette.hatch;
    context.lineWidth = 1;
    context.beginPath();
    for (let x = -height; x < width; x += 6) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
    context.imageSmoothingEnabled = this.cellWidth < 1; // no lit cell may fall between two dots
    context.drawImage(this.cells, 0, 0, width, height);
    if (this.cellWidth >= 30 && this.cellHeight >= 14) this.numbers();
  }

  /** Write the values into cells that are large enough to hold them. */
  numbers() {
    const { context, cellWidth, cellHeight, grid } = this;
    context.font = "10px ui-monospace, monospace";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let cell = 0; cell < this.size; cell++) {
      if (this.unwritten(cell)) continue;
      const [blue, green, red] = [16, 8, 0].map((shift) => (this.pixels[cell] >>> shift) & 255);
      context.fillStyle = 0.3 * red + 0.6 * green + 0.1 * blue > 140 ? "#111" : "#fff";
      const [row, column] = [Math.floor(cell / grid.cellColumns), cell % grid.cellColumns];
      const text = figure4(this.values[cell]);
      context.fillText(text, (column + 0.5) * cellWidth, (row + 0.5) * cellHeight, cellWidth - 2);
    }
  }

  /** Say which element lies under the pointer, and what it holds. */
  pointed(event) {
    const { grid } = this;
    const row = Math.floor(event.offsetY / this.cellHeight);
    const column = Math.floor(event.offsetX / this.cellWidth);
    if (row < 0 || column < 0 || row >= grid.cellRows || column >= grid.cellColumns) return "";
    const cell = row * grid.cellColumns + column;
    const holds = this.unwritten(cell) ? "not written yet" : figure4(this.values[cell]);
    if (grid.rowPool * grid.colPool > 1) {
      return `${grid.name}: mean of ${grid.rowPool}×${grid.colPool} elements, ${holds}`;
    }
    return `${this.elementName(row * grid.columns + column)} = ${holds}`;
  }

  /** An element's name in Python: k[0, 1, 12, 3]. */
  elementName(flat) {
    const { shape, fixed, at, name } = this.grid;
    const index = [];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (fixed[axis]) index.unshift(at[this.play.block][axis]);
      else {
        index.unshift(axis ? flat % shape[axis] : flat);
        flat = Math.floor(flat / shape[axis]);
      }
    }
    return `${name}[${index.join(", ")}]`;
  }

  /** Say for screen readers what the canvas shows. */
  describe(step) {
    const counts = [0, 0, 0];
    this.touched(step, step, (cell, operation) => counts[operation]++);
    const now = counts.map((n, i) => (n ? `${counted(n, "element")} ${["loaded", "stored", "updated"][i]}` : ""));
    this.canvas.setAttribute("aria-label", `${this.grid.labels[this.play.block]}, ${this.grid.rows} rows by `
      + `${this.grid.columns} columns in ${this.grid.space === "shared" ? "SRAM" : "HBM"}; this step: `
      + (now.filter(Boolean).join(", ") || "not touched"));
  }
}
