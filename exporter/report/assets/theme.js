// Light or dark: the system's choice until the reader makes one.
const root = document.documentElement;
const onTheme = [];

function colour(name) {
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}

function setTheme(dark) {
  root.classList.toggle("dark", dark);
  const button = document.getElementById("theme");
  button.textContent = dark ? "Light" : "Dark";
  button.setAttribute("aria-pressed", String(dark));
  for (const react of onTheme) react();
}

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = false;
  setTheme(system.matches);
  system.addEventListener("change", (event) => chosen || setTheme(event.matches));
  document.getElementById("theme").addEventListener("click", () => {
    chosen = true;
    setTheme(!root.classList.contains("dark"));
  });
}

// Long names of modules and files break behind their dots, not inside of a word or a figure.
function breakNames(holder) {
  const places = /(?<=[\w)][._/])(?=[^\W\d]|\()|(?<=[^\W\d][._/])(?=\w)/;
  const walker = document.createTreeWalker(holder, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    if (!walker.currentNode.parentElement.closest("script, style, select, svg")) {
      texts.push(walker.currentNode);
    }
  }
  for (const text of texts) {
    const parts = text.textContent.split(places);
    if (parts.length < 2) continue;
    text.replaceWith(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
  }
}

// On a narrow screen a row of a table is a paragraph, and every cell says what it is.
function nameCells() {
  for (const table of document.querySelectorAll("table.plain")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((held, i) => {
        if (i) held.dataset.head = heads[i];
      });
    }
  }
}

// Paper is white whatever the screen is, and a plot is no wider than paper. Nothing is painted
// again between here and the print.
const PAPER = 690;
function startPrint() {
  const plots = () => document.querySelectorAll("#plot, #waveform-plot, #damage, #curve");
  addEventListener("beforeprint", () => {
    root.classList.toggle("painted-dark", root.classList.contains("dark"));
    root.classList.remove("dark");
    for (const plot of plots()) plot.style.zoom = Math.min(1, PAPER / plot.clientWidth);
  });
  addEventListener("afterprint", () => {
    root.classList.toggle("dark", root.classList.contains("painted-dark"));
    root.classList.remove("painted-dark");
    for (const plot of plots()) plot.style.zoom = "";
  });
}

// What every page begins with.
function startPage() {
  startTheme();
  breakNames(document.body);
  nameCells();
  startPrint();
}

// Axes, grid and background of a plot in the colours of the page.
function dress(figure) {
  const [ink, dim, line] = [colour("ink"), colour("dim"), colour("line")];
  figure.background_fill_color = colour("panel");
  figure.border_fill_color = colour("panel");
  figure.outline_line_color = line;
  for (const axis of [...figure.below, ...figure.left, ...figure.right]) {
    axis.axis_label_text_color = ink;
    axis.major_label_text_color = dim;
    axis.axis_line_color = line;
    axis.major_tick_line_color = line;
    axis.minor_tick_line_color = null;
  }
  for (const grid of figure.center) if ("grid_line_color" in grid) grid.grid_line_color = line;
  for (const legend of figure.above) {
    legend.background_fill_color = null;
    legend.border_line_color = null;
    legend.label_text_color = ink;
  }
}

const ENTRY = 180;  // pixels that an entry of a legend takes
// Above the plot, where the legend hides no point; a click on an entry hides its curve.
function placeLegend(figure, holder) {
  const legend = figure.center.find((held) => "click_policy" in held);
  if (!legend) return;
  figure.remove_layout(legend);
  legend.click_policy = "hide";
  legend.orientation = "horizontal";
  legend.ncols = Math.max(1, Math.floor(holder.clientWidth / ENTRY));
  legend.label_text_font_size = "11px";
  legend.padding = 2;
  legend.margin = 2;
  figure.add_layout(legend, "above");
}

// Text of a figure as the rest of the report writes it; "-" was not measured.
function shown(value) {
  if (value === null) return "-";
  if (typeof value === "string") return value;
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 0.01 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

// A number for sorting and drawing: what is not finite is larger than everything.
function numeric(value) {
  if (value === "-Inf") return -Infinity;
  return typeof value === "string" ? Infinity : value;
}
