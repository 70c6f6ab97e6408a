"use strict";
/* The packed rollouts: an index that is read at once, blocks that are unpacked when one of their rows is looked at. */

const Samples = (() => {
  const packed = new Map();   // name of a block -> base64 of gzipped JSON
  const opened = new Map();   // name of a block -> promise of its rows, the ones used last at the end
  const MOST_OPENED = 24;
  let index = null;
  let starts = [];            // number of the first row of each block
  let stageStarts = [];       // number of the first row of each stage

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  async function load(indexText, blocks) {
    const next = await unpack(indexText);
    for (const [name, text] of blocks) packed.set(name, text);
    const names = new Set(next.blocks.map(([name]) => name));
    for (const name of [...packed.keys()]) {
      if (!names.has(name)) { packed.delete(name); opened.delete(name); }
    }
    starts = [];
    let total = 0;
    for (const [, rows] of next.blocks) { starts.push(total); total += rows; }
    stageStarts = [];
    next.columns.stage.forEach((stage, row) => { if (stageStarts[stage] === undefined) stageStarts[stage] = row; });
    index = next;
    index.count = total;
  }

  function rowsOf(name) {
    let rows = opened.get(name);
    opened.delete(name);
    rows = rows || unpack(packed.get(name));
    opened.set(name, rows);
    if (opened.size > MOST_OPENED) opened.delete(opened.keys().next().value);
    return rows;
  }

  async function row(number) {
    let low = 0, high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= number) low = middle; else high = middle - 1;
    }
    const place = number - starts[low];     // taken now: a refresh may come while the block is unpacked
    const rows = await rowsOf(index.blocks[low][0]);
    return rows[place];
  }

  /* A row keeps its key while its stage grows: stage and place within the stage. */
  function key(number) {
    const stage = index.columns.stage[number];
    return index.names.stage[stage] + "\n" + (number - stageStarts[stage]);
  }

  function numberOf(text) {
    if (text === null) return -1;
    const [stage, place] = text.split("\n");
    const found = index.names.stage.indexOf(stage);
    if (found < 0) return -1;
    const number = stageStarts[found] + Number(place);
    return index.columns.stage[number] === found ? number : -1;
  }

  function name(column, number) { return index.names[column][index.columns[column][number]]; }

  return { load, row, key, numberOf, name, index: () => index, held: () => [...packed.keys()] };
})();
