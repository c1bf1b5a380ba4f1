"use strict";
// Draws the learning curves that the controls select; the pointer or the arrow keys read out a single point.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("curve-data");
  const styles = read("curve-styles");
  const chart = document.getElementById("chart");
  const reading = document.getElementById("reading");
  const controls = document.querySelector("#curves .controls");
  const metricSelect = document.getElementById("curve-metric");
  const margin = { left: 56, right: 14, top: 26, bottom: 40 };
  let lines = []; // { strategies, seed, path, stage, points: [{ epoch, within, value, x, y }] }
  let chosen = null; // { line, point } as indices

  const element = (name, attributes, parent, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  const checked = (name) => [...controls.querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value);
  const metric = () => data.metrics.find((entry) => entry.name === metricSelect.value);
  const format = (value) => (metric().percent ? `${value.toFixed(2)} %` : String(Number(value.toPrecision(4))));

  function collect() {
    const byStage = new Map(); // a stage that several strategies share is one line
    for (const number of checked("strategy").map(Number)) {
      for (const seed of checked("seed")) {
        let offset = 0;
        (data.strategies[number].paths[seed] || []).forEach((path, index) => {
          const stage = data.stages[path];
          if (!stage) return;
          if (!byStage.has(path)) {
            const values = stage.values[metric().name];
            const points = stage.epochs
              .map((within, i) => ({ epoch: offset + within, within, value: values[i] }))
              .filter((point) => point.value !== null);
            byStage.set(path, { strategies: [], seed, path, stage, index, points });
          }
          byStage.get(path).strategies.push(number);
          offset += Math.max(...stage.epochs);
        });
      }
    }
    return [...byStage.values()].filter((line) => line.points.length);
  }

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
    return found;
  }

  function draw() {
    lines = collect();
    chosen = null;
    chart.replaceChildren();
    reading.textContent = "";
    if (!lines.length) {
      reading.textContent = "No data for this selection.";
      return;
    }
    const width = Math.max(chart.clientWidth, 280);
    const height = Math.round(Math.min(420, Math.max(260, width * 0.5)));
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "img" }, null);
    svg.setAttribute("aria-label", `${metric().name} by epoch, ${lines.length} lines. Use the arrow keys to read the points.`);
    const points = lines.flatMap((line) => line.points);
    const lastEpoch = Math.max(...points.map((point) => point.epoch));
    let low = Math.min(...points.map((point) => point.value));
    let high = Math.max(...points.map((point) => point.value));
    const pad = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    low -= pad;
    high += pad;
    const toX = (epoch) => margin.left + ((width - margin.left - margin.right) * (epoch - 1)) / Math.max(lastEpoch - 1, 1);
    const toY = (value) => margin.top + ((height - margin.top - margin.bottom) * (high - value)) / (high - low);

    for (const value of ticks(low, high, 5)) {
      element("line", { x1: margin.left, x2: width - margin.right, y1: toY(value), y2: toY(value), stroke: "var(--line)" }, svg);
      const text = String(Number(value.toPrecision(6)));
      element("text", { x: margin.left - 8, y: toY(value) + 4, "text-anchor": "end" }, svg, text);
    }
    for (const epoch of ticks(1, Math.max(lastEpoch, 2), width / 90)) {
      if (!Number.isInteger(epoch)) continue;
      element("text", { x: toX(epoch), y: height - margin.bottom + 18, "text-anchor": "middle" }, svg, epoch);
    }
    const unit = metric().percent ? " (%)" : "";
    element("text", { x: 0, y: 10 }, svg, metric().name + unit);
    const middle = (margin.left + width - margin.right) / 2;
    element("text", { x: middle, y: height - 4, "text-anchor": "middle" }, svg, "epoch");

    for (const line of lines) {
      for (const point of line.points) Object.assign(point, { x: toX(point.epoch), y: toY(point.value) });
      const style = line.strategies.length > 1 ? { color: "var(--soft)", dashes: [] } : styles[line.strategies[0]];
      const d = line.points.map((point, i) => `${i ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join("");
      const dashes = style.dashes.map((length) => 1.8 * length).join(" ");
      const look = { d, fill: "none", stroke: style.color, "stroke-width": 1.8, "stroke-dasharray": dashes };
      element("path", { ...look, "stroke-linejoin": "round" }, svg);
      const kept = line.points.find((point) => point.within === line.stage.best);
      const fill = line.stage.cut_off ? "var(--page)" : style.color;
      if (kept) element("circle", { cx: kept.x, cy: kept.y, r: 3.5, fill, stroke: style.color, "stroke-width": 1.5 }, svg);
    }
    element("circle", { id: "here", r: 6, fill: "none", stroke: "var(--ink)", "stroke-width": 2, visibility: "hidden" }, svg);
    svg.addEventListener("pointermove", (event) => nearest(event, svg));
    svg.addEventListener("pointerdown", (event) => nearest(event, svg));
    svg.addEventListener("pointerleave", () => select(null));
    svg.addEventListener("keydown", (event) => byKey(event));
    const tip = document.createElement("div");
    tip.id = "tip";
    tip.hidden = true;
    chart.append(svg, tip);
  }

  function nearest(event, svg) {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let found = null;
    let least = 60 ** 2;
    lines.forEach((line, i) => {
      line.points.forEach((point, j) => {
        const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
        if (distance < least) [least, found] = [distance, { line: i, point: j }];
      });
    });
    select(found);
  }

  function byKey(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key === "Escape") return select(null);
    if (!(event.key in moves)) return undefined;
    event.preventDefault();
    const [down, right] = moves[event.key];
    if (!chosen) return select({ line: 0, point: 0 });
    const line = (chosen.line + down + lines.length) % lines.length;
    const point = Math.min(Math.max(chosen.point + right, 0), lines[line].points.length - 1);
    return select({ line, point });
  }

  function select(place) {
    chosen = place;
    const here = document.getElementById("here");
    const tip = document.getElementById("tip");
    if (!here || !tip) return;
    here.setAttribute("visibility", place ? "visible" : "hidden");
    tip.hidden = !place;
    if (!place) {
      reading.textContent = "";
      return;
    }
    const line = lines[place.line];
    const point = line.points[place.point];
    here.setAttribute("cx", point.x);
    here.setAttribute("cy", point.y);
    const names = line.strategies.map((number) => data.strategies[number].name).join(", ");
    const kept = point.within === line.stage.best ? ", kept" : "";
    const cut = line.stage.cut_off ? "; not converged" : "";
    const rows = [
      `${metric().name} ${format(point.value)}`,
      names,
      `seed ${line.seed}, stage ${line.index + 1} (${line.stage.amount} out-of-domain)`,
      `epoch ${point.within} of ${line.stage.epochs.at(-1)}${kept}${cut}`,
    ];
    tip.replaceChildren(...rows.map((text, i) => {
      const row = document.createElement(i ? "div" : "strong");
      row.textContent = text;
      return row;
    }));
    const scale = chart.clientWidth / chart.querySelector("svg").viewBox.baseVal.width;
    const left = point.x * scale + 14;
    const room = left + tip.offsetWidth < chart.clientWidth;
    tip.style.left = `${room ? left : Math.max(0, point.x * scale - tip.offsetWidth - 14)}px`;
    tip.style.top = `${Math.max(0, point.y * scale - tip.offsetHeight / 2)}px`;
    reading.textContent = rows.join("; ");
  }

  controls.hidden = false;
  controls.addEventListener("change", draw);
  controls.addEventListener("submit", (event) => event.preventDefault());
  let drawnWidth = 0;
  new ResizeObserver(() => {
    if (chart.clientWidth === drawnWidth) return;
    drawnWidth = chart.clientWidth;
    draw();
  }).observe(chart);
})();
