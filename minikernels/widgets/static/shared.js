// What every widget's script begins with: reading a packed state, building elements, numbers and themes.

/** Make an element: node("button", { class: "x", text: "Play", onclick }, child, ...). */
function node(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child));
  return element;
}

/** The same rendering, which says so where it cannot draw: a reader shall not look at an empty cell. */
const guarded = (render) => async (context) => {
  try {
    return await render(context);
  } catch (error) {
    console.error(error);
    const words = `This widget could not be drawn (${error.message}). It needs a browser of 2023 or later.`;
    context.el.replaceChildren(node("p", { role: "alert", text: words }));
    return undefined;
  }
};

/** Write text only where it changed, so that a page at rest costs nothing. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const whole = (n) => Math.round(n).toLocaleString("en-US");
const bytes = (n) => `${whole(n)} B`;
const counted = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;

/** A value in at most four figures, as a learner would write it. */
function figure4(value) {
  if (value === undefined) return "–";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value).replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e4 || size < 1e-3 ? value.toExponential(2) : value.toPrecision(size < 1 ? 3 : 4);
  return text.replace("e+", "e").replaceAll("-", "−");
}

/** Undo packing.pack: gzip, a JSON header, byte planes, and differences for integers. */
async function unpack(packed) {
  const raw = new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  let end = 4 + new DataView(data.buffer).getUint32(0, true);
  const { packed: listed, ...header } = JSON.parse(new TextDecoder().decode(data.subarray(4, end)));
  const types = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
  const arrays = {};
  for (const { name, dtype, shape } of listed) {
    const length = shape.reduce((product, side) => product * side, 1);
    const array = new types[dtype](length);
    const width = array.BYTES_PER_ELEMENT;
    const into = new Uint8Array(array.buffer);
    for (let plane = 0; plane < width; plane++) {
      const from = end + plane * length;
      for (let i = 0; i < length; i++) into[i * width + plane] = data[from + i];
    }
    if (dtype.startsWith("int")) for (let i = 1; i < length; i++) array[i] += array[i - 1];
    arrays[name] = array;
    end += length * width;
  }
  return { header, arrays };
}

/** Follow the reader's light or dark setting (JupyterLab's own first), now and when it changes. */
function followTheme(root, changed) {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const lab = document.body.dataset.jpThemeLight;
    const dark = lab === undefined ? query.matches : lab === "false";
    if (root.dataset.theme === (dark ? "dark" : "light")) return;
    root.dataset.theme = dark ? "dark" : "light";
    changed?.();
  };
  apply();
  query.addEventListener("change", apply);
  const watch = new MutationObserver(apply);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => {
    query.removeEventListener("change", apply);
    watch.disconnect();
  };
}

/** Read a colour of the style sheet as [r, g, b]. */
function colour(root, name) {
  const text = getComputedStyle(root).getPropertyValue(name).trim();
  const hex = text.replace("#", "");
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** Give a canvas a size in CSS pixels and the screen's own resolution; returns its context. */
function sized(canvas, width, height) {
  const scale = globalThis.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

/** A polite live region: hears the latest sentence once the reader has stopped changing it. */
function liveRegion(root) {
  const region = node("p", { class: "mk-hidden", "aria-live": "polite", role: "status" });
  root.append(region);
  let timer;
  return (sentence) => {
    clearTimeout(timer);
    timer = setTimeout(() => write(region, sentence), 120);
  };
}

const ICONS = {
  first: "M3 3h2v10H3zM13 3v10L6 8z", back: "M11 3v10L4 8z", play: "M4 2.5v11l9-5.5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  on: "M5 3v10l7-5z", barrier: "M3 3v10l6-5zM10 3h2v10h-2z",
};

/** An SVG element with attributes, text and a tooltip. */
function shape(tag, attributes = {}, text = "", tip = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  if (tip) element.append(shape("title", {}, tip));
  return element;
}

/** A drawing for a button, in the text's colour. */
function icon(name) {
  const svg = shape("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
  svg.append(shape("path", { d: ICONS[name], fill: "currentColor" }));
  return svg;
}
