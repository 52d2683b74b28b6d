// The gradient explorer: controls, drawing and code. Python measures; nothing is computed here but where a line goes.

const SVG = "http://www.w3.org/2000/svg";
const IDLE = 2500; // milliseconds without a change, after which the picture for the saved notebook is drawn anew
const BUSY = 1500; // milliseconds without an answer, after which the kernel is said to be busy
const SAID = 700; // milliseconds that a sentence has to stand before it is read out

function html(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function short(value) {
  if (value === null || value === undefined) return "–";
  const plain = value >= 0.01 && value < 10000;
  return plain ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("e+", "e");
}

// ---- controls: each reads and writes one setting

let count = 0;

function control(spec, changed) {
  const id = `labkit-explorer-${++count}`;
  const label = html("label", { htmlFor: id }, spec.label);
  if (spec.kind === "choice") {
    const select = html("select", { id, name: spec.name });
    for (const [value, words] of spec.options) select.append(html("option", { value }, words));
    select.addEventListener("change", () => changed(spec.name, select.value));
    return { parts: [label, select], set: (value) => (select.value = value), inputs: [select] };
  }
  if (spec.kind === "check") {
    const box = html("input", { id, name: spec.name, type: "checkbox" });
    box.addEventListener("change", () => changed(spec.name, box.checked));
    return { parts: [label, box, html("span")], set: (value) => (box.checked = value), inputs: [box] };
  }
  return range(spec, id, label, changed);
}

function range(spec, id, label, changed) {
  const log = spec.logarithmic;
  const place = (value) => (log ? Math.log10(value) : value);
  const slider = html("input", { id, name: spec.name, type: "range", step: log ? "0.01" : "1" });
  slider.min = place(spec.low);
  slider.max = place(spec.high);
  const number = html("input", { type: "number", step: log ? "any" : "1", name: `${spec.name}-number` });
  number.setAttribute("aria-label", `${spec.label}, as a number`);
  const set = (value) => {
    slider.value = place(value);
    slider.setAttribute("aria-valuetext", String(value));
    if (document.activeElement !== number || Number(number.value) !== value) number.value = value;
  };
  slider.addEventListener("input", () => {
    const value = log ? Number((10 ** Number(slider.value)).toPrecision(3)) : Number(slider.value);
    set(value);
    changed(spec.name, value);
  });
  number.addEventListener("input", () => {
    if (number.value === "" || !Number.isFinite(Number(number.value))) return;
    if (Number(number.value) > 0) slider.value = place(Number(number.value));
    changed(spec.name, Number(number.value));
  });
  return { parts: [label, slider, number], set, inputs: [slider, number] };
}

// ---- drawing

function decades(low, high, most) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const step = Math.max(1, Math.ceil((last - first) / most));
  const found = [];
  for (let at = Math.ceil(first / step) * step; at <= last; at += step) found.push(at);
  return found;
}

// A logarithmic plot over layers: `rows` are lists of numbers or null, of which all have to be in sight.
class Plot {
  constructor(width, height, layers, rows, label, extra = []) {
    Object.assign(this, { width, height, layers, left: 58, right: 58, top: 20, bottom: 30 });
    const values = rows.flat().filter((value) => value > 0);
    let low = Math.min(...values, ...extra);
    let high = Math.max(...values, ...extra);
    if (!values.length && !extra.length) [low, high] = [0.1, 1];
    const middle = Math.sqrt(low) * Math.sqrt(high);
    this.low = Math.min(low / 1.4, middle / 4);
    this.high = Math.max(high * 1.4, middle * 4);
    this.node = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
    this.inside = svg("svg", { width, height: height - this.bottom + 4, viewBox: `0 0 ${width} ${height - this.bottom + 4}` });
    this.inside.setAttribute("class", "inside");
    this.axes(label);
    this.node.append(this.inside);
  }

  x(k) {
    const step = (this.width - this.left - this.right) / this.layers.length;
    return this.left + step * (k + 0.5);
  }

  y(value) {
    const share = (Math.log(value) - Math.log(this.low)) / (Math.log(this.high) - Math.log(this.low));
    return this.height - this.bottom - share * (this.height - this.bottom - this.top);
  }

  axes(label) {
    const { width, height, left, right, bottom } = this;
    this.node.append(svg("text", { x: 4, y: 11, class: "faint" }, label));
    const room = Math.max(2, Math.floor((height - this.top - bottom) / 24));
    const powers = decades(this.low, this.high, room);
    for (const power of powers) this.tick(10 ** power, power);
    if (this.high / this.low < 300) for (const power of powers) for (const k of [2, 5]) this.tick(k * 10 ** power);
    const every = Math.ceil((this.layers.length * 42) / (width - left - right));
    this.layers.forEach((name, k) => {
      if (k % every) return;
      const words = { x: this.x(k), y: height - bottom + 16, "text-anchor": "middle" };
      this.node.append(svg("text", words, name));
    });
  }

  tick(value, power) {
    if (value < this.low || value > this.high) return;
    const y = this.y(value);
    this.node.append(svg("line", { x1: this.left, x2: this.width - this.right, y1: y, y2: y, class: "grid" }));
    const words = svg("text", { x: this.left - 6, y: y + 4, "text-anchor": "end" });
    if (power === undefined || (this.high / this.low < 300 && Math.abs(power) < 3)) {
      words.textContent = short(Number(value.toPrecision(2)));
    } else {
      words.textContent = "10";
      words.append(svg("tspan", { dy: -4, "font-size": "8px" }, String(power).replace("-", "−")));
    }
    this.node.append(words);
  }

  // Gaps where there is no value; theory's limits may leave the plot, and are cut off there.
  line(values, name) {
    let path = "";
    let open = false;
    values.forEach((value, k) => {
      if (value > 0) path += `${open ? "L" : "M"}${this.x(k).toFixed(1)} ${this.y(value).toFixed(1)}`;
      open = value > 0;
    });
    this.inside.append(svg("path", { d: path, class: name }));
  }

  dots(values, words, name = "dot") {
    values.forEach((value, k) => {
      if (!(value > 0)) return;
      const dot = svg("circle", { cx: this.x(k), cy: this.y(value), r: 3.2, class: name });
      dot.append(svg("title", {}, words(k)));
      this.inside.append(dot);
    });
  }

  band(low, high) {
    const known = low.map((value, k) => k).filter((k) => low[k] > 0 && high[k] > 0);
    const point = (k, values) => `${this.x(k).toFixed(1)} ${this.y(values[k]).toFixed(1)}`;
    const there = known.map((k) => point(k, high));
    const back = known.map((k) => point(k, low)).reverse();
    if (known.length) this.inside.append(svg("path", { d: `M${[...there, ...back].join("L")}Z`, class: "band" }));
  }
}

function drawSizes(data, which, width) {
  const sizes = data.sizes[which];
  const rows = [sizes.median, sizes.low, sizes.high, sizes.theory, sizes.after, sizes.clipped].filter(Boolean);
  const label =
    which === "deltas"
      ? "root mean square of dℓ/dz, image by image"
      : "root mean square of dℓ/dW, of the mini-batch";
  const plot = new Plot(width, 250, data.layers, [...rows, ...sizes.each], label);
  for (const row of sizes.each) plot.line(row, "each");
  plot.band(sizes.low, sizes.high);
  plot.line(sizes.median, "line");
  const theory = (k) => (sizes.theory ? `, theory ${short(sizes.theory[k])}` : "");
  const range = (k) => `95 % of seeds ${short(sizes.low[k])} to ${short(sizes.high[k])}`;
  plot.dots(sizes.median, (k) => `${data.layers[k]}: ${short(sizes.median[k])}, ${range(k)}${theory(k)}`);
  for (const row of sizes.reach || []) plot.line(row, "reach");
  if (sizes.theory) plot.line(sizes.theory, "theory");
  if (sizes.clipped) plot.line(sizes.clipped, "clipped");
  if (sizes.after) {
    plot.line(sizes.after, "after");
    plot.dots(sizes.after, (k) => `${data.layers[k]} after training: ${short(sizes.after[k])}`, "after");
  }
  plot.node.setAttribute("aria-label", `Gradient size in each layer, logarithmic axis. ${data.summary}`);
  return plot.node;
}

function drawGains(data, width) {
  const { gains } = data;
  const [low, high] = gains.holds;
  const rows = [gains.median, gains.low, gains.high, gains.theory, gains.after].filter(Boolean);
  const label = "gain: mean square of dℓ/dz in a layer over that in the next";
  const plot = new Plot(width, 190, data.layers.slice(0, -1), rows, label, [low / 1.6, high * 1.6]);
  const [left, right] = [plot.left, width - plot.right];
  const [top, bottom] = [plot.y(high), plot.y(low)];
  plot.inside.append(svg("rect", { x: left, width: right - left, y: top, height: bottom - top, class: "holds" }));
  plot.inside.append(svg("line", { x1: left, x2: right, y1: plot.y(1), y2: plot.y(1), class: "one" }));
  plot.band(gains.low, gains.high);
  plot.line(gains.median, "line");
  plot.dots(gains.median, (k) => `into ${data.layers[k]}: gain ${short(gains.median[k])}`);
  if (gains.theory) plot.line(gains.theory, "theory");
  if (gains.after) plot.line(gains.after, "after");
  const word = (y, words) => plot.node.append(svg("text", { x: right + 5, y, class: "faint" }, words));
  const middle = (top + bottom) / 2 + 4;
  word(Math.min(top - 3, middle - 12), "explodes");
  word(middle, "holds");
  word(Math.max(bottom + 11, middle + 12), "vanishes");
  plot.node.setAttribute("aria-label", `Gain from layer to layer, logarithmic axis: it ${data.verdict || "is unknown"}.`);
  return plot.node;
}

function drawLegend(data, which) {
  const sizes = data.sizes[which];
  const seeds = data.seeds < data.of ? `${data.seeds} of ${data.of} seeds` : `${data.of} seeds`;
  const items = [
    ["line", `median of ${seeds}`],
    ["each", "each seed"],
    ["band", "95 % of the seeds"],
  ];
  if (data.sizes.deltas.theory) items.push(["theory", "theory"]);
  if (sizes.reach) items.push(["reach", "theory, 95 % of seeds"]);
  if (sizes.clipped) items.push(["clipped", "first step, after clipping"]);
  if (data.trained) items.push(["after", `after ${data.trained} steps`]);
  return items.map(([name, words]) => {
    const sample = svg("svg", { viewBox: "0 0 26 10", height: 10, "aria-hidden": "true" });
    if (name === "band") sample.append(svg("rect", { width: 26, height: 10, class: name }));
    else sample.append(svg("path", { d: "M0 5H26", class: name }));
    return html("li", {}, sample, words);
  });
}

function drawTable(data) {
  const { deltas, weights } = data.sizes;
  const head = ["layer", "dℓ/dz", "theory", "gain", "theory", "dℓ/dW"];
  const rows = data.layers.map((name, k) => [
    name,
    short(deltas.median[k]),
    short(deltas.theory && deltas.theory[k]),
    short(data.gains.median[k]),
    short(data.gains.theory && data.gains.theory[k]),
    short(weights.median[k]),
  ]);
  const cells = (tag, texts) => texts.map((text) => html(tag, {}, text));
  const body = rows.map((row) => html("tr", {}, ...cells("td", row)));
  return html("table", {}, html("thead", {}, html("tr", {}, ...cells("th", head))), html("tbody", {}, ...body));
}

// ---- the panel

function render({ model, el }) {
  const me = Math.random().toString(36).slice(2);
  const timers = { more: 0, rest: 0, busy: 0, said: 0 };
  let [asked, waiting, wanted, which, frame, copying] = [0, "", null, "deltas", 0, false];
  let data = null;
  let settings = {};

  const controls = new Map();
  const form = html("form", {}, html("span", { className: "unseen" }, "The network"));
  form.setAttribute("aria-label", "The network");
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const spec of model.get("controls")) {
    const made = control(spec, change);
    controls.set(spec.name, made);
    form.append(...made.parts);
  }
  const train = html("button", { type: "button", className: "train" }, "Train it");
  const hold = html("button", { type: "button", className: "hold" }, "Gain at which it holds");
  hold.title = "The gain of the weights at which theory says that gradients neither vanish nor explode";
  form.append(html("div", { className: "actions" }, hold, train));

  const summary = html("p", { className: "summary" });
  const spoken = html("p", { className: "unseen" });
  spoken.setAttribute("aria-live", "polite");
  const problem = html("p", { className: "problem", hidden: true });
  problem.setAttribute("role", "alert");
  const status = html("p", { className: "notes", hidden: true });
  status.setAttribute("role", "status");
  const legend = html("ul", { className: "legend" });
  const plots = html("div", { className: "plots" });
  const notes = html("p", { className: "notes" });
  const numbers = html("details", {}, html("summary", {}, "Numbers"));
  const code = html("textarea", { readOnly: true, spellcheck: false, rows: 9 });
  code.setAttribute("aria-label", "The code that makes this state");
  const copy = html("button", { type: "button", className: "copy" }, "Copy the code");
  const copied = html("span", { className: "copied" });
  copied.setAttribute("role", "status");
  const shown = html("div", { className: "shown" });
  shown.append(summary, spoken, problem, status, views(), legend, plots, notes, numbers);
  shown.append(html("p", {}, copy, " ", copied), code);
  const root = html("div", { className: "labkit-panel labkit-explorer" }, form, shown);
  // a notebook's own keys, such as the arrows, stay out of the controls
  const keys = (event) => {
    if (root.contains(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  };
  window.addEventListener("keydown", keys, true);
  // the picture that stays in the saved notebook is hidden as long as this is here
  const rule = html("style", {}, `.${model.get("still")} { display: none; }`);
  el.append(rule, root);

  function views() {
    const group = html("fieldset", {}, html("legend", {}, "Gradient of"));
    const names = { deltas: "the layers' outputs z (what vanishes or explodes)", weights: "the weights W (what trains)" };
    for (const [value, words] of Object.entries(names)) {
      const radio = html("input", { type: "radio", name: `labkit-${me}`, value, checked: value === which });
      radio.addEventListener("change", () => {
        which = value;
        draw();
      });
      group.append(html("label", {}, radio, ` ${words}`));
    }
    return group;
  }

  // -- asking: one question at a time, and always the newest

  function change(name, value) {
    settings = { ...settings, [name]: value };
    if (name === "data") delete settings.batch_size; // each has its own
    request("ask");
  }

  function request(kind) {
    for (const name of ["more", "rest"]) clearTimeout(timers[name]);
    wanted = { kind, settings };
    if (!frame) frame = requestAnimationFrame(send);
  }

  function send() {
    frame = 0;
    if (waiting || !wanted) return;
    waiting = `${me}:${++asked}`;
    model.send({ ...wanted, id: waiting });
    wanted = null;
    timers.busy = setTimeout(() => {
      if (!model.get("training")) say("Waiting for the kernel: the drawing follows when it has time.");
    }, BUSY);
  }

  function say(words) {
    status.textContent = words;
    status.hidden = !words;
  }

  function answered() {
    const answer = model.get("answer");
    if (answer.id === waiting) {
      waiting = "";
      clearTimeout(timers.busy);
      say("");
    }
    const sentence = answer.problem || "";
    problem.textContent = sentence.charAt(0).toUpperCase() + sentence.slice(1);
    problem.hidden = !answer.problem;
    plots.classList.toggle("stale", Boolean(answer.problem));
    if (!answer.problem) {
      data = answer;
      draw();
      if (!wanted && !waiting) follow(); // an older answer must not turn the controls back
    }
    if (wanted) send();
    else if (copying) copyCode();
  }

  // Nothing newer is wanted: the controls show what is drawn, and what is left to do is done bit by bit.
  function follow() {
    settings = data.settings;
    for (const [name, made] of controls) made.set(settings[name]);
    availability();
    for (const name of ["more", "rest"]) clearTimeout(timers[name]);
    if (data.seeds < data.of) timers.more = setTimeout(() => request("more"), 30);
    else if (data.id.startsWith(me)) timers.rest = setTimeout(() => model.send({ kind: "rest" }), IDLE);
  }

  function availability() {
    const training = model.get("training");
    for (const made of controls.values()) for (const input of made.inputs) input.disabled = training;
    for (const input of controls.get("clip_size").inputs) input.disabled = training || settings.clip === "none";
    train.disabled = hold.disabled = training;
    train.textContent = training ? "Training …" : `Train it for ${data ? data.steps : ""} steps`;
    if (training) say("Training: the controls answer again when it is done.");
  }

  // -- showing

  function draw() {
    if (!data || !data.layers) return;
    const width = Math.max(280, Math.min(900, plots.clientWidth || 640));
    summary.textContent = data.summary;
    notes.textContent = data.notes.join(" ") + weightsWords();
    legend.replaceChildren(...drawLegend(data, which));
    plots.replaceChildren(drawSizes(data, which, width), drawGains(data, width));
    numbers.replaceChildren(numbers.firstChild, drawTable(data));
    if (code.value !== data.code) {
      code.value = data.code;
      code.rows = data.code.trimEnd().split("\n").length;
      copied.textContent = "";
    }
    clearTimeout(timers.said);
    timers.said = setTimeout(() => {
      if (spoken.textContent !== data.summary) spoken.textContent = data.summary;
    }, SAID);
  }

  function weightsWords() {
    if (which !== "weights") return "";
    return " Theory's line is for dℓ/dz: dℓ/dW = dℓ/dz · hᵀ also follows the size h of what enters a layer.";
  }

  async function copyCode() {
    copying = Boolean(waiting || wanted) && settings !== data.settings;
    if (copying) {
      copied.textContent = "In a moment: this state is being measured.";
      return;
    }
    try {
      await navigator.clipboard.writeText(code.value);
      copied.textContent = "Copied.";
    } catch {
      code.focus();
      code.select();
      copied.textContent = "The code is selected: press Ctrl+C or ⌘C.";
    }
  }

  train.addEventListener("click", () => request("train"));
  hold.addEventListener("click", () => request("hold"));
  copy.addEventListener("click", copyCode);
  model.on("change:answer", answered);
  model.on("change:training", availability);
  const observer = new ResizeObserver(() => draw());
  observer.observe(plots);

  data = model.get("answer");
  if (data.layers) {
    draw();
    follow();
  }

  return () => {
    model.off("change:answer", answered);
    model.off("change:training", availability);
    window.removeEventListener("keydown", keys, true);
    observer.disconnect();
    cancelAnimationFrame(frame);
    Object.values(timers).forEach(clearTimeout);
  };
}

export default panel(render);
