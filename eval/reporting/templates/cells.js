// Browse cells: search, order and draw observed against predicted distributions, a few outcomes at a time.
// Everything from data is put in as text (textContent), never as markup.
"use strict";
{
  const data = JSON.parse(document.getElementById("cell-data").textContent);
  const at = (id) => document.getElementById(id);
  const STEP = 6;
  const ARMS = 12;

  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "rect", "line", "path", "text", "title", "g"].includes(name);
    const element = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const number = (value, digits = 0) =>
    value === null || value === undefined
      ? "–"
      : value
          .toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
          .replace("-", "−");
  const percent = (share, digits = 1) => `${number(100 * share, digits)}%`;

  // Outcomes: the cells of one study and task, one for each arm.
  const outcomes = new Map();
  for (const cell of data.cells) {
    const key = `${cell.s}/${cell.t}`;
    if (!outcomes.has(key)) outcomes.set(key, { key, study: cell.s, task: cell.t, cells: [], rows: 0 });
    const outcome = outcomes.get(key);
    outcome.cells.push(cell);
    outcome.rows += cell.n;
  }
  for (const outcome of outcomes.values()) {
    outcome.cells.sort((one, other) => one.c - other.c);
    const means = outcome.cells.map((cell) => cell.m).filter((mean) => mean !== null);
    const [low, high] = outcome.cells[0].r;
    outcome.effect = means.length > 1 ? (Math.max(...means) - Math.min(...means)) / (high - low || 1) : -1;
    outcome.text = [outcome.study, ...new Set(outcome.cells.map((cell) => data.texts[cell.i]))]
      .join("\n")
      .toLowerCase();
  }

  // What a bar stands for: one answer, or several.
  function answersOf(cell, index) {
    const start = cell.b + index * cell.w;
    const end = index === cell.h.length - 1 ? Math.max(cell.r[1], start) : start + cell.w - cell.g;
    return start === end ? number(start) : `${number(Math.max(start, cell.r[0]))} to ${number(end)}`;
  }

  function distance(outcome, model) {
    const known = outcome.cells.map((cell) => cell.p[model]?.d).filter((one) => typeof one === "number");
    return known.length ? known.reduce((sum, one) => sum + one, 0) / known.length : null;
  }

  function shares(cell, model) {
    const all = cell.h.reduce((sum, one) => sum + one, 0) || 1;
    return [cell.h.map((count) => count / all), cell.p[model]?.q.map((share) => share / 1000) ?? null];
  }

  // The top of the charts: one for all arms of an outcome, so that they can be compared; a round share.
  function topOf(outcome, model) {
    const most = Math.max(...outcome.cells.flatMap((cell) => shares(cell, model).flatMap((one) => one ?? [])));
    return Math.ceil(20 * Math.max(most, 0.01)) / 20;
  }

  function chart(cell, model, most) {
    const prediction = cell.p[model];
    const [people, predicted] = shares(cell, model);
    const named = cell.l ? cell.l.filter((one) => one).length : 0;
    const width = 320, height = named ? 146 : 132, left = 34, bottom = named ? 40 : 26, top = 12;
    const slot = (width - left - 4) / cell.h.length;
    const tall = (share) => (share / most) * (height - top - bottom);
    const label =
      `Arm ${cell.cn}: ${cell.n} answers; mean of people ${number(cell.m, 2)}` +
      (prediction ? `, mean of model ${number(prediction.m, 2)}, distance ${number(prediction.d, 3)}` : "");
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    const ground = height - bottom;
    cell.h.forEach((count, index) => {
      const x = left + index * slot;
      const bar = (of, klass, offset) => {
        const size = tall(of[index]);
        svg.append(
          make("rect", { class: klass, x: x + offset * slot, y: ground - size, width: slot * 0.42, height: size,
            "stroke-width": klass === "model" ? 0.5 : 0 }));
      };
      bar(people, "people", 0.06);
      if (predicted) bar(predicted, "model", 0.5);
      const meaning = cell.l?.[index] ? ` (${cell.l[index]})` : "";
      const said = `${answersOf(cell, index)}${meaning}: people ${percent(people[index])} (${count} of ${cell.n})` +
        (predicted ? `, model ${percent(predicted[index])}` : "");
      svg.append(make("rect", { x, y: 0, width: slot, height: ground, "fill-opacity": 0 }, make("title", {}, said)));
    });
    svg.append(make("line", { class: "axis", x1: left, x2: width, y1: ground, y2: ground }));
    svg.append(make("text", { x: left - 4, y: top + 6, "text-anchor": "end" }, percent(most, 0)));
    svg.append(make("text", { x: left - 4, y: ground, "text-anchor": "end" }, "0%"));
    const starts = cell.h.map((count, index) => number(cell.b + index * cell.w));
    const every = Math.max(1, Math.ceil((Math.max(...starts.map((text) => text.length)) * 7 + 6) / slot));
    const edge = cell.w === cell.g ? 0.5 : 0; // under the bar, or where several answers' bar begins
    starts.forEach((text, index) => {
      if (index % every) return;
      svg.append(
        make("text", { x: left + (index + edge) * slot, y: ground + 20, "text-anchor": "middle" }, text));
    });
    (cell.l ?? []).forEach((text, index) => { // what the answers mean, cut to the room that each label has
      if (!text) return;
      const most = Math.floor((width - left) / Math.max(named, 2) / 5.4);
      const short = text.length > most ? `${text.slice(0, most - 1)}…` : text;
      const last = index === cell.l.length - 1;
      const x = index === 0 ? left : last ? width - 2 : left + (index + 0.5) * slot;
      svg.append(make("text", { x, y: ground + 34, "text-anchor": index === 0 ? "start" : last ? "end" : "middle" }, short));
    });
    const mark = (mean, klass) => {
      if (mean === null || mean === undefined) return;
      const place = (Math.min(Math.max(mean, cell.r[0]), cell.r[1]) - cell.b) / cell.w + edge;
      const x = left + Math.min(place, cell.h.length) * slot;
      svg.append(make("path", { class: klass, "stroke-width": 0.5, d: `M ${x} ${ground + 1} l -4 7 h 8 z` }));
    };
    mark(cell.m, "people");
    if (prediction) mark(prediction.m, "model");
    return svg;
  }

  function card(outcome, model) {
    const first = outcome.cells[0];
    const box = make("article", { class: "outcome" });
    box.append(make("h3", {}, `Study ${outcome.study}, outcome ${outcome.cells[0].tn}`));
    box.append(make("p", {}, `${number(outcome.rows)} answers in ${outcome.cells.length} ` +
      `${outcome.cells.length === 1 ? "arm" : "arms"}; scale: ${first.k}, ${number(first.r[0])} to ` +
      `${number(first.r[1])}; mean distance ${number(distance(outcome, model), 3)}`));
    const words = data.texts[first.i].replace(/\s+/g, " ").trim();
    if (words) box.append(make("p", { class: "excerpt" }, words.length > 220 ? `… ${words.slice(-220)}` : words));
    const top = topOf(outcome, model);
    const arms = make("div", { class: "arms" });
    const draw = (cells) => {
      for (const cell of cells) {
        const prediction = cell.p[model];
        const arm = make("div", { class: "arm" });
        arm.append(make("h4", {}, `Arm ${cell.cn}`), chart(cell, model, top));
        arm.append(make("p", {}, `${number(cell.n)} answers; mean of people ${number(cell.m, 2)}, ` +
          (prediction ? `of model ${number(prediction.m, 2)}; distance ${number(prediction.d, 3)}` : "no prediction")));
        const text = data.texts[cell.i];
        if (text) {
          const more = make("details", {}, make("summary", {}, "What this arm read"));
          more.append(make("div", { class: "stimulus", tabindex: 0 }, text));
          arm.append(more);
        }
        arms.append(arm);
      }
    };
    draw(outcome.cells.slice(0, ARMS));
    box.append(arms);
    if (outcome.cells.length > ARMS) {
      const rest = make("button", { class: "step", type: "button" }, `Show the other ${outcome.cells.length - ARMS} arms`);
      rest.addEventListener("click", () => { draw(outcome.cells.slice(ARMS)); rest.remove(); });
      box.append(rest);
    }
    return box;
  }

  let start = 0;
  let only = null; // the outcome that a link asked for

  function chosen() {
    const model = Number(at("cell-model").value);
    const sought = at("cell-search").value.trim().toLowerCase();
    const kind = at("cell-kind").value;
    const matching = [...outcomes.values()].filter((outcome) =>
      only ? outcome.key === only
        : (!kind || outcome.cells.some((cell) => cell.k === kind)) && (!sought || outcome.text.includes(sought)));
    const worst = (outcome) => distance(outcome, model) ?? -1;
    const best = (outcome) => distance(outcome, model) ?? Infinity;
    const orders = {
      worst: (one, other) => worst(other) - worst(one),
      best: (one, other) => best(one) - best(other),
      effect: (one, other) => other.effect - one.effect,
      rows: (one, other) => other.rows - one.rows,
      study: (one, other) => one.study.localeCompare(other.study) || one.task - other.task,
    };
    return [matching.sort(orders[at("cell-order").value]), model];
  }

  function show() {
    const [matching, model] = chosen();
    start = Math.max(0, Math.min(start, Math.floor((matching.length - 1) / STEP) * STEP));
    const shown = matching.slice(start, start + STEP);
    at("cell-list").replaceChildren(...shown.map((outcome) => card(outcome, model)));
    at("cell-count").textContent = matching.length
      ? `Outcomes ${number(start + 1)} to ${number(start + shown.length)} of ${number(matching.length)}`
      : "No outcome fits the search.";
    at("cell-steps").hidden = matching.length <= STEP;
    at("cell-back").disabled = start === 0;
    at("cell-next").disabled = start + STEP >= matching.length;
  }

  data.models.forEach((name, index) => at("cell-model").append(make("option", { value: index }, name)));
  for (const kind of [...new Set(data.cells.map((cell) => cell.k))].sort()) {
    at("cell-kind").append(make("option", { value: kind }, kind));
  }
  let waiting = 0;
  at("cell-controls").addEventListener("submit", (event) => event.preventDefault());
  at("cell-controls").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { start = 0; only = null; show(); }, 120);
  });
  const step = (by) => { start += by; show(); at("cells").scrollIntoView(); };
  at("cell-back").addEventListener("click", () => step(-STEP));
  at("cell-next").addEventListener("click", () => step(STEP));
  function follow() {
    if (!location.hash.startsWith("#cell=")) return false;
    let asked = location.hash.slice("#cell=".length);
    try {
      asked = decodeURIComponent(asked);
    } catch { /* typed by hand, with a lone % */ }
    only = outcomes.has(asked) ? asked : null;
    at("cell-search").value = only ? "" : asked.split("/")[0];
    start = 0;
    show();
    at("cells").scrollIntoView();
    return true;
  }
  addEventListener("hashchange", follow);
  at("cell-controls").hidden = false;
  if (!follow()) show();
}
