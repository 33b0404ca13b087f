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

// Above the plot, where the legend hides no point; a click on an entry hides its curve.
function placeLegend(figure) {
  const legend = figure.center.find((held) => "click_policy" in held);
  if (!legend) return;
  figure.remove_layout(legend);
  legend.click_policy = "hide";
  legend.orientation = "horizontal";
  legend.label_text_font_size = "12px";
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
