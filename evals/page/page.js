"use strict";
/* What the page does besides the reader: the theme switch, reading charts out, and refreshing a page that is served. */

const Theme = (() => {
  const order = ["auto", "light", "dark"];
  const button = document.getElementById("theme");

  function set(theme) {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  }

  function stored() {
    try { return localStorage.getItem("fourstage-theme"); } catch (refused) { return null; }  // some browsers refuse it to files
  }

  function start() {
    const before = stored();
    if (order.includes(before)) set(before);
    button.addEventListener("click", () => {
      const next = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length];
      set(next);
      try { localStorage.setItem("fourstage-theme", next); } catch (refused) { /* the choice then lasts for this visit */ }
    });
  }
  return { start };
})();

/* Points of a chart, by pointer or with the arrow keys. */
const Charts = (() => {
  function readOut(chart, number) {
    const { x, lines } = JSON.parse(chart.dataset.points);
    const line = lines[0];
    if (!line || !line.xs.length) return;
    const at = Math.max(0, Math.min(line.xs.length - 1, number));
    chart.dataset.at = at;
    const told = lines.map((one) => `${one.name} ${one.ys[at] === null ? "not finite" : one.ys[at]}`).join(", ");
    const out = chart.parentElement.querySelector(".readout");
    if (out) out.textContent = `${x} ${line.xs[at].toLocaleString("en")}: ${told}`;
    let cursor = chart.querySelector(".cursor");
    if (!cursor) {
      cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
      cursor.setAttribute("class", "cursor");
      chart.append(cursor);
    }
    cursor.setAttribute("d", `M${line.at[at]} 10V160`);
  }

  function nearest(chart, event) {
    const box = chart.getBoundingClientRect();
    const spot = ((event.clientX - box.left) / box.width) * 360;
    const { lines } = JSON.parse(chart.dataset.points);
    const places = lines[0] ? lines[0].at : [];
    let best = 0;
    places.forEach((place, number) => { if (Math.abs(place - spot) < Math.abs(places[best] - spot)) best = number; });
    return best;
  }

  function start() {
    document.addEventListener("pointermove", (event) => {
      const chart = event.target.closest && event.target.closest("svg.chart");
      if (chart) readOut(chart, nearest(chart, event));
    });
    document.addEventListener("keydown", (event) => {
      const chart = document.activeElement.closest && document.activeElement.closest("svg.chart");
      const moves = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 };
      if (!chart || !(event.key in moves)) return;
      const before = chart.dataset.at === undefined ? (event.key === "ArrowLeft" ? 1e9 : -1) : Number(chart.dataset.at);
      readOut(chart, before + moves[event.key]);
      event.preventDefault();
    });
  }
  return { start };
})();

/* Asks the server for what is new and puts it in place; what is being read, scrolled or focused stays where it is. */
const Live = (() => {
  const root = document.documentElement;
  const said = document.getElementById("live");

  function replace(box, html) {
    if (box.dataset.html === html) return;
    if (box.contains(document.activeElement)) { box.dataset.late = "yes"; return; }
    const scrolled = [...box.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const open = [...box.querySelectorAll("details")].map((one) => one.open);
    box.innerHTML = html;    // made and escaped by the templates of this page
    box.dataset.html = html;
    delete box.dataset.late;
    box.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = scrolled[number] || 0; });
    box.querySelectorAll("details").forEach((one, number) => { one.open = open[number] || false; });
  }

  async function refresh() {
    const late = document.querySelector("[data-late]") ? "" : root.dataset.version;
    const query = new URLSearchParams({ version: late });
    const answer = await fetch(`live.json?${query}`, { method: "POST", body: JSON.stringify(Samples.held()), cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const news = await answer.json();
    if (news.version === late) return;
    for (const [id, html] of Object.entries(news.sections)) replace(document.querySelector(`[data-section="${id}"]`), html);
    await Samples.load(news.index, Object.entries(news.blocks));
    document.getElementById("left-out").textContent =
      news.left_out ? `${news.left_out.toLocaleString("en")} more lie in samples.jsonl.` : "";
    Reader.refresh();
    Compare.refresh({ quiet: true });
    root.dataset.version = news.version;
    document.getElementById("written").textContent = news.written;
  }

  async function loop(seconds) {
    try {
      await refresh();
      said.textContent = "";
    } catch (error) {
      said.textContent = "(the server does not answer; this is the last state it sent)";
    }
    setTimeout(loop, 1000 * seconds, seconds);
  }

  function start() {
    if (root.dataset.refreshS === undefined) return;
    const seconds = Number(root.dataset.refreshS);
    setTimeout(loop, 1000 * seconds, seconds);
  }
  return { start };
})();

(async () => {
  Theme.start();
  Charts.start();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-filter]");
    if (button) Reader.setFilters(JSON.parse(button.dataset.filter));
  });
  const blocks = [...document.querySelectorAll("script[data-block]")].map((one) => [one.dataset.block, one.textContent]);
  await Samples.load(document.getElementById("index").textContent, blocks);
  Reader.start();
  Compare.start();
  Live.start();
  document.documentElement.dataset.ready = "yes";
})();
