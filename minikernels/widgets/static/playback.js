// One recorded launch in memory: what each array holds after any step, and what the step did. Draws nothing.

const [LOAD, STORE, ATOMIC] = [0, 1, 2];
// NaNs told apart by their bits: what a lane holds (HELD of trace.py), and a cell that nobody has written.
const [HELD, UNWRITTEN] = [0x7fc00001, 0x7fc00002];

/** The bits of a Float32Array, in the same memory: copying numbers may change a NaN's. */
const bitsOf = (floats) => new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
const COUNTERS = ["loadBytes", "loadSectors", "storeBytes", "storeSectors", "atomicRequests",
  "sharedRead", "sharedWritten", "conflicts", "barriers"];

class Playback {
  /** Take trace number `index` out of the unpacked state. */
  constructor(header, arrays, index) {
    Object.assign(this, header);
    this.c = {};
    for (const [name, array] of Object.entries(arrays)) {
      const [owner, column] = name.split("/");
      if (Number(owner) === index) this.c[column] = array;
    }
    this.firstAccess = this.starts(this.c.access_step);
    this.firstRegister = this.starts(this.c.register_step);
    this.valueStart = new Int32Array(this.c.access_op.length + 1);
    for (let a = 0; a < this.c.access_op.length; a++) {
      const count = this.c.access_op[a] === LOAD ? 0 : this.c.access_start[a + 1] - this.c.access_start[a];
      this.valueStart[a + 1] = this.valueStart[a] + count;
    }
    this.values = this.grids.map((grid, number) => this.contentsBefore(grid, number));
    this.rememberOldValues();
    this.fillRegisters();
    this.chooseBlock(0);
  }

  /** For rows in step order, the first row of every step: rows of step s are [first[s], first[s + 1]). */
  starts(steps) {
    const first = new Int32Array(this.steps + 1);
    for (const step of steps) first[step + 1]++;
    for (let s = 0; s < this.steps; s++) first[s + 1] += first[s];
    return first;
  }

  /** One Float32Array per block; blocks that stay at one place of a global array share it. */
  contentsBefore(grid, number) {
    const size = grid.cellRows * grid.cellColumns;
    const initial = this.c[`initial${number}`];
    const kept = new Map();
    return grid.slice.map((place) => {
      if (!kept.has(place)) {
        const values = initial ? initial.slice(place * size, (place + 1) * size) : new Float32Array(size);
        values.bits = bitsOf(values);
        // Outputs are full of NaN before a launch, and so is all shared memory here.
        for (let cell = 0; cell < size; cell++) {
          if (!initial || Number.isNaN(values[cell])) values.bits[cell] = UNWRITTEN;
        }
        kept.set(place, values);
      }
      return kept.get(place);
    });
  }

  /** Run the whole recording once, keeping what every store overwrote: then a step back is as cheap as one forward. */
  rememberOldValues() {
    this.storeBits = bitsOf(this.c.store_value);
    this.oldBits = new Uint32Array(this.c.store_value.length);
    this.at = -1;
    this.seek(this.steps - 1, true);
    this.seek(-1);
  }

  /** Bring every array to the state after `step`, in either direction. */
  seek(step, remember = false) {
    const c = this.c;
    while (this.at < step) {
      this.at++;
      for (let a = this.firstAccess[this.at]; a < this.firstAccess[this.at + 1]; a++) {
        if (c.access_op[a] === LOAD) continue;
        const into = this.values[c.access_array[a]][c.access_block[a]].bits;
        for (let p = c.access_start[a], v = this.valueStart[a]; p < c.access_start[a + 1]; p++, v++) {
          const cell = c.pool_cell[p];
          if (cell < 0) continue;
          if (remember) this.oldBits[v] = into[cell];
          into[cell] = this.storeBits[v];
        }
      }
    }
    while (this.at > step) {
      for (let a = this.firstAccess[this.at + 1] - 1; a >= this.firstAccess[this.at]; a--) {
        if (c.access_op[a] === LOAD) continue;
        const into = this.values[c.access_array[a]][c.access_block[a]].bits;
        for (let p = c.access_start[a + 1] - 1, v = this.valueStart[a + 1] - 1; p >= c.access_start[a]; p--, v--) {
          if (c.pool_cell[p] >= 0) into[c.pool_cell[p]] = this.oldBits[v];
        }
      }
      this.at--;
    }
  }

  /** Where a lane took no part in an assignment, its register keeps what it had. */
  fillRegisters() {
    const width = this.blocks.length * this.register_lanes.length;
    const latest = new Map();
    const { register_name: names, register_value: values } = this.c;
    const bits = this.registerBits = bitsOf(values);
    for (let r = 0; r < names.length; r++) {
      const before = latest.get(names[r]);
      for (let i = 0; i < width; i++) {
        const at = r * width + i;
        if (Number.isNaN(values[at]) && bits[at] !== HELD && before !== undefined) bits[at] = bits[before * width + i];
      }
      latest.set(names[r], r);
    }
  }

  /** Register values of the chosen block after `step`: one row a name, and whether this step assigned it. */
  registersAfter(step) {
    const lanes = this.register_lanes.length;
    const width = this.blocks.length * lanes;
    const end = this.firstRegister[Math.min(step, this.steps - 1) + 1];
    const rows = this.registers.map((name) => ({ name, values: new Array(lanes).fill(undefined), fresh: false }));
    let missing = rows.length;
    const seen = new Set();
    for (let r = end - 1; r >= 0 && missing; r--) {
      const row = this.c.register_name[r];
      if (seen.has(row)) continue;
      seen.add(row);
      missing--;
      const from = r * width + this.block * lanes;
      rows[row].values = Array.from(this.c.register_value.subarray(from, from + lanes), (value, lane) =>
        (Number.isNaN(value) && this.registerBits[from + lane] !== HELD ? undefined : value));
      rows[row].fresh = this.c.register_step[r] === step;
    }
    return rows;
  }

  /** Show one of the recorded blocks: its running counters, and when it first loaded each cell. */
  chooseBlock(block) {
    this.block = block;
    const c = this.c;
    this.totals = Object.fromEntries(COUNTERS.map((name) => [name, new Float64Array(this.steps + 1)]));
    this.firstLoad = this.grids.map((grid) => new Int32Array(grid.cellRows * grid.cellColumns).fill(this.steps));
    this.bytesByLine = new Map();
    for (let s = 0; s < this.steps; s++) {
      for (const name of COUNTERS) this.totals[name][s + 1] = this.totals[name][s];
      if (c.step_kind[s] === 1 && this.activeLanes(s).count) this.totals.barriers[s + 1]++;
      for (const a of this.accesses(s)) this.count(a, s);
    }
  }

  /** Add one access to the counters after step s. */
  count(a, s) {
    const c = this.c;
    const add = (name, amount) => { this.totals[name][s + 1] += amount; };
    const grid = this.grids[c.access_array[a]];
    if (grid.space === "shared") {
      add(c.access_op[a] === LOAD ? "sharedRead" : "sharedWritten", c.access_units[a]);
      add("conflicts", this.conflicts(a));
    } else {
      const line = c.step_line[s];
      this.bytesByLine.set(line, (this.bytesByLine.get(line) ?? 0) + c.access_bytes[a]);
      if (c.access_op[a] === ATOMIC) add("atomicRequests", c.access_requests[a]);
      else {
        add(c.access_op[a] === LOAD ? "loadBytes" : "storeBytes", c.access_bytes[a]);
        add(c.access_op[a] === LOAD ? "loadSectors" : "storeSectors", c.access_units[a]);
      }
    }
    if (grid.space === "shared" || c.access_op[a] !== LOAD) return;
    const first = this.firstLoad[c.access_array[a]];
    for (let p = c.access_start[a]; p < c.access_start[a + 1]; p++) {
      if (c.pool_cell[p] >= 0 && first[c.pool_cell[p]] > s) first[c.pool_cell[p]] = s;
    }
  }

  /** Wavefronts beyond one a request (two where elements are 8 bytes wide). */
  conflicts(a) {
    const grid = this.grids[this.c.access_array[a]];
    return Math.max(0, this.c.access_units[a] - this.c.access_requests[a] * Math.max(1, grid.itemsize / 4));
  }

  /** The chosen block's access rows of one step. */
  accesses(step) {
    const rows = [];
    if (step < 0 || step >= this.steps) return rows;
    for (let a = this.firstAccess[step]; a < this.firstAccess[step + 1]; a++) {
      if (this.c.access_block[a] === this.block) rows.push(a);
    }
    return rows;
  }

  /** { count, has(lane) } of the chosen block's active lanes at one step. */
  activeLanes(step) {
    const width = Math.ceil(this.threads / 8);
    const from = (step * this.blocks.length + this.block) * width;
    const bits = this.c.step_active.subarray(from, from + width);
    let count = 0;
    for (let byte of bits) for (; byte; byte &= byte - 1) count++;
    return { count, has: (lane) => ((bits[lane >> 3] >> (lane & 7)) & 1) === 1 };
  }

  /** The lanes that took part in one access. */
  lanesOf(a) {
    const lanes = new Set();
    for (let p = this.c.access_start[a]; p < this.c.access_start[a + 1]; p++) lanes.add(this.c.pool_lane[p]);
    return lanes.has(-1) ? this.activeLanes(this.c.access_step[a]).count : lanes.size;
  }

  /** One sentence for one step: "line 34: 32 lanes load k, 512 bytes in 16 sectors". */
  sentence(step) {
    const line = `line ${this.c.step_line[step]}`;
    const active = this.activeLanes(step).count;
    if (this.c.step_kind[step] === 1) return `${line}: barrier, all ${active} lanes of the block wait for each other`;
    if (this.c.step_kind[step] === 2) return `${line}: the lanes of each warp wait for each other`;
    if (!active) return `${line}: this block takes no part`;
    const parts = this.accesses(step).map((a) => this.phrase(a));
    if (parts.length) return `${line}: ${parts.join("; ")}`;
    const fresh = this.registersAfter(step).filter((row) => row.fresh).map((row) => row.name);
    const who = `${counted(active, "lane")} ${fresh.length ? `set ${fresh.join(", ")}` : "compute"}`;
    return `${line}: ${who}, no memory moves`;
  }

  /** What one access did: "32 lanes load k, 512 bytes in 16 sectors". */
  phrase(a) {
    const c = this.c;
    const grid = this.grids[c.access_array[a]];
    const shared = grid.space === "shared";
    const verb = [shared ? "read" : "load", shared ? "write" : "store", "update"][c.access_op[a]];
    const lanes = this.lanesOf(a);
    const who = `${counted(lanes, "lane")} ${lanes === 1 ? `${verb}s` : verb} ${grid.name}`;
    const conflicts = shared ? this.conflicts(a) : 0;
    const units = counted(c.access_units[a], shared ? "wavefront" : "sector");
    return `${who}, ${counted(c.access_bytes[a], "byte")} in ${units}`
      + (conflicts ? `, ${counted(conflicts, "bank conflict")}` : "");
  }

  /** The next barrier after (or, with -1, before) a step; the end of the recording where there is none. */
  barrier(step, direction) {
    for (let s = step + direction; s >= 0 && s < this.steps; s += direction) if (this.c.step_kind[s] === 1) return s;
    return direction > 0 ? this.steps - 1 : 0;
  }
}
