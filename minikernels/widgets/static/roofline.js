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
    node("p", { class: "mk-what", text: `${machine.name}. To the left of the corner bytes from HBM limit, to the right arithmetic. `
      + `Ceilings: ${machine.source}.` }),
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
    const sentence = chosen ? `${chosen.name}: ${figure4(chosen.tflop_per_s)} TFLOP/s, ${figure4(100 * chosen.share)} % of the roof above it`
      + (chosen.share > 1 ? "; bytes that L2 serves let it stand above HBM's roof" : `; ${chosen.bound === "memory" ? "bytes limit it" : `arithmetic limits it (${chosen.compute})`}`)
      : `${counted(points.length, "kernel")}; choose one to see the roof above it`;
    cleared(svg, width, high, sentence);
    for (const value of decades(x0, x1)) {
      svg.append(shape("path", { class: "mk-grid", d: `M${x(value)} ${top} V${high - 30}` }));
      if (x(value) < width - 20) svg.append(shape("text", { x: x(value), y: high - 16, class: "mk-q mk-mid" }, figure4(value)));
    }
    for (const value of decades(y0, y1)) {
      svg.append(shape("path", { class: "mk-grid", d: `M${left} ${y(value)} H${width - right}` }),
        shape("text", { x: left - 5, y: y(value) + 4, class: "mk-q mk-end" }, figure4(value)));
    }
    svg.append(shape("text", { x: left, y: high - 2, class: "mk-q" }, "FLOP for each byte asked of HBM"),
      shape("text", { x: 2, y: 10, class: "mk-q" }, "TFLOP/s"));
    for (const one of machine.bandwidth) {
      const slope = one.gb_per_s / 1e3;
      const from = Math.max(x0, y0 / slope);
      svg.append(shape("path", { class: "mk-roof", d: `M${x(from)} ${y(slope * from)} L${x(highest / slope)} ${y(highest)}` }));
      const middle = Math.sqrt(from * (highest / slope));
      svg.append(shape("text", { x: x(middle) - 6, y: y(slope * middle) - 4, class: "mk-t mk-end" }, `${one.name}, ${whole(one.gb_per_s)} GB/s`));
    }
    for (const one of machine.compute) {
      svg.append(shape("path", { class: "mk-roof", d: `M${x(one.tflop_per_s / fastest)} ${y(one.tflop_per_s)} H${width - right}` }),
        shape("text", { x: width - right, y: y(one.tflop_per_s) - 5, class: "mk-t mk-end" }, `${one.name}, ${figure4(one.tflop_per_s)} TFLOP/s`));
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

export default { render };
