"use strict";
// All text goes into the page as text: nothing that a call brought along is read as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const calls = data.calls.map((call, place) => ({
    ...call,
    place: place + 1,
    waited: call.waits ? call.waits.filter((w) => w.for !== "dependencies").reduce((sum, w) => sum + w.ends - w.begins, 0) : null,
    took: call.started !== undefined && call.ended !== undefined ? call.ended - call.started : null,
    text: JSON.stringify({ ...call, images: (call.images || []).map((image) => image[0]) }).toLowerCase(),
  }));
  const byId = new Map(calls.map((call) => [call.id, call]));
  const get = (id) => document.getElementById(id);
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const seconds = (value) => (value === null || value === undefined ? "" : (value < 0.9995 ? `${value < 0.00995 ? +(value * 1000).toFixed(1) : (value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`));
  const marks = [...document.querySelectorAll("g[data-calls]")].map((element) => ({
    element,
    ids: JSON.parse(element.dataset.calls),
  }));
  const rows = new Map();
  let only = null;
  let chosen = null;
  let order = { key: "place", down: false };

  function fill() {
    const body = get("rows");
    const sorted = [...calls].sort((a, b) => {
      const x = a[order.key] ?? -1;
      const y = b[order.key] ?? -1;
      const sign = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return (order.down ? -sign : sign) || a.place - b.place;
    });
    body.replaceChildren();
    for (const call of sorted) {
      let row = rows.get(call.id);
      if (!row) {
        row = make("tr");
        row.tabIndex = 0;
        row.append(
          make("td", call.place, "number"),
          make("td", `${call.glyph} ${call.state.replace("_", " ")}`),
          make("td", call.id),
          make("td", call.tool),
          make("td", seconds(call.started), "number"),
          make("td", seconds(call.waited), "number"),
          make("td", seconds(call.took), "number"),
          make("td", call.note),
        );
        row.addEventListener("click", () => choose(call.id));
        row.addEventListener("keydown", (event) => {
          if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            choose(call.id);
          }
        });
        rows.set(call.id, row);
      }
      body.append(row);
    }
  }

  function filter() {
    const words = get("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = new Set(
      calls.filter((call) => words.every((word) => call.text.includes(word))).map((call) => call.id),
    );
    let shown = 0;
    for (const call of calls) {
      const visible = matching.has(call.id) && (only === null || only.has(call.id));
      rows.get(call.id).hidden = !visible;
      shown += visible ? 1 : 0;
    }
    for (const mark of marks) mark.element.classList.toggle("off", !mark.ids.some((id) => matching.has(id)));
    document.querySelector("main").classList.toggle("searching", words.length > 0);
    get("found").textContent = words.length || only !== null ? `${shown} of ${calls.length} calls` : "";
    get("all").hidden = only === null;
  }

  function pair(list, name, value) {
    if (value === undefined || value === null || value === "") return;
    list.append(make("dt", name));
    const cell = make("dd");
    if (value instanceof Node) cell.append(value);
    else cell.textContent = value;
    list.append(cell);
  }

  function linked(ids) {
    if (!ids || !ids.length) return null;
    const box = make("span");
    ids.forEach((id, number) => {
      if (number) box.append(", ");
      const button = make("a", id);
      button.href = "#";
      button.addEventListener("click", (event) => {
        event.preventDefault();
        choose(id);
      });
      box.append(button);
    });
    return box;
  }

  function choose(id) {
    const call = byId.get(id);
    if (!call) return;
    chosen = id;
    for (const [name, row] of rows) row.classList.toggle("on", name === id);
    for (const mark of marks) mark.element.classList.toggle("on", mark.ids.includes(id));
    const box = get("details");
    box.replaceChildren(make("h2", `${call.glyph} ${call.id} ${call.tool}`));
    const list = make("dl");
    pair(list, "State", call.state.replace("_", " "));
    pair(list, "Deadline", call.scope ? `of the ${call.scope}` : null);
    pair(list, "Because of", call.because && byId.has(call.because) ? linked([call.because]) : call.because);
    pair(list, "Error", call.error ? `${call.error.type}: ${call.error.message}` : null);
    pair(list, "Caution", call.maybe ? "it may have taken effect although it did not end as it should" : null);
    pair(list, "Started", seconds(call.started));
    pair(list, "Ended", seconds(call.ended));
    pair(list, "Took", seconds(call.took));
    for (const wait of call.waits || []) pair(list, wait.for === "dependencies" ? "Dependencies" : `Waited (${wait.for})`, seconds(wait.ends - wait.begins));
    pair(list, "Attempts", call.attempts || null);
    pair(list, "Critical path", { start: "yes, from the start", dependency: "yes, by a dependency", slot: `yes, waited for a ${(call.waits || []).some((wait) => wait.for === "limit") ? "limit" : "slot"}` }[call.critical]);
    pair(list, "Waits for", linked(call.needs));
    pair(list, "Needed by", linked(call.behind));
    box.append(list);
    for (const [name, title] of [["args", "Arguments"], ["value", "Result"], ["question", "Question"]]) {
      if (call[name] !== undefined) box.append(make("h3", title), make("pre", call[name]));
    }
    for (const [text, address] of call.images || []) {
      const figure = make("figure");
      if (address.startsWith("data:image/")) {
        const image = make("img");
        image.src = address;
        image.alt = text;
        figure.append(image);
      }
      figure.append(make("figcaption", text));
      box.append(figure);
    }
  }

  function pick(mark) {
    if (mark.ids.length === 1) {
      choose(mark.ids[0]);
      return;
    }
    only = new Set(mark.ids);
    filter();
    get("calls-head").scrollIntoView();
  }

  fill();
  filter();
  get("search").addEventListener("input", filter);
  get("all").addEventListener("click", () => {
    only = null;
    filter();
  });
  for (const mark of marks) {
    mark.element.addEventListener("click", () => pick(mark));
    mark.element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        pick(mark);
      }
    });
  }
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      order = { key: button.dataset.key, down: order.key === button.dataset.key && !order.down };
      fill();
    });
  }
  get("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  if (chosen === null) {
    const first = calls.find((call) => ["failed", "timed_out", "in_doubt"].includes(call.state));
    if (first) choose(first.id);
  }
})();
