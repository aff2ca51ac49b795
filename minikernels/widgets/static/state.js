// StateView: the state as a signed heat map between k, v, q and o; its size and its memory over time.

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "state", "StateView");
  const { header, arrays } = await unpack(model.get("_packed"));
  const { T, D, gated, itemsize } = header;
  const states = new StateModel(header, arrays);
  const canvas = node("canvas", { role: "img" });
  const svg = shape("svg", { class: "mk-drawing" });
  const cards = new Cards([["state", "State, float32, on the chip", "load"],
    ["cache", "A cache of k and v, in HBM", "store"], ["half", "Half of a token is left", "shared"]]);
  frame.root.prepend(
    node("p", { class: "mk-what", text: `S ← ${gated ? "diag(exp g)" : "decay"} S + k vᵀ, then o = q S: one head, `
      + `D = ${D}. The state stays on the chip and never grows.` }),
    node("div", { class: "mk-controls" },
      frame.clock("step", "Token", { last: T - 1, perSecond: 12, said: (t) => `token ${t} of ${T - 1}` }),
      !gated && frame.slider("decay", "decay", { last: 1, step: 0.005, said: (x) => x.toFixed(3) })),
    frame.says, node("div", { class: "mk-board" }, canvas, svg),
    keyTo([["above", "above 0"], ["below", "below 0"]]), cards.element);

  /** k to the left of the state, v above it, o below it, q to the right: a row of S meets a number of k and of q. */
  function drawState(t, state, o) {
    const cell = Math.max(1, Math.min(9, Math.floor(250 / D)));
    const [strip, gap] = [Math.max(7, cell), 5];
    const [left, top] = [24 + strip + gap, 18 + strip + gap];
    const side = cell * D;
    const context = sized(canvas, left + side + gap + strip + 24, top + side + gap + strip + 18);
    const style = getComputedStyle(frame.root);
    const [paper, above, below] = ["--mk-cell", "--mk-load", "--mk-store"].map((name) => colour(frame.root, name));
    context.fillStyle = style.getPropertyValue("--mk-paper");
    context.fillRect(0, 0, 4000, 4000);
    const paint = (value, most, x, y, w, h) => {
      const share = Math.sqrt(Math.min(1, Math.abs(value) / most));
      const to = value < 0 ? below : above;
      context.fillStyle = `rgb(${paper.map((from, i) => Math.round(from + (to[i] - from) * share)).join(",")})`;
      context.fillRect(x, y, w, h);
    };
    const largest = (values) => Math.max(1e-30, ...values.map(Math.abs));
    let most = 1e-30;
    for (const x of state) most = Math.max(most, Math.abs(x));
    state.forEach((x, i) => paint(x, most, left + (i % D) * cell, top + Math.floor(i / D) * cell, cell, cell));
    const row = (array) => Array.from(array.subarray(t * D, (t + 1) * D));
    const strips = [["k", row(states.k), false, 24], ["q", row(states.q), false, left + side + gap],
      ["v", row(states.v), true, 18], ["o", Array.from(o), true, top + side + gap]];
    context.fillStyle = context.strokeStyle = style.getPropertyValue("--mk-quiet");
    context.lineWidth = 1;
    for (const [name, values, across, at] of strips) {
      const size = largest(values);
      values.forEach((value, i) => (across ? paint(value, size, left + i * cell, at, cell, strip)
        : paint(value, size, at, top + i * cell, strip, cell)));
      if (across) context.strokeRect(left - 0.5, at - 0.5, side + 1, strip + 1);
      else context.strokeRect(at - 0.5, top - 0.5, strip + 1, side + 1);
      context.fillStyle = style.getPropertyValue("--mk-ink");
      context.font = "600 12px system-ui, sans-serif";
      context.textAlign = "center";
      if (across) context.fillText(name, left + side / 2, at < top ? 12 : at + strip + 13);
      else context.fillText(name, at < left ? 12 : at + strip + 12, top + side / 2);
    }
    context.strokeRect(left - 0.5, top - 0.5, side + 1, side + 1);
    canvas.setAttribute("aria-label", `State after token ${t}, ${D} by ${D} numbers, the largest ${figure4(most)}`);
  }

  function drawCharts(t, left, room) {
    const high = 104;
    cleared(svg, room, 2 * high + 64, `Size of the state and what is left of each token, at token ${t} of ${T - 1}`);
    const x = (token) => 4 + (token / Math.max(1, T - 1)) * (room - 8);
    const chart = (top, title, values, most, kind) => {
      const y = (value) => top + high - 4 - (value / most) * (high - 24);
      const points = Array.from(values, (value, token) => `${x(token).toFixed(1)} ${y(value).toFixed(1)}`);
      const closed = kind === "mk-left" ? ` L${x(values.length - 1)} ${y(0)} L${x(0)} ${y(0)} Z` : "";
      svg.append(line(kind, `M${points.join(" L")}${closed}`), line("mk-axis", `M4 ${y(0)} H${room - 4}`),
        words(4, top + 10, "mk-t", title),
        words(room - 4, top + 10, "mk-q mk-end", figure4(values[Math.min(t, values.length - 1)])));
    };
    chart(4, "size of the state", states.norms, Math.max(1e-30, ...states.norms), "mk-line");
    chart(high + 24, "what is left of each token", left, 1, "mk-left");
    const foot = 2 * high + 40;
    svg.append(line("mk-cursor", `M${x(t)} 16 V${foot - 16}`), words(4, foot, "mk-q", "token 0"),
      words(room - 4, foot, "mk-q mk-end", `token ${T - 1}`));
    const touch = shape("rect", { x: 0, y: 0, width: room, height: foot - 10, class: "mk-touch", "data-touch": "" });
    const under = (event) => Math.round(((event.offsetX - 4) / (room - 8)) * (T - 1));
    const go = (event) => frame.send("step", Math.max(0, Math.min(T - 1, under(event))));
    touch.addEventListener("pointerdown", go);
    touch.addEventListener("pointermove", (event) => event.buttons && go(event));
    svg.append(touch);
  }

  function show(width) {
    const t = frame.whole("step", T - 1);
    if (!gated) states.setDecay(model.get("decay"));
    const state = states.at(t);
    const left = states.memory(t);
    drawState(t, state, states.output(t, state));
    const room = width - canvas.clientWidth > 330 ? width - canvas.clientWidth - 26 : width;
    drawCharts(t, left, room);
    const [held, cached, longest] = [4 * D * D, 2 * (t + 1) * D * itemsize, 2 * T * D * itemsize];
    const scale = Math.max(held, longest);
    cards.show("state", bytes(held), held / scale, "the same at every token");
    cards.show("cache", bytes(cached), cached / scale, cached > held ? `${figure4(cached / held)} times the state`
      : `more than the state from token ${Math.floor((2 * D) / itemsize)} on`);
    let back = 0;
    while (back <= t && left[t - back] > 0.5) back++;
    const seen = back <= t;
    cards.show("half", seen ? `after ${counted(back, "token")}` : "not yet", seen ? back / T : 1,
      seen ? "older ones fade away"
        : gated || model.get("decay") < 1 ? "all tokens are young" : "decay 1: nothing fades");
    frame.say(`token ${t}: the state's size is ${figure4(states.norms[t])}, `
      + `the first token counts ${figure4(100 * left[0])} %`);
  }
  return frame.keep(["step", "decay"], show);
}

export default { render: guarded(render) };
