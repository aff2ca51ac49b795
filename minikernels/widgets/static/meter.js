// TrafficMeter: one bar a rung, split by array where that is known; a line across it is the prediction.

const COLOURS = 7; // --mk-1 to --mk-7 in meter.css; --mk-0 is for arrays beyond

/** Sum of one quantity over a rung's arrays; undefined where the rung has no such traffic. */
const sum = (split, quantity) => split && Object.values(split).reduce((total, traffic) => total + traffic[quantity], 0);

/** The arrays that any rung counts, those that move most first. */
function arraysOf(rungs) {
  const moved = new Map();
  for (const rung of rungs) {
    for (const [array, traffic] of Object.entries(rung.counted ?? {})) {
      if (array) moved.set(array, (moved.get(array) ?? 0) + traffic.hbm_bytes);
    }
  }
  return [...moved].sort((a, b) => b[1] - a[1]).map(([array]) => array);
}

/** How prediction and count compare, in words. */
function compare(predicted, counted, unit) {
  if (counted === undefined) return `${unit(predicted)} predicted, not counted`;
  if (predicted === undefined) return `${unit(counted)} counted, no prediction`;
  if (predicted === counted) return `${unit(counted)} counted = predicted`;
  const share = figure4((100 * Math.abs(counted - predicted)) / predicted);
  const off = predicted ? ` (${counted > predicted ? "+" : "−"}${share} %)` : "";
  return `${unit(counted)} counted, ${unit(predicted)} predicted${off}`;
}

async function render({ model, el }) {
  const root = node("div",
    { class: "mk mk-meter", role: "group", "aria-label": "TrafficMeter", "data-lm-suppress-shortcuts": true });
  el.append(root);
  const { header: { rungs, quantities } } = await unpack(model.get("_packed"));
  for (const rung of rungs) for (const side of ["predicted", "counted"]) rung[side] ??= undefined;
  const arrays = arraysOf(rungs);
  const named = [...arrays, ...(rungs.some((rung) => rung.counted?.[""]) ? [""] : [])]; // "": not split by array
  const numberOf = (array) => {
    const place = array || !arrays.length ? named.indexOf(array) : COLOURS;
    return place < COLOURS ? place + 1 : 0;
  };
  const quantity = node("select", { "aria-label": "Quantity" },
    ...Object.entries(quantities).map(([value, text]) => node("option", { value, text })));
  const log = node("input", { type: "checkbox" });
  const speak = liveRegion(root);

  const rows = rungs.map((rung) => {
    const split = rung.counted ?? {};
    const segments = named.filter((array) => split[array]).map((array) => {
      const bar = node("span", { class: `mk-segment mk-c${numberOf(array)}`, "data-array": array, text: array });
      return { array, bar };
    });
    const mark = node("span", { class: "mk-mark", hidden: rung.predicted === undefined });
    const said = node("span", { class: "mk-said" });
    const filled = node("span", { class: "mk-filled" }, ...segments.map(({ bar }) => bar));
    const element = node("li", { tabindex: "0", "data-rung": rung.name }, node("b", { text: rung.name }),
      node("span", { class: "mk-lane" }, filled, mark), said);
    const select = () => {
      model.set("selected", rung.name);
      model.save_changes();
    };
    element.addEventListener("focus", select);
    element.addEventListener("pointerdown", select);
    return { rung, segments, mark, said, element };
  });
  const colours = Array.from({ length: COLOURS + 1 }, (_, i) => (i + 1) % (COLOURS + 1)); // the shared grey comes last
  const sharing = colours.map((number) => named.filter((array) => numberOf(array) === number));
  const chips = sharing.filter((few) => few.length).map((few) => {
    const mark = node("i", { class: `mk-c${numberOf(few[0])}` });
    const unsplit = arrays.length ? "not split by array" : "counted";
    return { few, element: node("span", { class: "mk-chip" }, mark, few.map((array) => array || unsplit).join(", ")) };
  });
  const legend = node("p", { class: "mk-legend" },
    ...chips.map(({ element }) => element),
    node("span", { class: "mk-chip" }, node("i", { class: "mk-line-chip" }), "predicted by the closed form"));
  const detail = node("p", { class: "mk-detail" });
  root.prepend(node("div", { class: "mk-controls" }, quantity, node("label", {}, log, " logarithmic")),
    node("ul", {}, ...rows.map((row) => row.element)), legend, detail);

  function show() {
    const key = model.get("quantity");
    const unit = key.endsWith("bytes") ? bytes : whole;
    const all = rungs.flatMap((rung) => [sum(rung.predicted, key) ?? 0, sum(rung.counted, key) ?? 0]);
    const largest = Math.max(1, ...all);
    const least = Math.min(...all.filter((n) => n > 0), largest);
    // On a logarithmic scale the bar starts at a tenth of the least amount: a bar from nothing would be endless.
    const place = (n) => (n <= 0 ? 0 : model.get("logarithmic")
      ? (100 * Math.log((10 * n) / least)) / Math.log((10 * largest) / least) : (100 * n) / largest);
    quantity.value = key;
    log.checked = model.get("logarithmic");
    const chosen = model.get("selected");
    for (const { rung, segments, mark, said, element } of rows) {
      const [predicted, counted] = [sum(rung.predicted, key), sum(rung.counted, key)];
      for (const { array, bar } of segments) {
        const amount = rung.counted[array][key];
        bar.style.width = `${counted ? (place(counted) * amount) / counted : 0}%`;
        bar.title = `${array || rung.name}: ${unit(amount)}`;
      }
      mark.style.left = `${place(predicted ?? 0)}%`;
      write(said, compare(predicted, counted, unit));
      const both = predicted !== undefined && counted !== undefined;
      element.classList.toggle("mk-differs", both && predicted !== counted);
      element.classList.toggle("mk-chosen", rung.name === chosen);
      element.setAttribute("aria-label", `${rung.name}: ${said.textContent}`);
    }
    for (const { few, element } of chips) {
      element.hidden = !rungs.some((rung) => few.some((array) => rung.counted?.[array]?.[key]));
    }
    const row = rows.find(({ rung }) => rung.name === chosen);
    const parts = row ? row.segments.filter(({ array }) => array && row.rung.counted[array][key])
      .map(({ array }) => `${array} ${unit(row.rung.counted[array][key])}`) : [];
    write(detail, row ? `${chosen}, ${quantities[key]}: ${parts.join(", ") || row.said.textContent}`
      : "Choose a rung to see its arrays.");
    if (row) speak(detail.textContent);
  }

  const send = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  quantity.addEventListener("change", () => send("quantity", quantity.value));
  log.addEventListener("change", () => send("logarithmic", log.checked));
  const traits = ["quantity", "selected", "logarithmic"].map((name) => `change:${name}`);
  for (const event of traits) model.on(event, show);
  const unfollow = followTheme(root);
  show();
  return () => {
    unfollow();
    for (const event of traits) model.off(event, show);
  };
}

export default { render: guarded(render) };
