"use strict";
/* The reader of rollouts: filters over columns, a list that draws only what is in sight, one rollout in full, and two
   checkpoints side by side. Texts of a run only ever become text nodes. */

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1));

/* The think block of a completion apart from its answer; a block that was never closed has no answer. */
function taken(text) {
  const begin = text.match(/^\s*<think>\n?/);
  const clean = (part) => part.replace(/(<\|im_end\|>|<\|endoftext\|>)\s*$/, "").replace(/^\n+|\s+$/g, "");
  if (!begin) return { thinking: "", answer: clean(text), closed: true };
  const end = text.indexOf("</think>", begin[0].length);
  if (end < 0) return { thinking: clean(text.slice(begin[0].length)), answer: "", closed: false };
  return { thinking: clean(text.slice(begin[0].length, end)), answer: clean(text.slice(end + 8)), closed: true };
}

function turnParts(text) {
  const { thinking, answer, closed } = taken(text);
  const parts = [];
  if (thinking) {
    const told = `thinking, ${thinking.length.toLocaleString("en")} characters` + (closed ? "" : ", never closed");
    parts.push(element("details", { class: "thinking" }, element("summary", {}, told), element("pre", {}, thinking)));
  }
  parts.push(answer ? element("pre", { class: "answer" }, answer) : element("p", { class: "none" }, "No answer."));
  return parts;
}

function tokenPart(part, number, count) {
  const box = element("div", { class: "tokens" });
  const carried = [...part.loss_mask].filter((mark) => mark === "1").length;
  const many = count > 1 ? `Part ${number + 1} of ${count}: ` : "";
  box.append(element("p", { class: "quiet" }, `${many}${carried} of ${part.lengths.length} tokens shown carry loss.`));
  const line = element("pre", {});
  let begin = 0;
  part.lengths.forEach((length, at) => {
    const piece = part.text.slice(begin, begin + length);
    begin += length;
    if (part.left_out && at === part.left_out[0]) {
      line.append(element("em", {}, ` [… ${part.left_out[1].toLocaleString("en")} tokens left out …] `));
    }
    const shown = piece.replace(/\n/g, "⏎\n");
    line.append(element(part.loss_mask[at] === "1" ? "mark" : "span", { title: `token ${at}` }, shown));
  });
  box.append(line);
  return box;
}

function tokenDetails(row) {
  const details = element("details", { class: "rendered" }, element("summary", {}, "Tokens and loss mask"));
  const parts = row.rendered || [];
  if (!parts.length) details.append(element("p", { class: "none" }, "Not recorded with this rollout."));
  details.addEventListener("toggle", () => {       // thousands of spans are made when they are asked for
    if (!details.open || details.dataset.made) return;
    details.dataset.made = "yes";
    if (parts.length) {
      details.append(element("p", { class: "quiet" }, element("mark", {}, "marked"), " carries loss; ",
        element("span", {}, "plain"), " (prompt, or forced by the budget or an environment) does not."));
    }
    parts.forEach((part, number) => details.append(tokenPart(part, number, parts.length)));
  });
  return details;
}

function outcomeMark(outcome) {
  const signs = { correct: "✓", incorrect: "✗", graded: "◐", error: "!" };
  return element("span", { class: `outcome ${signs[outcome] ? outcome : "unknown"}` }, `${signs[outcome] || "?"} ${outcome}`);
}

function facts(row) {
  const list = element("dl", { class: "facts" });
  const step = String(row.stage || "").startsWith("evaluation of ") ? undefined : row.step;
  const told = { stage: row.stage, step, benchmark: row.benchmark, task: row.task, mode: row.mode, reward: row.reward,
    tokens: row.tokens, finish: row.finish_reason, ended: row.ended, reason: row.reason, uid: row.uid };
  for (const [name, value] of Object.entries(told)) {
    if (value === undefined || value === null || value === "") continue;
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, asText(value))));
  }
  return list;
}

function rolloutParts(row, { prompt = true } = {}) {
  const parts = [element("p", {}, outcomeMark(String(row.outcome))), facts(row)];
  if (prompt) {
    parts.push(element("h3", {}, "Prompt"));
    const messages = Array.isArray(row.prompt) ? row.prompt : [{ role: "prompt", content: row.prompt }];
    for (const message of messages) {
      const content = message.content === undefined || message.content === null ? "" : asText(message.content);
      const calls = message.tool_calls ? "\n" + asText(message.tool_calls) : "";
      parts.push(element("div", { class: "message" }, element("span", { class: "role" }, String(message.role)),
        element("pre", {}, content + calls)));
    }
  }
  const turns = row.turns && row.turns.length ? row.turns : [row.completion === undefined ? "" : asText(row.completion)];
  turns.forEach((turn, number) => {
    parts.push(element("h3", {}, turns.length > 1 ? `Turn ${number + 1} of ${turns.length}` : "Completion"));
    parts.push(...turnParts(turn));
  });
  if (row.reference !== undefined && row.reference !== null) {
    parts.push(element("details", {}, element("summary", {}, "Reference"), element("pre", {}, asText(row.reference))));
  }
  parts.push(tokenDetails(row));
  return parts;
}

/* A select whose first entry is `all`; keeps its value when that is still among the names. */
function fillSelect(select, names, all) {
  const value = select.value;
  select.replaceChildren();
  if (all !== undefined) select.append(element("option", { value: "" }, all));
  for (const [entry, label] of names) select.append(element("option", { value: entry }, label));
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

const Reader = (() => {
  const $ = (id) => document.getElementById(id);
  const HEIGHT = 44, MARGIN = 8;
  const columns = ["stage", "task", "mode", "outcome"];
  let shown = [];          // numbers of the rows that pass the filters
  let chosen = -1;         // place in `shown`
  let chosenKey = null;
  let drawn = 0;           // counts requests, so that a slow block never overwrites a later choice

  function passes() {
    const index = Samples.index();
    const wanted = columns.map((column) => {
      const value = $(`filter-${column}`).value;
      return value === "" ? null : index.names[column].indexOf(value);
    });
    const data = columns.map((column) => index.columns[column]);
    const steps = index.columns.step;
    const bound = (id, otherwise) => ($(id).value === "" ? otherwise : Number($(id).value));
    const from = bound("step-from", -Infinity), to = bound("step-to", Infinity);
    const found = [];
    for (let row = 0; row < index.count; row++) {
      let pass = steps[row] >= from && steps[row] <= to;
      for (let c = 0; pass && c < 4; c++) pass = wanted[c] === null || data[c][row] === wanted[c];
      if (pass) found.push(row);
    }
    return found;
  }

  function filter({ keep = false } = {}) {
    const list = $("list");
    const anchor = keep && shown.length ? Math.min(shown.length - 1, Math.floor(list.scrollTop / HEIGHT)) : -1;
    const anchorKey = anchor < 0 ? null : Reader.anchorKey || null;
    const offset = anchor < 0 ? 0 : list.scrollTop - anchor * HEIGHT;
    shown = passes();
    $("spacer").style.height = `${shown.length * HEIGHT}px`;
    const total = Samples.index().count;
    $("count").textContent = shown.length === total
      ? `${total.toLocaleString("en")} rollouts.`
      : `${shown.length.toLocaleString("en")} of ${total.toLocaleString("en")} rollouts.`;
    if (keep) {
      const at = shown.indexOf(Samples.numberOf(anchorKey));
      if (at >= 0) list.scrollTop = at * HEIGHT + offset;
      chosen = shown.indexOf(Samples.numberOf(chosenKey));
      draw();
      return;
    }
    list.scrollTop = 0;
    chosen = -1;
    if (shown.length) choose(0); else { chosenKey = null; $("rollout").replaceChildren(element("p", { class: "none" }, "No rollout passes these filters.")); draw(); }
  }

  function draw() {
    const list = $("list");
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - MARGIN);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + MARGIN);
    const index = Samples.index();
    const items = [];
    for (let place = first; place < last; place++) {
      const row = shown[place];
      const reward = index.columns.reward[row];
      const stage = Samples.name("stage", row);
      const step = stage.startsWith("evaluation of ") ? "" : `, step ${index.columns.step[row]}`;
      const item = element("div", { class: "item", role: "option", id: `row-${place}`, "aria-selected": String(place === chosen),
        "aria-posinset": String(place + 1), "aria-setsize": String(shown.length) },
        outcomeMark(Samples.name("outcome", row)),
        element("span", { class: "what" }, `${Samples.name("task", row)}, ${Samples.name("mode", row).replace("_", "-")}`),
        element("span", { class: "where" }, `${stage}${step}`),
        element("span", { class: "reward" }, reward === null ? "–" : (reward / 1000).toFixed(2)));
      item.style.top = `${place * HEIGHT}px`;
      item.dataset.place = place;
      items.push(item);
    }
    $("spacer").replaceChildren(...items);
    if (chosen >= 0) list.setAttribute("aria-activedescendant", `row-${chosen}`); else list.removeAttribute("aria-activedescendant");
    const top = Math.min(shown.length - 1, Math.floor(list.scrollTop / HEIGHT));
    Reader.anchorKey = top >= 0 ? Samples.key(shown[top]) : null;
  }

  async function choose(place) {
    if (!shown.length) return;
    chosen = Math.max(0, Math.min(shown.length - 1, place));
    chosenKey = Samples.key(shown[chosen]);
    const list = $("list");
    const top = chosen * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    const request = ++drawn;
    const row = await Samples.row(shown[chosen]);
    if (request !== drawn) return;
    const open = new Set([...$("rollout").querySelectorAll("details[open]")].map((one) => one.className));
    $("rollout").replaceChildren(...rolloutParts(row));
    if (open.has("thinking")) $("rollout").querySelectorAll("details.thinking").forEach((one) => { one.open = true; });
    if (open.has("rendered")) $("rollout").querySelector("details.rendered").open = true;
    $("rollout").scrollTop = 0;
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inList = document.activeElement === $("list");
    const page = Math.max(1, Math.floor($("list").clientHeight / HEIGHT) - 1);
    const everywhere = { j: 1, k: -1 };
    const moves = inList ? { ...everywhere, ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page } : everywhere;
    if (event.key in moves) choose(chosen + moves[event.key]);
    else if (inList && event.key === "Home") choose(0);
    else if (inList && event.key === "End") choose(shown.length - 1);
    else if (inList && event.key === "Enter") $("rollout").focus();
    else return;
    event.preventDefault();
  }

  function setFilters(values) {
    $("filter-form").reset();
    for (const [column, value] of Object.entries(values)) {
      const select = $(`filter-${column}`);
      if ([...select.options].some((option) => option.value === value)) select.value = value;
    }
    filter();
    $("rollouts").scrollIntoView();
    $("list").focus({ preventScroll: true });
  }

  function refill() {
    const index = Samples.index();
    $("no-rollouts").hidden = index.count > 0;
    $("reader").hidden = index.count === 0;
    const all = { stage: "all stages", task: "all tasks", mode: "all modes", outcome: "all outcomes" };
    for (const column of columns) {
      const names = column === "task" ? [...index.names[column]].sort() : index.names[column];
      fillSelect($(`filter-${column}`), names.map((name) => [name, column === "mode" ? name.replace("_", "-") : name]), all[column]);
    }
  }

  function start() {
    refill();
    $("filter-form").addEventListener("input", () => filter());
    $("filter-form").addEventListener("submit", (event) => event.preventDefault());
    $("filter-form").addEventListener("reset", () => setTimeout(filter));
    $("list").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
    $("list").addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (item) choose(Number(item.dataset.place));
    });
    window.addEventListener("resize", () => requestAnimationFrame(draw));
    $("reader").addEventListener("keydown", (event) => {
      if (!event.target.closest("select, input")) onKey(event);
    });
    if (Samples.index().count) filter();
  }

  function refresh() {
    refill();
    if (!Samples.index().count) return;
    if (chosenKey === null) filter(); else filter({ keep: true });
  }

  return { start, refresh, setFilters, anchorKey: null };
})();

const Compare = (() => {
  const $ = (id) => document.getElementById(id);
  const place = (pair) => `${pair.benchmark}, ${pair.mode.replace("_", "-")}`;
  let drawn = 0;

  const chosen = () => Samples.index().pairs.filter((pair) => place(pair) === $("pair-benchmark").value);

  function fillPrompts() {
    fillSelect($("pair-prompt"), chosen().map((pair, number) => [String(number), pair.prompt || `prompt ${number + 1}`]));
    fillStages();
  }

  function fillStages() {
    const pair = chosen()[Number($("pair-prompt").value)];
    if (!pair) return;
    const names = pair.rows.map((row) => Samples.name("stage", row));
    const had = ["pair-left", "pair-right"].map((id) => $(id).value);
    for (const id of ["pair-left", "pair-right"]) fillSelect($(id), names.map((name) => [name, name.replace("evaluation of ", "")]));
    if (!names.includes(had[0])) $("pair-left").value = names[0];
    if (!names.includes(had[1])) $("pair-right").value = names[names.length - 1];
    show();
  }

  async function show() {
    const pair = chosen()[Number($("pair-prompt").value)];
    if (!pair) return;
    const request = ++drawn;
    const sides = ["left", "right"];
    const stages = sides.map((side) => $(`pair-${side}`).value);
    const numbers = stages.map((stage) => pair.rows.find((row) => Samples.name("stage", row) === stage));
    const rows = await Promise.all(numbers.map(Samples.row));
    if (request !== drawn) return;
    sides.forEach((side, at) => {
      $(side).replaceChildren(element("h3", {}, stages[at].replace("evaluation of ", "")), ...rolloutParts(rows[at]));
    });
  }

  function move(by) {
    const count = chosen().length;
    $("pair-prompt").value = String((Number($("pair-prompt").value) + by + count) % count);
    fillStages();
  }

  function refresh({ quiet = false } = {}) {
    const { pairs } = Samples.index();
    $("no-pairs").hidden = pairs.length > 0;
    $("comparison").hidden = pairs.length === 0;
    if (!pairs.length) return;
    const before = $("pair-benchmark").value;
    fillSelect($("pair-benchmark"), [...new Set(pairs.map(place))].map((name) => [name, name]));
    if (!quiet || $("pair-benchmark").value !== before) fillPrompts();
  }

  function start() {
    refresh();
    $("pair-benchmark").addEventListener("input", fillPrompts);
    $("pair-prompt").addEventListener("input", fillStages);
    $("pair-left").addEventListener("input", show);
    $("pair-right").addEventListener("input", show);
    $("pair-form").addEventListener("submit", (event) => event.preventDefault());
    $("pair-previous").addEventListener("click", () => move(-1));
    $("pair-next").addEventListener("click", () => move(1));
  }

  return { start, refresh };
})();
