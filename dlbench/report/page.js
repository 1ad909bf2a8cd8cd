
"use strict";
// Without this script the page shows everything; with it, trials can be sorted and filtered and commands copied.

// Sorting: each heading becomes a button. Rows without a value stay last, equal rows keep their order.
const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

const number = /^[-+]?[\d,]*\.?\d+(e[-+]?\d+)?(?=,? |$)/;

// The number of a cell, of an estimate with bounds the estimate; null for a missing one, NaN for words.
function numberOf(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  if (cell.textContent === "-") return null;
  const found = cell.textContent.match(number);
  return found ? Number(found[0].replaceAll(",", "")) : NaN;
}

function sortBy(table, heading, index) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const cells = [...table.tBodies[0].rows].map((row) => row.cells[index]);
  const byNumber = !cells.some((cell) => Number.isNaN(numberOf(cell)));
  const text = (cell) => (cell.textContent === "-" ? null : cell.textContent);
  const rows = cells.map((cell) => [cell.parentElement, byNumber ? numberOf(cell) : text(cell)]);
  rows.sort(([, a], [, b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = byNumber ? a - b : words.compare(a, b);
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows.map(([row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  [...table.tHead.rows[0].cells].forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sortBy(table, heading, index));
    heading.replaceChildren(button);
  });
}

// Filtering: a row stays if it holds every word.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  const texts = new Map(rows.map((row) => [row, [...row.cells].map((c) => c.textContent).join(" ").toLowerCase()]));
  const filter = () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((word) => texts.get(row).includes(word));
      shown += row.hidden ? 0 : 1;
    }
    input.parentElement.querySelector("output").textContent = `${shown} of ${rows.length} trials`;
  };
  input.addEventListener("input", filter);
  input.parentElement.hidden = false;
  filter();
}

// Copying: by the clipboard, else by the old way, else by selecting the text for the reader to copy.
async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy") ? "Copied" : "Selected";
  }
}

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  const name = "Copy";
  button.type = "button";
  button.textContent = name;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = await copy(command.querySelector("code"));
    setTimeout(() => { button.textContent = name; }, 2000);
  });
  command.append(button);
}

// On a narrow screen, what can wait is folded away.
if (matchMedia("(max-width: 48rem)").matches) {
  for (const details of document.querySelectorAll("details[data-wide]")) details.open = false;
}

// A link to something that is folded away unfolds it.
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// Printing shows what is folded away.
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
});
