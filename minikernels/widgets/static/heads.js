// HeadGroups: query heads above, SRAM tiles between where a kernel shares them, key/value heads in HBM below.

/** What G key/value heads cost: [bytes of cache a token, bytes read a step, FLOP a byte]. */
function headCost({ heads, keys, width, itemsize }, groups, shared) {
  const each = 2 * width * itemsize;
  const read = (shared ? groups : heads) * keys * each;
  return { cache: groups * each, read, intensity: (4 * heads * keys * width) / read };
}

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "heads", "HeadGroups");
  const { header } = await unpack(model.get("_packed"));
  const { heads, divisors, quality } = header;
  const named = (g) => (g === heads ? " (MHA)" : g === 1 ? " (MQA)" : "");
  const svg = shape("svg", { class: "mk-drawing" });
  const cards = new Cards([["cache", "Cache a token", "lane"], ["read", "HBM → chip, a step", "load"],
    ["intensity", "FLOP a byte read", "shared"],
    ...(Object.keys(quality).length ? [["quality", "Measured", "lane"]] : [])]);
  frame.root.prepend(
    node("p", { class: "mk-what", text: `One step of decoding: ${counted(heads, "query head")}, `
      + `${whole(header.keys)} keys, D = ${header.width}, ${header.itemsize} B an element.` }),
    node("div", { class: "mk-controls" },
      frame.select("groups", "Key/value heads G", divisors.map((g) => [g, `G = ${g}${named(g)}`])),
      frame.checkbox("shared", "a block takes the whole group"),
      frame.slider("head", "follow query head", { last: heads - 1 })),
    frame.says, svg, cards.element,
    keyTo([["load", "bytes of K and V from HBM"], ["shared", "read again in SRAM, no HBM traffic"]]));

  function show(width) {
    const [shared, head] = [model.get("shared"), frame.whole("head", heads - 1)];
    const groups = divisors.includes(model.get("groups")) ? model.get("groups") : 1;
    const each = heads / groups;
    const chosen = Math.floor(head / each);
    const pitch = width / heads;
    const gap = Math.min(12, pitch / 3);
    const queryX = (h) => (h + 0.5) * pitch;
    const groupX = (g) => (g + 0.5) * each * pitch;
    const [top, middle, bottom] = [22, 84, 150];
    const sentence = `query head ${head} reads key/value head ${head} // ${each} = ${chosen}; `
      + `keys and values are read from HBM ${counted(shared ? groups : heads, "time")}, `
      + `once a ${shared ? "group" : "query head"}`;
    cleared(svg, width, 204, sentence);
    const wires = shape("g", { class: "mk-wires" });
    svg.append(wires);
    const lit = (g) => (g === chosen ? " mk-lit" : "");
    for (let h = 0; h < heads; h++) {
      const g = Math.floor(h / each);
      const from = shared ? middle : bottom;
      const share = shared ? 0 : (h % each - (each - 1) / 2) * Math.min(7, (each * pitch - 2 * gap) / each);
      const [x, to] = [groupX(g) + share, queryX(h)];
      wires.append(line((shared ? "mk-again" : "mk-moves") + (h === head ? " mk-lit" : ""),
        `M${x} ${from} C${x} ${from - 30} ${to} ${top + 50} ${to} ${top + 22}`));
      const box = { x: h * pitch + 2, y: top, width: Math.max(2, pitch - 4), height: 22, rx: 3 };
      const square = shape("rect", { ...box, class: `mk-query${h === head ? " mk-lit" : ""}`, "data-query": h },
        "", `query head ${h} reads key/value head ${g}`);
      square.addEventListener("pointerdown", () => frame.send("head", h));
      svg.append(square);
      if (pitch > 18 || h % 8 === 0) {
        svg.append(words(to, top + 15, "mk-t mk-mid mk-on", pitch > 30 ? `q${h}` : h));
      }
    }
    for (let g = 0; g < groups; g++) {
      const box = { x: g * each * pitch + gap / 2, width: Math.max(3, each * pitch - gap), rx: 3 };
      if (shared) {
        wires.append(line(`mk-moves${lit(g)}`, `M${groupX(g)} ${bottom} V${middle + 24}`));
        const tile = { ...box, y: middle, height: 24, class: `mk-tile${lit(g)}` };
        svg.append(shape("rect", tile, "", "a tile of K and V in SRAM"));
      }
      svg.append(shape("rect", { ...box, y: bottom, height: 30, class: `mk-cache${lit(g)}`, "data-group": g },
        "", `key/value head ${g}: ${bytes(header.keys * 2 * header.width * header.itemsize)} in HBM`));
      const name = each * pitch > 60 ? `K, V ${g}` : g;
      if (each * pitch > 26) svg.append(words(groupX(g), bottom + 19, "mk-t mk-mid", name));
    }
    svg.append(words(2, 13, "mk-q", "query heads, on the chip"),
      words(2, bottom + 46, "mk-q", "HBM: the cache, a key/value head each"));
    if (shared) svg.append(words(2, middle - 6, "mk-q mk-back", "SRAM: one tile a group"));

    const [now, full] = [headCost(header, groups, shared), headCost(header, heads, false)];
    cards.show("cache", bytes(now.cache), now.cache / full.cache, `MHA keeps ${bytes(full.cache)}`);
    cards.show("read", bytes(now.read), now.read / full.read, shared && each > 1 ? `1/${each} of reading for each head`
      : each > 1 ? "the cache shrank, the reading did not" : "each head has its own keys");
    cards.show("intensity", figure4(now.intensity), now.intensity / headCost(header, 1, true).intensity,
      `at most ${figure4(headCost(header, 1, true).intensity)}, with G = 1`);
    if (cards.cards.quality) {
      const bits = quality[groups];
      const best = Math.min(...Object.values(quality));
      cards.show("quality", bits === undefined ? "not measured" : `${figure4(bits)} bits a byte`,
        bits === undefined ? 0 : best / bits, `the best is ${figure4(best)}; fewer bits are better`);
    }
    frame.say(sentence);
  }
  return frame.keep(["groups", "shared", "head"], show);
}

export default { render: guarded(render) };
