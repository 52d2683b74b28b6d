// The live view of a training: reads what Python sent, draws it on canvases, and asks the server to stop the kernel.

const SPOKEN = 10000; // milliseconds between two sentences for a screen reader
const SLICES = 150; // of a waterfall, evenly spread, the first and the last among them

// matplotlib's view_init(50, -220), orthographic, with a box of 4.2 x 4.6 x 3: the view of the static figure
const [ELEVATION, AZIMUTH] = [(50 * Math.PI) / 180, (-220 * Math.PI) / 180];
const BOX = [4.2, 4.6, 3];
const RIGHT = [-Math.sin(AZIMUTH), Math.cos(AZIMUTH), 0];
const UP = [
  -Math.sin(ELEVATION) * Math.cos(AZIMUTH),
  -Math.sin(ELEVATION) * Math.sin(AZIMUTH),
  Math.cos(ELEVATION),
];

const make = (tag, name, text = "") => {
  const found = document.createElement(tag);
  if (name) found.className = name;
  found.textContent = text;
  return found;
};

const numbers = (view, kind) => {
  const bytes = view instanceof DataView ? view : new DataView(view.buffer ?? view);
  return new kind(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};

// Everything that was sent so far, part by part; a view that is made anew reads the parts again.
class Story {
  constructor(model) {
    this.model = model;
    this.read = 0;
    this.latest = null;
    const { networks } = model.get("start");
    this.networks = networks.map((said) => ({ said, loss: [], slices: [], first: null, sizes: null }));
  }

  catchUp() {
    const before = this.read;
    for (let part; (part = this.model.get(`part_${this.read + 1}`)); this.read += 1) this.take(part);
    return this.read > before;
  }

  take(part) {
    this.latest = part;
    const { source } = this.model.get("start");
    part.networks.forEach((sent, k) => {
      const own = this.networks[k];
      own.sent = sent;
      own.loss.length = part.at;
      for (const value of numbers(sent.loss, Float32Array)) own.loss.push(value);
      own.slices.length = part.row;
      const [counts, edges] = [numbers(sent.counts, Int32Array), numbers(sent.edges, Float64Array)];
      const { bins, shown } = own.said;
      const rows = counts.length / (bins * shown.length);
      for (let row = 0; row < rows; row += 1) {
        const layers = shown.map((_, layer) => {
          const at = row * shown.length + layer;
          return {
            counts: counts.subarray(at * bins, (at + 1) * bins),
            low: edges[2 * at],
            high: edges[2 * at + 1],
          };
        });
        own.slices.push({ epoch: part.row + row + (source === "batch" ? 1 : 0), layers });
      }
      own.sizes = [...numbers(sent.sizes, Float64Array)];
      if (sent.first) own.first = [...numbers(sent.first, Float64Array)];
    });
  }
}

const short = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(0).replace("e+", "e").replace("-", "−");
  return value.toLocaleString("en", { maximumSignificantDigits: 3 }).replace("-", "−");
};

const duration = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const [minutes, rest] = [Math.floor(whole / 60), String(whole % 60).padStart(2, "0")];
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

// Round numbers from low to high, about so many.
const ticks = (low, high, most) => {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
  return found;
};

const decades = (low, high) => {
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const inside = [];
  if (to - from < 2) {
    for (let power = from - 1; power <= to; power += 1)
      for (const s of [1, 2, 5]) inside.push(s * 10 ** power);
    return inside.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  }
  const every = Math.ceil((to - from + 1) / 6);
  for (let power = from; power <= to; power += every) inside.push(10 ** power);
  return inside;
};

const median = (values) => {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

// A canvas as sharp as the screen, and the theme's colours.
class Picture {
  constructor(place, height, wide = false) {
    this.figure = make("figure", wide ? "wide" : "");
    this.title = make("strong");
    this.caption = make("span");
    const words = make("figcaption");
    words.append(this.title, this.caption);
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.style.height = `${height}px`;
    this.height = height;
    this.figure.append(words, this.canvas);
    place.append(this.figure);
  }

  say(title, caption, told) {
    this.title.textContent = title;
    this.caption.textContent = caption;
    this.canvas.setAttribute("aria-label", `${title}. ${told}`);
  }

  begin() {
    const scale = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth || 400;
    const [wide, high] = [Math.round(this.width * scale), Math.round(this.height * scale)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const style = getComputedStyle(this.canvas);
    const named = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    this.ink = named("--jp-ui-font-color1", "#1f1f1f");
    this.faint = named("--jp-ui-font-color2", "#555");
    this.grid = named("--jp-border-color2", "#e0e0e0");
    this.paper = named("--jp-layout-color1", "#fff");
    this.dark = luminance(style.color) > 0.4;
    pen.font = "11px system-ui, sans-serif";
    pen.lineJoin = "round";
    this.pen = pen;
    return pen;
  }

  text(words, x, y, { align = "left", base = "alphabetic", colour = this.ink, turn = 0 } = {}) {
    const { pen } = this;
    pen.save();
    pen.translate(x, y);
    pen.rotate(turn);
    pen.textAlign = align;
    pen.textBaseline = base;
    pen.fillStyle = colour;
    pen.fillText(words, 0, 0);
    pen.restore();
  }

  // The figures' colours, which were chosen for white paper: lighter where the paper is dark.
  colour(hex) {
    if (!this.dark) return hex;
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgb(${parts.map((part) => Math.round(part + (255 - part) * 0.35)).join(",")})`;
  }
}

const luminance = (colour) => {
  const [r, g, b] = (colour.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
  return (0.299 * r + 0.587 * g + 0.114 * b) / 255;
};

// A frame with ticks; gives the functions from values to pixels.
const frame = (picture, box, { x, y, log, across, up, xticks, yticks, labels = true }) => {
  const { pen } = picture;
  const [left, top, right, bottom] = box;
  const low = log ? Math.log10(y[0]) : y[0];
  const high = log ? Math.log10(y[1]) : y[1];
  const px = (v) => left + ((v - x[0]) / (x[1] - x[0] || 1)) * (right - left);
  const py = (v) => bottom - (((log ? Math.log10(v) : v) - low) / (high - low || 1)) * (bottom - top);
  pen.lineWidth = 1;
  pen.strokeStyle = picture.grid;
  for (const v of yticks) {
    const at = Math.round(py(v)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, at);
    pen.lineTo(right, at);
    pen.stroke();
    if (labels) picture.text(short(v), left - 5, at, { align: "right", base: "middle", colour: picture.faint });
  }
  pen.strokeStyle = picture.faint;
  pen.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
  for (const [v, words] of xticks) picture.text(words, px(v), bottom + 13, { align: "center", colour: picture.faint });
  picture.text(across, (left + right) / 2, bottom + 28, { align: "center" });
  if (labels) picture.text(up, 11, (top + bottom) / 2, { align: "center", turn: -Math.PI / 2 });
  return [px, py];
};

const polyline = (pen, points) => {
  let open = false;
  pen.beginPath();
  for (const [x, y] of points) {
    if (Number.isFinite(x) && Number.isFinite(y)) {
      if (open) pen.lineTo(x, y);
      else pen.moveTo(x, y);
      open = true;
    } else open = false;
  }
  pen.stroke();
};

const legend = (picture, entries, x, y, room) => {
  const { pen } = picture;
  let at = x;
  for (const { words, draw } of entries) {
    const wide = 26 + pen.measureText(words).width + 12;
    if (at + wide > room && at > x) [at, y] = [x, y + 15];
    draw(at, y - 4);
    picture.text(words, at + 26, y);
    at += wide;
  }
  return y;
};

const stroke = (picture, colour, dash, width = 2) => (x, y) => {
  const { pen } = picture;
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash.map((part) => part * width));
  polyline(pen, [[x, y], [x + 22, y]]);
  pen.setLineDash([]);
};

// How far an axis of time reaches: it doubles as the run grows, so that a long run's first epochs can be seen.
const horizon = (now, most) => {
  const ahead = Math.max(16, 2 ** Math.ceil(Math.log2(now + 1)));
  return most ? Math.max(now, Math.min(ahead, most)) : ahead;
};

const drawLoss = (picture, story, start) => {
  const pen = picture.begin();
  const { log } = story.latest;
  const usable = (v) => Number.isFinite(v) && (!log || v > 0);
  const all = story.networks.flatMap((n) => n.loss.filter(usable));
  const most = all.reduce((a, b) => Math.max(a, b), -Infinity);
  const least = all.reduce((a, b) => Math.min(a, b), Infinity);
  const top = Number.isFinite(most) && most > 0 ? most * (log ? 2 : 1.05) : 1;
  const y = log ? [least / 2, top] : [0, top];
  const done = story.latest.done;
  const each = done / Math.max(story.latest.epoch, 1);
  const x = [1, Math.max(done, Math.round(horizon(story.latest.epoch, start.epochs) * each), 2)];
  const entries = story.networks.map((n) => ({
    words: n.said.label, draw: stroke(picture, picture.colour(n.said.colour), n.said.dash),
  }));
  const head = legend(picture, entries, 56, 14, picture.width) + 10;
  const box = [56, head, picture.width - 30, picture.height - 34];
  const [px, py] = frame(picture, box, {
    x, y, log, across: start.loss.x, up: start.loss.y,
    xticks: ticks(0, x[1], 5).filter((v) => v >= 1).map((v) => [v, v.toLocaleString("en")]),
    yticks: log ? decades(...y) : ticks(0, top, 5),
  });
  story.networks.forEach((n) => {
    const colour = picture.colour(n.said.colour);
    const window_ = start.window;
    const every = Math.max(1, Math.floor(n.loss.length / 4000));
    pen.strokeStyle = colour;
    const enough = n.loss.length >= window_;
    pen.globalAlpha = enough ? 0.35 : 1;
    pen.lineWidth = enough ? 0.7 : 1.5;
    polyline(pen, n.loss.map((v, k) => [px(k + 1), usable(v) ? py(v) : NaN]).filter((_, k) => k % every === 0));
    pen.globalAlpha = 1;
    if (!enough) return;
    pen.lineWidth = 2;
    pen.setLineDash(n.said.dash.map((part) => part * 2));
    polyline(pen, runningMedian(n.loss, window_).map(([at, v]) => [px(at), usable(v) ? py(v) : NaN]));
    pen.setLineDash([]);
  });
  picture.say(start.loss.title, start.loss.caption, story.latest.told.loss);
};

// As labkit.plots.words.running_median: the window shrinks towards both ends and stays centred.
const runningMedian = (values, wide) => {
  const broken = values.findLastIndex(Number.isFinite) + 1;
  const [last, half] = [broken - 1, Math.floor(wide / 2)];
  const every = Math.max(1, Math.floor(broken / 600));
  const found = [];
  for (let at = last % every; at <= last; at += every) {
    const reach = Math.min(at, last - at, half);
    found.push([at + 1, median(values.slice(at - reach, at + reach + 1))]);
  }
  return found;
};

const drawGains = (picture, story, start) => {
  const pen = picture.begin();
  const words = start.gains;
  const count = story.networks.length;
  const fine = (v) => Number.isFinite(v) && v > 0;
  const every = story.networks.flatMap((n) => [...n.sizes, ...n.first, ...n.said.expected]).filter(fine);
  let [low, high] = every.length ? [Math.min(...every) / 2, Math.max(...every) * 2] : [0.5, 2];
  if (words.theory) [low, high] = [Math.min(low, 0.5), Math.max(high, 2)];
  const [left, gap] = [56, 10];
  const wide = (picture.width - left - 10 - gap * (count - 1)) / count;
  const marks = [picture.colour("#0072B2"), picture.colour("#D55E00"), picture.colour("#56B4E9")];
  const entries = words.measured.map((what, latest) => ({
    words: what, draw: (x, y) => dot(picture, x + 11, y, marks[0], latest),
  }));
  if (words.theory) {
    entries.push({ words: words.theory, draw: stroke(picture, marks[1], [4, 1.5]) });
    entries.push({ words: words.band, draw: (x, y) => {
      pen.globalAlpha = 0.35;
      pen.fillStyle = marks[2];
      pen.fillRect(x, y - 5, 22, 10);
      pen.globalAlpha = 1;
    } });
    entries.push({ words: words.neither, draw: stroke(picture, picture.faint, [], 1) });
  }
  const head = legend(picture, entries, 8, 12, picture.width) + 32;
  story.networks.forEach((n, k) => {
    const layers = n.sizes.length;
    const from = left + k * (wide + gap);
    const box = [from, head, from + wide, picture.height - 34];
    const most = Math.max(2, Math.floor(wide / 40));
    const step = Math.ceil(layers / most);
    const [px, py] = frame(picture, box, {
      x: [-0.5, layers - 0.5], y: [low, high], log: true, across: fit(pen, words.x, wide), up: words.y,
      labels: k === 0,
      xticks: n.said.across.map((name, at) => [at, name]).filter(([at]) => at % step === 0),
      yticks: decades(low, high),
    });
    pen.save();
    pen.beginPath();
    pen.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
    pen.clip();
    n.said.band.forEach(([bottom, top], at) => {
      pen.globalAlpha = 0.35;
      pen.fillStyle = marks[2];
      pen.fillRect(px(at - 0.5), py(top), px(at + 0.5) - px(at - 0.5), py(bottom) - py(top));
      pen.globalAlpha = 1;
    });
    if (words.theory) stretch(picture, px, py, [-0.5, layers - 0.5], 1, picture.faint, [], 1);
    n.said.expected.forEach((v, at) => stretch(picture, px, py, [at - 0.5, at + 0.5], v, marks[1], [4, 1.5], 2));
    [n.first, n.sizes].forEach((sizes, latest) => {
      sizes.forEach((v, at) => fine(v) && dot(picture, px(at), py(v), marks[0], latest));
    });
    pen.restore();
    picture.text(n.said.label, (box[0] + box[2]) / 2, head - 6, { align: "center" });
  });
  const clipped = story.networks.map((n) => n.sent.clipped)[0];
  picture.say(words.title, words.caption + (words.theory ? "" : clipped), story.latest.told.gains);
};

const fit = (pen, words, room) => {
  let shown = words;
  while (shown.length > 5 && pen.measureText(shown).width > room) shown = `${shown.slice(0, -2)}…`;
  return shown;
};

const stretch = (picture, px, py, [from, to], v, colour, dash, width) => {
  const { pen } = picture;
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash.map((part) => part * width));
  polyline(pen, [[px(from), py(v)], [px(to), py(v)]]);
  pen.setLineDash([]);
};

const dot = (picture, x, y, colour, filled) => {
  const { pen } = picture;
  pen.beginPath();
  pen.arc(x, y, 4, 0, 2 * Math.PI);
  pen.fillStyle = filled ? colour : picture.paper;
  pen.fill();
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.stroke();
};

const drawDistributions = (picture, n, story, start) => {
  const pen = picture.begin();
  const count = n.said.tiles.length;
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const [wide, high] = [picture.width / columns, picture.height / rows];
  n.said.tiles.forEach((title, k) => {
    const [left, top] = [(k % columns) * wide, Math.floor(k / columns) * high];
    picture.text(fit(pen, title, wide - 8), left + wide / 2, top + 13, { align: "center" });
    drawTile(picture, n, k, [left + 4, top + 18, wide - 8, high - 20], start);
  });
  const drawn = n.slices.length > SLICES ? `; ${SLICES} of ${n.slices.length} epochs are drawn` : "";
  picture.say(n.said.heading, n.sent.what + n.said.some + drawn, n.sent.spread);
};

const spread = (items, most) => {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, k) => items[Math.round((k * (items.length - 1)) / (most - 1))]);
};

const heightOf = (count, source) => (source === "batch" ? count : Math.log10(1 + count));

// Middles and counts of a slice's filled bins reach this far from 0.
const reachOf = (layers) => {
  let reach = 0;
  for (const { counts, low, high } of layers) {
    const step = (high - low) / counts.length;
    counts.forEach((count, k) => {
      if (count > 0) reach = Math.max(reach, Math.abs(low + (k + 0.5) * step));
    });
  }
  return reach || 0.5;
};

const beyond = (layers, [low, high]) => {
  let [out, all] = [0, 0];
  for (const slice of layers) {
    const step = (slice.high - slice.low) / slice.counts.length;
    slice.counts.forEach((count, k) => {
      const middle = slice.low + (k + 0.5) * step;
      all += count;
      if (middle < low || middle > high) out += count;
    });
  }
  return (100 * out) / Math.max(all, 1);
};

const drawTile = (picture, n, k, [left, top, wide, high], start) => {
  const { pen } = picture;
  if (!n.slices.length) return;
  const layers = n.slices.map(({ layers }) => layers[k]);
  const reach = start.limits ? start.limits[1] : reachOf(layers);
  const limits = [-reach, reach];
  const firstEpoch = start.source === "batch" ? 1 : 0;
  const last = Math.max(horizon(n.slices.at(-1).epoch, start.epochs), firstEpoch + 1);
  let largest = 0;
  for (const { counts } of layers) for (const count of counts) if (count > largest) largest = count;
  const ceiling = Math.max(heightOf(largest, start.source), 1);
  const unit = (x, epoch, z) => {
    const p = [
      ((x - limits[0]) / (limits[1] - limits[0]) - 0.5) * BOX[0],
      ((epoch - firstEpoch) / (last - firstEpoch) - 0.5) * BOX[1],
      (z / ceiling - 0.5) * BOX[2],
    ];
    const along = (axis) => axis[0] * p[0] + axis[1] * p[1] + axis[2] * p[2];
    return [along(RIGHT), along(UP)];
  };
  const corners = limits.flatMap((x) => [firstEpoch, last].flatMap((e) => [0, ceiling].map((z) => unit(x, e, z))));
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const [west, east, south, north] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min((wide - 96) / (east - west), (high - 34) / (north - south));
  const [midX, midY] = [left + wide / 2 - 12, top + 8 + (high - 34) / 2];
  const project = (x, epoch, z) => {
    const [px, py] = unit(x, epoch, z);
    return [midX + scale * (px - (west + east) / 2), midY - scale * (py - (south + north) / 2)];
  };
  drawBox(picture, project, limits, [firstEpoch, last], [largest, ceiling], start);
  for (const { epoch, layers: all } of spread(n.slices, SLICES)) drawSlice(picture, all[k], epoch, project, limits, last, start);
  const outside = beyond(layers, limits);
  if (outside) {
    picture.text(`${Number(outside.toPrecision(2))} % lie beyond`, left, top + 6, { colour: picture.faint });
    picture.text("the limits", left, top + 18, { colour: picture.faint });
  }
};

const drawBox = (picture, project, [low, high], [first, last], [largest, ceiling], start) => {
  const { pen } = picture;
  const line = (...points) => {
    pen.strokeStyle = picture.grid;
    pen.lineWidth = 1;
    polyline(pen, points.map((point) => project(...point)));
  };
  line([low, first, 0], [high, first, 0], [high, last, 0], [low, last, 0], [low, first, 0], [low, first, ceiling]);
  line([high, last, 0], [high, last, ceiling], [high, first, ceiling], [low, first, ceiling]);
  line([high, first, 0], [high, first, ceiling]);
  const said = (words, point, dx, dy, align) => {
    const [x, y] = project(...point);
    picture.text(words, x + dx, y + dy, { align, base: "middle", colour: picture.faint });
  };
  const [gradients, epochs, counts] = start.axes;
  for (const v of [low, 0, high]) said(short(v), [v, last, 0], -4, 7, "right");
  said(gradients, [low * 0.4 + high * 0.6, last, 0], -26, 22, "center");
  for (const v of ticks(first, last, 4)) if (v > first && v <= last) said(v.toLocaleString("en"), [low, v, 0], 5, 6, "left");
  said(epochs, [low, first * 0.55 + last * 0.45, 0], 26, 18, "left");
  const marks =
    start.source === "batch"
      ? ticks(0, ceiling, 3).map((v) => [v, short(v)])
      : [10, 100, 1000, 1e4, 1e5].filter((m) => m <= largest).map((m) => [Math.log10(1 + m), m.toLocaleString("en")]);
  for (const [v, words] of marks) if (v > 0) said(words, [low, first, v], 5, 0, "left");
  said(counts, [low, first, ceiling], 5, -10, "left");
};

const drawSlice = (picture, { counts, low, high }, epoch, project, limits, last, start) => {
  const { pen } = picture;
  const step = (high - low) / counts.length;
  const middle = (k) => low + (k + 0.5) * step;
  const height = (k) => heightOf(counts[k], start.source);
  const points = [[limits[0], 0]];
  const from = middle(0);
  if (from > limits[0]) points.push([from, 0]);
  for (let k = 0; k < counts.length; k += 1) {
    const x = middle(k);
    const crossed = (edge) => {
      const [a, b] = [middle(k - 1), x];
      return [edge, height(k - 1) + ((edge - a) / (b - a)) * (height(k) - height(k - 1))];
    };
    for (const edge of limits) if (k > 0 && middle(k - 1) < edge && x > edge) points.push(crossed(edge));
    if (x >= limits[0] && x <= limits[1]) points.push([x, height(k)]);
  }
  const to = middle(counts.length - 1);
  if (to < limits[1]) points.push([to, 0]);
  points.push([limits[1], 0]);
  const share = epoch / Math.max(start.epochs ?? last, epoch);
  const shade = picture.colour(start.shades[Math.round(share * (start.shades.length - 1))]);
  pen.beginPath();
  points.forEach(([x, z], k) => {
    const [sx, sy] = project(x, epoch, z);
    if (k) pen.lineTo(sx, sy);
    else pen.moveTo(sx, sy);
  });
  pen.closePath();
  pen.fillStyle = shade;
  pen.fill();
  // an edge would hide the peaks that are hardly wider than itself
  pen.strokeStyle = step < start.thin * (limits[1] - limits[0]) ? shade : start.edge;
  pen.lineWidth = 0.5;
  pen.stroke();
};

// The kernel is busy and hears nothing from here: its server interrupts it.
const interrupt = async (kernel) => {
  const element = document.getElementById("jupyter-config-data");
  if (!element || !kernel) return false;
  const config = JSON.parse(element.textContent);
  const cookie = document.cookie.split("; ").find((c) => c.startsWith("_xsrf="));
  const headers = cookie ? { "X-XSRFToken": decodeURIComponent(cookie.slice(6)) } : {};
  if (config.token) headers.Authorization = `token ${config.token}`;
  const where = `${config.baseUrl ?? "/"}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  const answer = await fetch(where, { method: "POST", credentials: "same-origin", headers });
  return answer.ok;
};

function render({ model, el }) {
  const start = model.get("start");
  const story = new Story(model);
  const root = make("section", "labkit-panel labkit-training");
  root.setAttribute("aria-label", `Training of ${start.name}`);
  const head = make("div", "head");
  const bar = make("progress");
  bar.setAttribute("aria-label", "Progress");
  const where = make("span", "where");
  const stop = make("button", "stop", "■ Stop");
  stop.type = "button";
  stop.title = "Stop training; what was recorded is kept in a file";
  head.append(make("strong", "", start.name), bar, where, stop);
  const said = make("p", "said");
  said.setAttribute("role", "status");
  const spoken = make("p", "unseen");
  spoken.setAttribute("aria-live", "polite");
  const figures = make("div", start.networks.length === 1 ? "figures single" : "figures");
  root.append(head, said, spoken, figures);
  el.append(root);

  const loss = new Picture(figures, 280);
  const gains = new Picture(figures, 280);
  const falls = story.networks.map((n) => new Picture(figures, n.said.tiles.length > 4 ? 480 : 400, true));
  let [asked, heard] = [0, -SPOKEN];

  const tell = () => {
    const { done, epoch, elapsed, over } = story.latest;
    const total = start.iterations;
    if (total) [bar.max, bar.value] = [total, done];
    const left = total ? ` · ${duration((elapsed / Math.max(done, 1)) * (total - done))} left` : "";
    const of = (value, most) => value.toLocaleString("en") + (most ? ` of ${most.toLocaleString("en")}` : "");
    where.textContent =
      `Epoch ${of(epoch, start.epochs)} · iteration ${of(done, total)} · ${duration(elapsed)} gone${over ? "" : left}`;
    if (over) {
      stop.disabled = true;
      said.textContent = over === "done" ? "Done; drawing the figure that stays." : `Ended: ${over}.`;
    }
    const now = performance.now();
    if (now - heard < SPOKEN && !over) return;
    heard = now;
    spoken.textContent = `${where.textContent}. ${story.latest.told.loss}`;
  };

  const draw = () => {
    asked = 0;
    if (!root.isConnected || !story.latest) return;
    tell();
    drawLoss(loss, story, start);
    drawGains(gains, story, start);
    story.networks.forEach((n, k) => drawDistributions(falls[k], n, story, start));
  };
  const ask = () => {
    asked ||= requestAnimationFrame(draw);
  };
  const news = () => {
    if (story.catchUp()) ask();
  };

  stop.addEventListener("click", async () => {
    stop.disabled = true;
    said.textContent = "Stopping: what was recorded is kept.";
    const done = await interrupt(model.get("kernel")).catch(() => false);
    if (done) return;
    stop.disabled = false;
    said.textContent = "This button cannot reach the kernel here: press the stop button (■) in the notebook's toolbar.";
  });
  model.on("change", news);
  const size = new ResizeObserver(ask);
  size.observe(figures);
  const theme = new MutationObserver(ask);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  news();
  return () => {
    model.off("change", news);
    size.disconnect();
    theme.disconnect();
    cancelAnimationFrame(asked);
  };
}

export default panel(render);
