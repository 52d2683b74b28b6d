// The table of variables, the page of one of them, and the timeline. Python sends plain data, one message a cell;
// what comes from a student is only ever put into text nodes.

const COLUMNS = [
  { key: "name", head: "Name", text: (row) => row.name },
  { key: "change", head: "Change", text: (row, state) => state.marks[row.name] || "" },
  { key: "value", head: "Value", text: (row) => row.value },
  { key: "shape", head: "Shape", text: (row) => row.shape, order: (row) => (row.shape ? row.count : null) },
  { key: "dtype", head: "dtype", text: (row) => row.dtype },
  { key: "device", head: "Device", text: (row) => row.device },
  { key: "bytes", head: "Bytes", number: true, text: (row) => grouped(row.bytes), order: (row) => row.bytes },
  { key: "low", head: "Min", number: true, text: (row) => measured(row, "low"), order: (row) => row.low },
  { key: "mean", head: "Mean", number: true, text: (row) => measured(row, "mean"), order: (row) => row.mean },
  { key: "high", head: "Max", number: true, text: (row) => measured(row, "high"), order: (row) => row.high },
  { key: "class", head: "Class", text: (row) => row.class },
];
const SIGNS = { new: "+", changed: "•", grew: "▲", shrank: "▼", gone: "−" };
const SHOWN = 500; // rows at once: a table of thousands takes the browser seconds
const PAUSE = 500; // ms between two drawings while more rows are to come
const BUSY = 400; // ms without an answer, after which the panel says why
const compare = new Intl.Collator("en", { numeric: true, sensitivity: "base" }).compare;

const grouped = (number) => number.toLocaleString("en");
const plural = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;

function measured(row, key) {
  if (row[key] === null) return key === "low" && row.device && row.device !== "cpu" ? `on ${row.device}` : "";
  const text = Number(row[key].toPrecision(4)).toString();
  return row.sampled ? `≈ ${text}` : text;
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const button = (text, onclick, properties = {}) => element("button", { type: "button", onclick, ...properties }, text);

function sign(word) {
  const made = element("span", { className: `mark ${word}` });
  if (word) made.append(element("span", { ariaHidden: "true" }, `${SIGNS[word] || ""} `), word);
  return made;
}

function render({ model, el }) {
  const state = {
    rows: new Map(),
    marks: {},
    sort: "name",
    descending: false,
    filter: "",
    current: null, // the name whose row the arrow keys are at
    page: null, // what was asked for, while a page is open
    timeline: null, // the first step that is shown
    tab: "variables",
    most: SHOWN, // rows that are drawn
    drawn: 0, // when they were drawn
  };
  const view = Math.random().toString(36).slice(2);
  let waiting = null;
  let alive = true;
  let ended = false; // is the kernel gone?

  const tabs = ["variables", "timeline"].map((name) =>
    button(name === "variables" ? "Variables" : "Timeline", () => choose(name), {
      role: "tab",
      id: `${view}-${name}`,
      "aria-controls": `${view}-panel`,
      onkeydown: (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        choose(name === "variables" ? "timeline" : "variables");
        tabs.find((tab) => tab.tabIndex === 0).focus();
      },
    }),
  );
  const filter = element("input", {
    type: "search",
    placeholder: "Filter",
    ariaLabel: "Filter the variables by name, value or class",
    oninput: () => {
      state.filter = filter.value.trim().toLowerCase();
      fill();
    },
  });
  const count = element("span", { className: "count", role: "status" });
  const status = element("p", { className: "status", role: "status" });
  const heads = new Map();
  const table = element("table", { className: "variables" });
  const body = element("tbody");
  const headRow = element("tr");
  for (const column of COLUMNS) {
    const sorter = button(column.head, () => sortBy(column.key));
    const head = element("th", { scope: "col", className: column.number ? "number" : "" }, sorter);
    heads.set(column.key, head);
    headRow.append(head);
  }
  table.append(element("caption", {}, "Variables"), element("thead", {}, headRow), body);
  const more = button("", showMore, { className: "more", hidden: true });
  const scroller = element("div", { className: "scroller", tabIndex: -1 }, table, more);
  const page = element("div", { className: "page" });
  const main = element("div", { role: "tabpanel", id: `${view}-panel`, className: "main" }, scroller, page);
  el.classList.add("labkit-panel", "labkit-workspace");
  el.append(
    element(
      "div",
      { className: "bar" },
      element("div", { role: "tablist", ariaLabel: "Workspace" }, ...tabs),
      filter,
      count,
    ),
    status,
    main,
  );

  // keys of JupyterLab's command mode must not reach the notebook from here
  const keep = (event) => event.stopPropagation();
  el.addEventListener("keydown", keep);

  function send(message) {
    model.send({ ...message, for: view });
  }

  function ask(message) {
    clearTimeout(waiting);
    const words = ended ? "The kernel that could answer is gone." : "A cell is running: the answer comes when it has ended.";
    waiting = setTimeout(() => {
      if (alive) page.prepend(element("p", { className: "busy", role: "status" }, words));
    }, BUSY);
    send(message);
  }

  // the table

  function sortBy(key) {
    state.descending = state.sort === key ? !state.descending : false;
    state.sort = key;
    fill();
  }

  function ordered() {
    const column = COLUMNS.find((found) => found.key === state.sort);
    const key = column.order || ((row) => column.text(row, state).toLowerCase());
    const turn = state.descending ? -1 : 1;
    const fits = (row) =>
      !state.filter ||
      [row.name, row.value, row.class, row.dtype, row.shape, row.device, state.marks[row.name] || ""]
        .join(" ")
        .toLowerCase()
        .includes(state.filter);
    return [...state.rows.values()].filter(fits).sort((a, b) => {
      const [one, other] = [key(a), key(b)];
      const empty = (one === null || one === "") - (other === null || other === "");
      if (empty) return empty; // what has no value is last, whichever the direction
      const order = typeof one === "number" ? one - other : compare(one ?? "", other ?? "");
      return turn * order || compare(a.name, b.name);
    });
  }

  function fill() {
    const focused = body.contains(document.activeElement);
    const found = ordered();
    const shown = found.slice(0, state.most);
    state.drawn = performance.now();
    for (const [key, head] of heads) {
      if (key === state.sort) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    if (!shown.some((row) => row.name === state.current)) state.current = shown.length ? shown[0].name : null;
    body.replaceChildren(...shown.map(line));
    const all = plural(state.rows.size, "variable");
    count.textContent = found.length === state.rows.size ? all : `${grouped(found.length)} of ${all}`;
    const left = found.length - shown.length;
    more.hidden = !left;
    more.textContent = `Show ${grouped(Math.min(left, SHOWN))} more of ${grouped(left)}`;
    if (focused) opener(state.current)?.focus();
  }

  function showMore() {
    const before = body.rows.length;
    state.most += SHOWN;
    fill();
    body.rows[before]?.querySelector("button").focus();
  }

  function line(row) {
    const word = state.marks[row.name] || "";
    const made = element("tr", { className: word ? "touched" : "", onclick: () => open(row.name) });
    for (const column of COLUMNS) {
      const cell = element(column.key === "name" ? "th" : "td", { className: column.number ? "number" : column.key });
      if (column.key === "name") {
        cell.scope = "row";
        const inside = button(row.name, () => {}, { tabIndex: row.name === state.current ? 0 : -1 });
        inside.dataset.name = row.name;
        inside.title = row.name;
        inside.addEventListener("keydown", move);
        cell.append(inside);
      } else if (column.key === "change") cell.append(sign(word));
      else cell.textContent = column.text(row, state);
      if (column.key === "value" || column.key === "class") cell.title = cell.textContent;
      made.append(cell);
    }
    return made;
  }

  const opener = (name) => [...body.querySelectorAll("button")].find((found) => found.dataset.name === name);

  function move(event) {
    const all = [...body.querySelectorAll("button")];
    const here = all.indexOf(event.currentTarget);
    const steps = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1, PageDown: here + 20, PageUp: here - 20 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = all[Math.max(0, Math.min(all.length - 1, steps[event.key]))];
    all[here].tabIndex = -1;
    next.tabIndex = 0;
    state.current = next.dataset.name;
    next.focus();
  }

  function take(message) {
    if (message.all) state.rows.clear();
    for (const row of message.rows) state.rows.set(row.name, row);
    const names = message.names && new Set(message.names);
    if (names) for (const name of state.rows.keys()) if (!names.has(name)) state.rows.delete(name);
    state.marks = message.marks;
    tell(message);
    if (!message.rest || performance.now() - state.drawn > PAUSE) fill();
    if (message.rest > 0) send({ ask: "rest" });
    const touched = state.page && (message.marks[state.page.name] || message.gone.some(([name]) => name === state.page.name));
    if (touched && !message.all) ask(state.page);
    if (state.tab === "timeline") ask({ ask: "timeline", first: state.timeline });
  }

  function tell(message) {
    const where = message.cell === null ? "Before the first cell has ended" : `Cell ${message.cell}`;
    const counts = {};
    for (const word of Object.values(message.marks)) counts[word] = (counts[word] || 0) + 1;
    const parts = Object.entries(counts).map(([word, number]) => `${grouped(number)} ${word}`);
    const gone = message.gone.map(([name]) => name);
    if (gone.length) parts.push(`gone: ${gone.slice(0, 20).join(", ")}${gone.length > 20 ? " …" : ""}`);
    const rest = message.rest ? ` ${plural(message.rest, "row")} to come.` : "";
    status.replaceChildren(
      `${where}: ${parts.join(", ") || "nothing changed"}.${rest}`,
      ...(message.problem ? [element("strong", {}, ` ${message.problem}`)] : []),
    );
    status.title = message.source;
  }

  // tabs and pages

  function choose(name) {
    state.tab = name;
    state.page = null;
    state.timeline = 0;
    if (name === "timeline") {
      page.replaceChildren();
      ask({ ask: "timeline", first: 0 });
    }
    arrange();
  }

  function arrange() {
    const listed = state.tab === "variables" && !state.page;
    scroller.hidden = !listed;
    page.hidden = listed;
    filter.disabled = !listed;
    tabs.forEach((tab, k) => {
      const chosen = ["variables", "timeline"][k] === state.tab;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) main.setAttribute("aria-labelledby", tab.id);
    });
  }

  function open(name, path = []) {
    state.current = name;
    state.page = { ask: "page", name, path };
    page.replaceChildren(navigation({ title: name }));
    arrange();
    page.querySelector("button").focus();
    ask(state.page);
  }

  function back() {
    clearTimeout(waiting);
    if (state.page.path.length) {
      open(state.page.name, state.page.path.slice(0, -1));
      return;
    }
    state.page = null;
    arrange();
    fill();
    opener(state.current)?.focus();
  }

  function change(more) {
    state.page = { ...state.page, ...more };
    ask(state.page);
  }

  const navigation = (answer) =>
    element(
      "div",
      { className: "navigation" },
      button(state.page.path.length ? "← Back" : "← All variables", back, { className: "back" }),
      element("h2", {}, answer.title || state.page.name),
    );

  function show(answer) {
    clearTimeout(waiting);
    if (answer.kind === "timeline") return state.tab === "timeline" ? showTimeline(answer) : undefined;
    if (!state.page) return undefined;
    const focus = document.activeElement?.dataset?.control;
    const held = page.contains(document.activeElement);
    const parts = [navigation(answer), facts(answer)];
    if (answer.views.length > 1) parts.push(views(answer));
    parts.push(...(KINDS[answer.kind] || KINDS.text)(answer));
    page.replaceChildren(...parts);
    if (held) (page.querySelector(`[data-control="${focus}"]:not(:disabled)`) || page.querySelector("button")).focus();
    return undefined;
  }

  function facts(answer) {
    const list = element("div", { className: "facts" });
    const told = [...answer.facts, ...(answer.range?.text ? [["range", answer.range.text]] : [])];
    for (const [label, text] of told) list.append(element("span", {}, element("span", { className: "label" }, `${label} `), text));
    if (answer.range?.more) {
      const words = answer.range.text.startsWith("not") ? "Compute min, mean, max" : "Read every element";
      list.append(button(words, () => change({ whole: true }), { "data-control": "whole" }));
    }
    return list;
  }

  const views = (answer) =>
    element(
      "div",
      { className: "views", role: "group", ariaLabel: "Show as" },
      ...answer.views.map((name) => {
        const made = button(name[0].toUpperCase() + name.slice(1), () => change({ view: name }), { "data-control": `view-${name}` });
        made.setAttribute("aria-pressed", String(name === answer.view));
        return made;
      }),
    );

  // one pager for rows, one for columns, one for items, letters and steps
  function pager(word, key, first, step, total, turn) {
    if (total <= step) return [];
    const last = Math.min(first + step, total);
    const go = (to) => turn({ [key]: Math.max(0, Math.min(to, total - 1)) });
    const to = (label, name, place, off) =>
      button(label, () => go(place), { ariaLabel: `${name} ${word}s`, disabled: off, "data-control": `${key}-${name}` });
    const field = element("input", {
      type: "number",
      min: 0,
      max: total - 1,
      value: first,
      ariaLabel: `Go to ${word}`,
      "data-control": `${key}-field`,
      onchange: () => go(Math.trunc(Number(field.value)) || 0),
    });
    return [
      element(
        "div",
        { className: "pager", role: "group", ariaLabel: `${word}s` },
        to("First", "First", 0, first === 0),
        to("◀", "Previous", first - step, first === 0),
        element("span", {}, `${word}s `, field, ` to ${grouped(last - 1)} of ${grouped(total)}`),
        to("▶", "Next", first + step, last >= total),
        to("Last", "Last", total - 1, last >= total),
      ),
    ];
  }

  function place(answer, axis) {
    const length = answer.shape[axis];
    const field = element("input", {
      type: "number",
      min: 0,
      max: length - 1,
      value: answer.at[axis],
      "data-control": `at-${axis}`,
      onchange: () => {
        const at = [...answer.at];
        at[axis] = Math.max(0, Math.min(length - 1, Math.trunc(Number(field.value)) || 0));
        change({ at });
      },
    });
    return element("label", {}, `dimension ${axis}: `, field, ` of ${grouped(length)} `);
  }

  function axes(answer) {
    return ["rows", "columns"].map((word, which) => {
      const choice = element("select", {
        "data-control": `axis-${word}`,
        onchange: () => {
          const chosen = [...answer.axes];
          const other = chosen.indexOf(Number(choice.value));
          if (other >= 0) chosen[other] = chosen[which];
          chosen[which] = Number(choice.value);
          change({ axes: chosen, row: 0, column: 0 });
        },
      });
      answer.shape.forEach((length, axis) => choice.append(element("option", { value: axis }, `${axis} (${grouped(length)})`)));
      choice.value = String(answer.axes[which]);
      return element("label", {}, `${word}: dimension `, choice, " ");
    });
  }

  const KINDS = {
    text: (answer) => [
      element("pre", { tabIndex: 0 }, answer.text),
      ...pager("character", "row", answer.first || 0, answer.step || 1, answer.total || 0, change),
    ],

    elsewhere: (answer) => [
      element("p", {}, `The values are on ${answer.device}. Nothing of them is read until you ask for it. `),
      button(`Read from ${answer.device}`, () => change({ read: true }), { "data-control": "read" }),
    ],

    image: (answer) => {
      const [wide, high] = answer.size;
      const scale = Math.max(1, Math.floor(280 / Math.max(wide, high)));
      const image = element("img", { alt: answer.alt, width: wide * scale, height: high * scale });
      image.src = `data:image/png;base64,${answer.png}`;
      return [
        element("div", { className: "places" }, ...answer.free.map((axis) => place(answer, axis))),
        image,
        element("p", {}, answer.legend),
      ];
    },

    grid: (answer) => {
      const [row, column] = answer.first;
      const others = answer.shape.map((_, axis) => axis).filter((axis) => !answer.axes.includes(axis));
      const controls = answer.shape.length > 2 ? [...axes(answer), ...others.map((axis) => place(answer, axis))] : [];
      const grid = element("table", { className: "grid" }, element("caption", {}, `Elements of ${answer.title}`));
      const wide = answer.cells.length ? answer.cells[0].length : 0;
      if (answer.axes.length > 1) {
        const head = element("tr", {}, element("td"));
        for (let k = 0; k < wide; k += 1) head.append(element("th", { scope: "col" }, grouped(column + k)));
        grid.append(element("thead", {}, head));
      }
      const inside = element("tbody");
      answer.cells.forEach((cells, k) => {
        const head = answer.axes.length ? [element("th", { scope: "row" }, grouped(row + k))] : [];
        inside.append(element("tr", {}, ...head, ...cells.map((text) => element("td", { className: "number" }, text))));
      });
      grid.append(inside);
      return [
        ...(controls.length ? [element("div", { className: "places" }, ...controls)] : []),
        ...pager("row", "row", row, answer.step[0], answer.total[0], change),
        ...pager("column", "column", column, answer.step[1], answer.total[1], change),
        answer.total[0] * answer.total[1]
          ? element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Elements" }, grid)
          : element("p", {}, "It has no elements."),
      ];
    },

    list: (answer) => {
      const listed = element("table", { className: "list" }, element("caption", {}, `Inside ${answer.title}`));
      listed.append(element("thead", {}, element("tr", {}, ...answer.heads.map((head) => element("th", { scope: "col" }, head)))));
      const inside = element("tbody");
      const into = (to) => open(state.page.name, [...state.page.path, to]);
      for (const row of answer.rows) {
        const cells = row.cells.map((text, k) => element(k ? "td" : "th", k ? {} : { scope: "row" }, text));
        const opens = row.open !== undefined && row.open !== null;
        if (opens) cells[0].replaceChildren(button(row.cells[0], () => into(row.open)));
        if (row.links?.length) {
          const shapes = row.cells[3].split(", ");
          cells[3].replaceChildren(...row.links.map(([, to], k) => button(shapes[k] || "", () => into(to))));
        }
        inside.append(element("tr", { className: opens ? "opens" : "", onclick: opens ? () => into(row.open) : null }, ...cells));
      }
      listed.append(inside);
      if (answer.sum) listed.append(element("tfoot", {}, element("tr", {}, element("th", { scope: "row" }, "total"), element("td", { colSpan: answer.heads.length - 1, className: "number" }, answer.sum))));
      return [
        ...pager("item", "row", answer.first, answer.step, answer.total, change),
        element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Contents" }, listed),
      ];
    },
  };

  function showTimeline(answer) {
    state.timeline = answer.first;
    const listed = element("table", { className: "list" }, element("caption", {}, "What each cell changed, the newest first"));
    const head = ["cell", "first line", "what happened"].map((text) => element("th", { scope: "col" }, text));
    const inside = element("tbody");
    for (const [cell, source, changes, all] of answer.steps) {
      const told = element("td", { className: "changes" });
      changes.forEach(([name, word]) => told.append(element("span", { className: "change" }, `${name} `, sign(word)), " "));
      if (!changes.length) told.append("nothing changed");
      if (all > changes.length) told.append(`and ${grouped(all - changes.length)} more`);
      inside.append(element("tr", {}, element("th", { scope: "row" }, cell === null ? "" : String(cell)), element("td", { className: "source", title: source }, source), told));
    }
    listed.append(element("thead", {}, element("tr", {}, ...head)), inside);
    const turn = (more) => ask({ ask: "timeline", first: more.row });
    page.replaceChildren(
      ...(answer.dropped ? [element("p", {}, `The timeline is full: ${plural(answer.dropped, "later step")} are not in it.`)] : []),
      ...pager("step", "row", answer.first, answer.step, answer.total, turn),
      answer.steps.length ? element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: "Timeline" }, listed) : element("p", {}, "No cell has ended yet."),
    );
  }

  // the tab beside the notebook

  // JupyterLab gives an output the height of its content; a panel has that of its tab
  function stretch() {
    const tab = el.closest(".jupyterlab-sidecar");
    for (let box = el; tab && box !== tab; box = box.parentElement) {
      box.style.height = "100%";
      box.style.maxHeight = "none";
    }
  }

  // a tab that is closed leaves the document and tells nobody; Python opens another only when it knows
  let attached = false;
  const watch = setInterval(() => {
    if (el.isConnected && !attached) stretch();
    if (attached && !el.isConnected) {
      clearInterval(watch);
      send({ ask: "closed" });
    }
    attached = el.isConnected;
  }, 300);

  // after a restart of the kernel the old tab stays, with a table that nobody brings up to date
  const REPLACED = "labkit-workspace-replaced";
  const replaced = (event) => {
    if (event.detail.home !== model.get("home") || event.detail.life === model.get("life")) return;
    el.replaceChildren(element("p", {}, "The kernel was restarted; a new panel has taken the place of this one."));
    clearInterval(watch);
    const tab = el.closest(".jupyterlab-sidecar");
    const label = tab && [...document.querySelectorAll(".lm-TabBar-tab")].find((found) => found.dataset.id === tab.id);
    const icon = label?.querySelector(".lm-TabBar-tabCloseIcon");
    if (!icon) return;
    const box = icon.getBoundingClientRect();
    const at = { bubbles: true, cancelable: true, button: 0, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    icon.dispatchEvent(new PointerEvent("pointerdown", at));
    icon.dispatchEvent(new PointerEvent("pointerup", at));
  };
  document.dispatchEvent(new CustomEvent(REPLACED, { detail: { home: model.get("home"), life: model.get("life") } }));
  document.addEventListener(REPLACED, replaced);

  // until another panel takes the place, what was there last can still be read
  const last = () => {
    ended = true;
    el.classList.add("ended");
    status.replaceChildren(element("strong", {}, "The kernel was restarted: these were its variables. Run the cell with labkit.workspace() again."));
  };
  model.on("comm_live_update", last); // the comm was alive from the beginning

  // messages

  const receive = (message) => {
    if (message.kind === "rows" && !message.page) take(message);
    else if (message.for === view) show(message);
  };
  model.on("msg:custom", receive);
  const escape = (event) => {
    if (event.key === "Escape" && state.page) back();
  };
  el.addEventListener("keydown", escape);
  arrange();
  fill();
  send({ ask: "all" });

  return () => {
    alive = false;
    clearTimeout(waiting);
    clearInterval(watch);
    document.removeEventListener(REPLACED, replaced);
    model.off("comm_live_update", last);
    model.off("msg:custom", receive);
    el.removeEventListener("keydown", keep);
    el.removeEventListener("keydown", escape);
  };
}

export default panel(render);
