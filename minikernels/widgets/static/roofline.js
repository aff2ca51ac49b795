// Roofline: both axes logarithmic; a dot a rung, a diamond a production kernel, and the roof above the chosen one.

/** Whole powers of ten from a to b. */
const decades = (a, b) => Array.from({ length: Math.max(0, Math.floor(Math.log10(b)) - Math.ceil(Math.log10(a)) + 1) },
  (_, i) => 10 ** (Math.ceil(Math.log10(a)) + i));

async function render({ model, el }) {
  const frame = new Frame({ model, el }, "roofline", "Roofline");
  const { header: { points, machine } } = await unpack(model.get("_packed"));
  const svg = shape("svg", { class: "mk-drawing" });
  const fastest = Math.max(...machine.bandwidth.map((one) => one.gb_per_s)) / 1e3; // TFLOP/s for each FLOP a byte
  const highest = Math.max(...machine.compute.map((one) => one.tflop_per_s));
  const choose = (name) => frame.send("selected", name === model.get("selected") ? "" : name);
  const buttons = points.map((point, i) => node("button", { type: "button", "data-point": point.name,
    onclick: () => choose(point.name) }, node("b", { text: `${i + 1}  ${point.name}` }),
  node("small", { text: `${figure4(point.tflop_per_s)} TFLOP/s, ${figure4(point.intensity)} FLOP a byte` })));
  frame.root.prepend(
    node("p", { class: "mk-what", text: `${machine.name}. To the left of the corner bytes from HBM limit, to the `
      + `right arithmetic. Ceilings: ${machine.source}.` }),
    frame.says, svg,
    keyTo([["rung-chip", "a rung"], ["peer-chip", "a production kernel"]]),
    node("ol", {}, ...buttons.map((button) => node("li", {}, button))));

  function show(width) {
    const chosen = points.find((point) => point.name === model.get("selected"));
    const [left, right, top, high] = [46, 10, 20, Math.min(380, Math.max(240, width * 0.5))];
    const corner = highest / fastest;
    const at = points.map((point) => point.intensity);
    const [x0, x1] = [Math.min(...at, corner) / 4, Math.max(...at, corner) * 6];
    const speeds = points.map((point) => point.tflop_per_s);
    const [y0, y1] = [Math.min(...speeds, highest / 10) / 2, Math.max(highest, ...speeds) * 2];
    const x = (value) => left + (Math.log(value / x0) / Math.log(x1 / x0)) * (width - left - right);
    const y = (value) => top + (1 - Math.log(value / y0) / Math.log(y1 / y0)) * (high - top - 30);
    const why = !chosen ? "" : chosen.share > 1 ? "bytes that L2 serves let it stand above HBM's roof"
      : chosen.bound === "memory" ? "bytes limit it" : `arithmetic limits it (${chosen.compute})`;
    const sentence = chosen ? `${chosen.name}: ${figure4(chosen.tflop_per_s)} TFLOP/s, `
      + `${figure4(100 * chosen.share)} % of the roof above it; ${why}`
      : `${counted(points.length, "kernel")}; choose one to see the roof above it`;
    cleared(svg, width, high, sentence);
    for (const value of decades(x0, x1)) {
      svg.append(line("mk-grid", `M${x(value)} ${top} V${high - 30}`));
      if (x(value) < width - 20) svg.append(words(x(value), high - 16, "mk-q mk-mid", figure4(value)));
    }
    for (const value of decades(y0, y1)) {
      svg.append(line("mk-grid", `M${left} ${y(value)} H${width - right}`),
        words(left - 5, y(value) + 4, "mk-q mk-end", figure4(value)));
    }
    svg.append(words(left, high - 2, "mk-q", "FLOP for each byte asked of HBM"), words(2, 10, "mk-q", "TFLOP/s"));
    for (const one of machine.bandwidth) {
      const slope = one.gb_per_s / 1e3;
      const [from, to] = [Math.max(x0, y0 / slope), highest / slope];
      const middle = Math.sqrt(from * to);
      svg.append(line("mk-roof", `M${x(from)} ${y(slope * from)} L${x(to)} ${y(highest)}`),
        words(x(middle) - 6, y(slope * middle) - 4, "mk-t mk-end", `${one.name}, ${whole(one.gb_per_s)} GB/s`));
    }
    for (const one of machine.compute) {
      const level = y(one.tflop_per_s);
      svg.append(line("mk-roof", `M${x(one.tflop_per_s / fastest)} ${level} H${width - right}`),
        words(width - right, level - 5, "mk-t mk-end", `${one.name}, ${figure4(one.tflop_per_s)} TFLOP/s`));
    }
    if (chosen) {
      const here = x(chosen.intensity);
      svg.append(shape("path", { class: "mk-under", d: `M${here} ${y(chosen.tflop_per_s)} V${y(chosen.roof)}` }));
    }
    points.forEach((point, i) => {
      const [px, py] = [x(point.intensity), y(point.tflop_per_s)];
      const kind = `mk-point ${point.peer ? "mk-peer" : "mk-rung"}${point === chosen ? " mk-lit" : ""}`;
      const tip = `${point.name}: ${figure4(point.tflop_per_s)} TFLOP/s`;
      const mark = point.peer ? shape("path", { d: `M${px} ${py - 7} l7 7 l-7 7 l-7 -7 Z`, class: kind }, "", tip)
        : shape("circle", { cx: px, cy: py, r: 6, class: kind }, "", tip);
      mark.addEventListener("pointerdown", () => choose(point.name));
      svg.append(mark, shape("text", { x: px + 9, y: py + 4, class: "mk-number" }, String(i + 1)));
      buttons[i].setAttribute("aria-pressed", String(point === chosen));
    });
    frame.say(sentence);
  }
  return frame.keep(["selected"], show);
}

export default { render: guarded(render) };
