// WarpView: 32 lanes above, the sectors or the banks that serve them below, and the cost in words.

const WARP = 32;
const SECTOR = 32;
const BANK = 4;

/** Distinct 4-byte words that each bank has to serve for these byte addresses. */
function bankWords(addresses, itemsize) {
  const banks = Array.from({ length: 32 }, () => new Map());
  addresses.forEach((address, lane) => {
    const first = Math.floor(address / BANK);
    for (let word = first; word <= Math.floor((address + itemsize - 1) / BANK); word++) {
      const bank = banks[word % 32];
      if (!bank.has(word)) bank.set(word, []);
      bank.get(word).push(lane);
    }
  });
  return banks;
}

const deepest = (banks) => Math.max(...banks.map((bank) => bank.size));

/** What one request costs, as the SIMT machine counts it. */
function requestCost(indices, itemsize) {
  const addresses = indices.map((index) => index * itemsize);
  const sectors = [...new Set(addresses.map((address) => Math.floor(address / SECTOR)))].sort((a, b) => a - b);
  let waves = deepest(bankWords(addresses, itemsize));
  if (itemsize > BANK && waves > 1) {
    // Wide elements are served half a warp at a time.
    waves = deepest(bankWords(addresses.slice(0, 16), itemsize)) + deepest(bankWords(addresses.slice(16), itemsize));
  }
  const needed = Math.min(waves, itemsize > BANK ? 2 : 1);
  return { addresses, sectors, wavefronts: waves, conflicts: waves - needed, asked: WARP * itemsize };
}

/** Global memory: the touched sectors in address order, each of their 32 bytes filled where a lane asks for it. */
function drawSectors(svg, { addresses, sectors }, indices, itemsize, width) {
  const pitch = Math.min(96, width / sectors.length);
  const left = (width - pitch * sectors.length) / 2;
  const [top, height] = [108, 22];
  const laneX = (lane) => ((lane + 0.5) * width) / WARP;
  const gap = Math.min(3, pitch / 5);
  const byteWidth = (pitch - gap) / SECTOR;
  const place = new Map(sectors.map((sector, i) => [sector, left + i * pitch + gap / 2]));
  const lines = shape("g", { class: "mk-wires" });
  const boxes = shape("g", { class: "mk-sectors" });
  for (const sector of sectors) {
    const box = { x: place.get(sector), y: top, width: pitch - gap, height, class: "mk-box", "data-sector": sector };
    const first = sector * SECTOR;
    boxes.append(shape("rect", box, "", `sector ${sector}: bytes ${first} to ${first + SECTOR - 1}`));
  }
  addresses.forEach((address, lane) => {
    const sector = Math.floor(address / SECTOR);
    const x = place.get(sector) + (address % SECTOR) * byteWidth;
    const wide = Math.max(1, itemsize * byteWidth - (pitch > 40 ? 0.7 : 0));
    boxes.append(shape("rect", { x, y: top, width: wide, height, class: "mk-used" },
      "", `lane ${lane}: index ${indices[lane]}`));
    const [from, to] = [laneX(lane), x + (itemsize * byteWidth) / 2];
    lines.append(shape("path", { d: `M${from} 38 C${from} 72 ${to} 72 ${to} ${top}` }));
  });
  svg.append(lines, boxes);
  if (pitch > 26) {
    for (const sector of sectors) {
      const x = place.get(sector) + (pitch - gap) / 2;
      svg.append(shape("text", { x, y: top + height + 13, class: "mk-label" }, String(sector * SECTOR)));
    }
  }
  svg.append(shape("text", { x: 0, y: top + height + 30, class: "mk-label mk-start" },
    pitch > 26 ? "sectors of 32 bytes, by the address of their first byte" : "sectors of 32 bytes, in address order"));
  return top + height + 36;
}

/** Shared memory: under each bank the words it has to serve, one wavefront each. */
function drawBanks(svg, { addresses }, itemsize, width) {
  const banks = bankWords(addresses, itemsize);
  const deep = Math.max(1, deepest(banks));
  const pitch = width / 32;
  const row = Math.max(6, Math.min(16, 220 / deep));
  const top = 92;
  const lines = shape("g", { class: "mk-wires" });
  const boxes = shape("g", { class: "mk-banks" });
  banks.forEach((bank, b) => {
    const name = width > 600 || b % 4 === 0 ? String(b) : "";
    svg.append(shape("text", { x: (b + 0.5) * pitch, y: top - 5, class: "mk-label" }, name));
    [...bank].forEach(([word, lanes], depth) => {
      const box = { x: b * pitch + 1, y: top + depth * row, width: Math.max(2, pitch - 2), height: row - 1 };
      const kind = depth ? "mk-box mk-conflict" : "mk-box mk-used";
      const tip = `bank ${b}, word ${word}: ${lanes.length > 1 ? "lanes" : "lane"} ${lanes.join(", ")}`;
      boxes.append(shape("rect", { ...box, class: kind, "data-bank": b }, "", tip));
      for (const lane of new Set(lanes)) {
        const [from, to] = [(lane + 0.5) * pitch, (b + 0.5) * pitch];
        lines.append(shape("path", { d: `M${from} 38 C${from} 62 ${to} 58 ${to} ${top - 15}` }));
      }
    });
  });
  svg.append(lines, boxes);
  const end = top + deep * row + 14;
  const note = width > 500 ? "32 banks of 4 bytes; each row below the first is one more pass"
    : "32 banks; each further row is a pass";
  svg.append(shape("text", { x: 0, y: end, class: "mk-label mk-start" }, note));
  return end + 6;
}

function render({ model, el }) {
  const root = node("div",
    { class: "mk mk-warp", role: "group", "aria-label": "WarpView", "data-lm-suppress-shortcuts": true });
  const field = node("input",
    { type: "text", "aria-label": "Index of each lane", spellcheck: "false", maxlength: LONGEST });
  const option = (choices) => choices.map(([value, text]) => node("option", { value, text }));
  const space = node("select", { "aria-label": "Memory" },
    ...option([["global", "global memory (sectors)"], ["shared", "shared memory (banks)"]]));
  const itemsize = node("select", { "aria-label": "Bytes of an element" },
    ...option([1, 2, 4, 8].map((n) => [n, `${n} B elements`])));
  const wrong = node("p", { class: "mk-wrong", role: "alert" });
  const says = node("p", { class: "mk-says" });
  const known = node("p", { class: "mk-what" });
  const svg = shape("svg", { role: "img" });
  root.append(node("div", { class: "mk-controls" }, node("label", {}, "index = ", field), space, itemsize),
    known, wrong, says, svg);
  el.append(root);
  const speak = liveRegion(root);

  function show() {
    const names = model.get("names");
    const given = Object.entries(names).map(([name, value]) => `${name} = ${value}`);
    write(known, ["lane = 0 … 31", ...given, "operators + - * // % << >> & ^ |, min, max"].join(", "));
    let indices;
    try {
      indices = evaluate(field.value, names);
      const lane = indices.findIndex((index) => index < 0);
      if (lane >= 0) throw new ExpressionError(`lane ${lane}: index ${indices[lane]} is before the array's start`);
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      field.setAttribute("aria-invalid", "true");
      write(wrong, error.message);
      return false;
    }
    field.removeAttribute("aria-invalid");
    write(wrong, "");
    const size = model.get("itemsize");
    const cost = requestCost(indices, size);
    const shared = model.get("space") === "shared";
    const width = Math.max(280, root.clientWidth - 18);
    svg.replaceChildren();
    const pitch = width / WARP;
    for (let lane = 0; lane < WARP; lane++) {
      const box = { x: lane * pitch + 1, y: 16, width: pitch - 2, height: 20, rx: 2 };
      svg.append(shape("rect", { ...box, class: "mk-lane", "data-lane": lane },
        "", `lane ${lane} asks for index ${indices[lane]}`));
      if (width > 600 || lane % 4 === 0) {
        const x = (lane + 0.5) * pitch;
        svg.append(shape("text", { x, y: 11, class: "mk-label" }, String(lane)));
        const short = String(indices[lane]);
        if (width > 600 && short.length < 6) svg.append(shape("text", { x, y: 30, class: "mk-index" }, short));
      }
    }
    const height = shared ? drawBanks(svg, cost, size, width) : drawSectors(svg, cost, indices, size, width);
    const frame = { width, height, viewBox: `0 0 ${width} ${height}` };
    for (const [key, value] of Object.entries(frame)) svg.setAttribute(key, value);
    const conflicts = cost.conflicts ? counted(cost.conflicts, "bank conflict") : "no bank conflict";
    const price = shared
      ? `${counted(cost.wavefronts, "wavefront")}, ${conflicts}`
      : `${counted(cost.sectors.length, "sector")}, ${bytes(cost.sectors.length * SECTOR)} move`;
    const sentence = `32 lanes ask for ${bytes(cost.asked)}: ${price}`;
    write(says, sentence);
    svg.setAttribute("aria-label", sentence);
    speak(sentence);
    return true;
  }

  const read = () => {
    if (document.activeElement !== field || !field.hasAttribute("aria-invalid")) field.value = model.get("expression");
    space.value = model.get("space");
    itemsize.value = model.get("itemsize");
    show();
  };
  const send = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  field.addEventListener("input", () => show() && send("expression", field.value));
  space.addEventListener("change", () => send("space", space.value));
  itemsize.addEventListener("change", () => send("itemsize", Number(itemsize.value)));
  const traits = ["expression", "space", "itemsize", "names"].map((name) => `change:${name}`);
  for (const event of traits) model.on(event, read);
  const unfollow = followTheme(root);
  read();
  const watch = new ResizeObserver(show);
  watch.observe(root);
  return () => {
    unfollow();
    watch.disconnect();
    for (const event of traits) model.off(event, read);
  };
}

export default { render: guarded(render) };
