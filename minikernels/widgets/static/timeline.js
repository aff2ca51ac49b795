// CacheTimeline: tokens across, steps down; the bytes beside it, and the slots of the present step in full.

const [EVICTED, MERGED, FEWER, HELD] = [1, 2, 3, 4];
const SHOWN = 160; // slots that are written out

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "timeline", "CacheTimeline");
  const { header: { steps, tokens, text, bits, bytes: sizes }, arrays } = await unpack(model.get("_packed"));
  const { status, merged } = arrays;
  const canvas = node("canvas", { role: "img" });
  const svg = shape("svg", { class: "mk-drawing" });
  const slots = node("div",
    { class: "mk-slots", role: "group", "aria-label": "Slots of the cache at this step", tabindex: "0" });
  const cards = new Cards([["now", "This cache, in HBM", "load"], ["full", "Everything kept", "lane"],
    ["held", "Tokens with a slot", "shared"]]);
  const pointed = node("p", { class: "mk-what" });
  const used = [HELD, FEWER, MERGED, EVICTED].filter((kind) => status.includes(kind));
  const said = { [HELD]: bits.length > 1 ? `held, ${bits.at(-1)} bits` : "held",
    [FEWER]: `held, ${bits.slice(0, -1).join(" or ")} bits`, [MERGED]: "merged into another's slot",
    [EVICTED]: "evicted" };
  const at = (step, token) => (step < 0 ? 0 : status[step * tokens + token]);
  const name = (token) => (text ? `${token} ${JSON.stringify(text[token])}` : String(token));
  const cells = document.createElement("canvas");
  [cells.width, cells.height] = [tokens, steps];
  frame.root.prepend(
    node("p", { class: "mk-what", text: "Each row is the cache after one step of generation: a column is a token, "
      + "the newest at the right." }),
    node("div", { class: "mk-controls" }, frame.clock("step", "Step",
      { last: steps - 1, perSecond: 8, said: (step) => `step ${step} of ${steps - 1}` })),
    frame.says, node("div", { class: "mk-board" }, node("div", {}, canvas,
      keyTo(used.map((kind) => [`status-${kind}`, said[kind]]))), svg),
    pointed, node("h4", { text: "slots now, by token" }), slots, cards.element);

  let room = [1, 1];
  function drawGrid(width, step) {
    room = [Math.min(width, 560), Math.min(330, Math.max(90, steps * 9))];
    const palette = ["--mk-cell", "--mk-off", "--mk-merged", "--mk-fewer", "--mk-load"]
      .map((name) => colour(frame.root, name));
    const image = cells.getContext("2d").createImageData(tokens, steps);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      const [r, g, b] = palette[status[i]];
      pixels[i] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    }
    cells.getContext("2d").putImageData(image, 0, 0);
    const context = sized(canvas, ...room);
    context.imageSmoothingEnabled = room[0] < tokens || room[1] < steps;
    context.drawImage(cells, 0, 0, ...room);
    const high = room[1] / steps;
    context.strokeStyle = getComputedStyle(frame.root).getPropertyValue("--mk-store");
    context.lineWidth = 2;
    context.strokeRect(1, Math.min(room[1] - 3, step * high), room[0] - 2, Math.max(3, high));
  }

  function drawBytes(step, wide) {
    const high = 170;
    cleared(svg, wide, high + 26, `Bytes of the cache over ${steps} steps`);
    const most = Math.max(1, ...sizes);
    const x = (s) => 4 + (s / Math.max(1, steps - 1)) * (wide - 8);
    const y = (n) => high - (n / most) * (high - 34);
    const path = (values) => `M${Array.from(values, (n, s) => `${x(s).toFixed(1)} ${y(n).toFixed(1)}`).join(" L")}`;
    svg.append(line("mk-axis", `M4 ${high} H${wide - 4}`), line("mk-full", path(sizes.slice(steps))),
      line("mk-line", path(sizes.slice(0, steps))), line("mk-cursor", `M${x(step)} 26 V${high}`),
      words(4, 12, "mk-t", "bytes of this cache; dashed: everything kept"), words(4, high + 16, "mk-q", "step 0"),
      words(wide - 4, high + 16, "mk-q mk-end", `step ${steps - 1}`));
  }

  function show(width) {
    const step = frame.whole("step", steps - 1);
    drawGrid(width, step);
    drawBytes(step, width - room[0] > 280 ? width - room[0] - 24 : width);
    const [held, gone, joined, fresh] = [[], [], [], []];
    let come = 0;
    const into = new Map();
    for (let token = 0; token < tokens; token++) {
      const [before, now] = [at(step - 1, token), at(step, token)];
      if (now) come++;
      if (now >= FEWER) held.push(token);
      if (now === MERGED) into.set(merged[token], (into.get(merged[token]) ?? 0) + 1);
      if (step && now === EVICTED && before !== EVICTED) gone.push(token);
      if (step && now === MERGED && !before) joined.push(token);
      if (step && now >= FEWER && !before) fresh.push(token);
    }
    const few = (list) => (list.length > 3 ? counted(list.length, "token") : `token ${list.map(name).join(", ")}`);
    const events = [fresh.length && `${few(fresh)} gets a slot`,
      joined.length && `${few(joined)} merges into ${few(joined.map((t) => merged[t]))}`,
      gone.length && `${few(gone)} evicted`].filter(Boolean);
    const slot = (token) => {
      const kind = `${at(step, token) === FEWER ? "mk-narrow" : ""}${into.has(token) ? " mk-wide" : ""}`;
      const word = text ? JSON.stringify(text[token]).slice(1, -1) : String(token);
      return node("span", { class: kind, text: word + (into.has(token) ? ` +${into.get(token)}` : "") });
    };
    slots.replaceChildren(...held.slice(0, SHOWN).map(slot));
    if (held.length > SHOWN) slots.append(node("small", { text: ` and ${held.length - SHOWN} more` }));
    const [now, full] = [sizes[step], sizes[steps + step]];
    const most = Math.max(1, ...sizes);
    cards.show("now", bytes(now), now / most,
      now && now < full ? `${figure4(full / now)} times smaller` : "nothing saved yet");
    cards.show("full", bytes(full), full / most, "a slot for every token, at full width");
    cards.show("held", whole(held.length), held.length / Math.max(1, come), `of ${counted(come, "token")} so far`);
    const sentence = `step ${step}: slots for ${whole(held.length)} of ${counted(come, "token")}`
      + (events.length ? `; ${events.join(", ")}` : "");
    canvas.setAttribute("aria-label", `${steps} steps by ${tokens} tokens; ${sentence}`);
    frame.say(sentence);
  }

  const placed = ({ offsetX, offsetY }) => [Math.floor((offsetY / room[1]) * steps),
    Math.floor((offsetX / room[0]) * tokens)];
  const go = (event) => frame.send("step", Math.max(0, Math.min(steps - 1, placed(event)[0])));
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    go(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) go(event);
    const [step, token] = placed(event);
    const inside = step >= 0 && step < steps && token >= 0 && token < tokens;
    write(pointed, inside ? `token ${name(token)} after step ${step}: ${said[at(step, token)] ?? "not come yet"}` : "");
  });
  return frame.keep(["step"], show);
}

export default { render: guarded(render) };
